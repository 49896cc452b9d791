import json
from pathlib import Path
from typing import Any

import keras

from keras_nladv._common.table import format_table
from keras_nladv.merging.part import Part
from keras_nladv.slopes.pressable import pressable

VERSION = 1
COLUMNS = {"name": "layer", "units": "units", "weight": "weight", "saves": "", "reason": "why 0"}


class PressureWeights(dict[str, float]):
    """What `pressure_weights` returns: a dict from names of layers to weights with mean 1.

    Attributes:
        rows: List of dicts, one a layer, as `pandas.DataFrame` takes them. Keys: `name`, `units`,
            `saves` (by one linear unit, milliseconds for a batch or multiplications for a sample),
            `weight`, and `reason`, why nothing is saved, or empty.
        by: `"time"` or `"operations"`.
        setting: Dict of what time was measured with, as in a `CollapsePlan`. Empty without.
    """

    def __init__(
        self,
        rows: list[dict[str, Any]],
        parts: list[Part],
        by: str,
        setting: dict[str, Any],
    ) -> None:
        super().__init__({row["name"]: row["weight"] for row in rows})
        self.rows = rows
        self.by = by
        self.setting = setting
        self._parts = parts

    def saved(self, model: keras.Model) -> float:
        """What is saved by the units of a model that are linear now, in all its layers together.

        That is between what was found for half, three quarters, nine tenths and all of the units
        of a layer, and quick: nothing is run.

        Args:
            model: The model that the weights were made for, or one with layers of the same names.

        Returns:
            Milliseconds for a batch, or multiplications for a sample.
        """
        layers = pressable(model)
        missing = [name for name in self if name not in layers]
        if missing:
            raise ValueError(
                "`model` must have the layers that the weights were made for. Received: model "
                f"'{model.name}' without {', '.join(map(repr, missing))}"
            )
        return sum(part.saved_now(layers) for part in self._parts)

    def save(self, path: str | Path) -> None:
        """Writes the weights to a JSON file, with what they were made of."""
        content = {
            "version": VERSION,
            "by": self.by,
            "setting": self.setting,
            "rows": self.rows,
            "parts": [[part.layers, [*part.saved.items()]] for part in self._parts],
        }
        Path(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "PressureWeights":
        """Reads weights from a JSON file.

        Raises:
            ValueError: If the file holds none, or those of another version of this library.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content["version"] != VERSION:
                raise ValueError(f"version {content['version']!r:.40} for {VERSION}")
            parts = [
                Part(tuple((str(name), int(number)) for name, number in layers), dict(saved))
                for layers, saved in content["parts"]
            ]
            return cls(content["rows"], parts, content["by"], content["setting"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(
                f"`path` must be a JSON file that `PressureWeights.save` wrote. Received: {path}, "
                f"which is not: {type(error).__name__}: {error}"
            ) from error

    def __str__(self) -> str:
        kind = "ms saved by a unit" if self.by == "time" else "multiplications saved by a unit"
        rows = [
            {**row, "weight": f"{row['weight']:.3f}", "saves": f"{row['saves']:.3g}"}
            for row in self.rows
        ]
        return format_table({**COLUMNS, "saves": kind}, rows, ("name", "reason"))
