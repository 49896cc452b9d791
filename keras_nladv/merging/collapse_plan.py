import json
from pathlib import Path
from typing import Any

import keras

from keras_nladv._common.table import format_table

VERSION = 2
COLUMNS = {
    "round": "round",
    "name": "layers",
    "macs_before": "MACs",
    "macs_after": "after",
    "ms_before": "ms",
    "ms_after": "after",
    "outcome": "",
    "reason": "why",
}
# What the columns of a plan in a file may hold.
TYPES: dict[str, tuple[type, ...]] = {
    "round": (int,),
    "name": (str,),
    "macs_before": (int, type(None)),
    "macs_after": (int, type(None)),
    "ms_before": (int, float, type(None)),
    "ms_after": (int, float, type(None)),
    "outcome": (str,),
    "reason": (str,),
}


class CollapsePlan:
    """What `collapse` will merge in a model, and what it will not and why.

    Attributes:
        rows: List of dicts, one for each group of layers that was looked at, as `pandas.DataFrame`
            takes them. Keys: `round` (merging goes on with what came out of the round before),
            `name` (the layers), `macs_before` and `macs_after` (multiplications for one sample),
            `ms_before` and `ms_after` (milliseconds for a batch, `None` if not timed), `outcome`
            (`"taken"` or `"refused"`) and `reason`.
        fingerprint: What the plan was made for.
        cost: `"time"` or `"macs"`.
        setting: Dict of what time was measured with: `engine`, `backend`, `version`, `threads`,
            `batch_size`, `processor`; and `for_int8`. Empty where multiplications decided.
        speed: How many times as fast the whole network is, collapsed, as it would be with all of
            its units nonlinear; `None` if that was not timed or if no unit is linear. Below 1, its
            linear units cost more time than they save.
    """

    def __init__(
        self,
        rows: list[dict[str, Any]],
        fingerprint: str,
        cost: str,
        setting: dict[str, Any] | None = None,
        speed: float | None = None,
    ) -> None:
        self.rows = rows
        self.fingerprint = fingerprint
        self.cost = cost
        self.setting = {} if setting is None else setting
        self.speed = speed

    @property
    def taken(self) -> list[list[str]]:
        """For each round, the names of the groups that are merged."""
        rounds = max((row["round"] for row in self.rows), default=0)
        return [
            [
                row["name"]
                for row in self.rows
                if row["round"] == number and row["outcome"] == "taken"
            ]
            for number in range(1, rounds + 1)
        ]

    def save(self, path: str | Path) -> None:
        """Writes the plan to a JSON file."""
        content = {
            "version": VERSION,
            "keras_version": keras.version(),
            "cost": self.cost,
            "setting": self.setting,
            "fingerprint": self.fingerprint,
            "speed": self.speed,
            "rows": self.rows,
        }
        Path(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "CollapsePlan":
        """Reads a plan from a JSON file.

        Raises:
            ValueError: If the file holds no plan, or one of another version of this library.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            version = content["version"]
            if version == VERSION:
                wanted = {key: content[key] for key in ("rows", "fingerprint", "cost", "setting")}
                # Plans were written without it.
                plan = cls(**wanted, speed=content.get("speed"))
                plan._check()
                return plan
        # Numbers of thousands of digits are a `ValueError`, too.
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(
                f"`path` must be a JSON file that `CollapsePlan.save` wrote. Received: {path}, "
                f"which is not: {type(error).__name__}: {error}"
            ) from error
        raise ValueError(
            f"`path` must hold a plan of version {VERSION}. Received: {path} of version "
            f"{version!r:.40}. Make it anew with `collapse_plan`."
        )

    def _check(self):
        """Raises a `TypeError` or `KeyError` that names what is not as in a plan."""
        if type(self.rows) is not list:
            raise TypeError(f"rows must be a list, not {self.rows!r:.40}")
        checked: list[tuple[str, Any, tuple[type, ...]]] = [
            ("fingerprint", self.fingerprint, (str,)),
            ("cost", self.cost, (str,)),
            ("setting", self.setting, (dict,)),
            ("speed", self.speed, (int, float, type(None))),
        ]
        for number, row in enumerate(self.rows):
            checked += [(f"rows[{number}].{key}", row[key], TYPES[key]) for key in TYPES]
        for key, value, types in checked:
            valid = type(value) in types
            if key.endswith(".round"):
                # Every round has a row.
                valid = valid and 1 <= value <= len(self.rows)
            if not valid:
                raise TypeError(f"{key} must not be {value!r:.40}")

    def __str__(self) -> str:
        rows = [
            {key: f"{value:.3f}" if key.startswith("ms") and value else value for key, value in x}
            for x in (row.items() for row in self.rows)
        ]
        timed = any(row["ms_before"] is not None for row in self.rows)
        columns = {k: v for k, v in COLUMNS.items() if timed or not k.startswith("ms")}
        lines = [format_table(columns, rows, ("name", "outcome", "reason"))]
        if not rows:
            lines = ["nothing to merge"]
        if self.speed is not None:
            lines.append(f"{self.speed:.2f} times as fast as with all units nonlinear")
        return "\n".join(lines)

    __repr__ = __str__
