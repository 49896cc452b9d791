from typing import Any

import numpy as np

from keras_nladv._common.table import format_table
from keras_nladv.engines.timing import median_interval

COLUMNS = {
    "name": "model",
    "ms": "ms",
    "ms_interval": "95 %",
    "times_as_fast": "times as fast",
    "ratio_interval": "95 %",
}


class Timings:
    """How long models take, measured by turns.

    Attributes:
        rows: List of dicts, one for each model, as `pandas.DataFrame` takes them. Keys: `name`;
            `ms`, the median of the milliseconds for a batch; `times_as_fast`, the median of the
            ratio of the first model's time to this one's within a round; and for both, with `_low`
            and `_high` behind it, the interval in which the median lies with a confidence of 95 %.
        rounds: Array of milliseconds of shape (rounds, models).
        setting: Dict of what was measured with: `engine`, `backend`, `version`, `threads`,
            `batch_size`, `processor`.
    """

    def __init__(self, names: list[str], rounds: np.ndarray, setting: dict[str, Any]) -> None:
        self.rounds = rounds
        self.setting = setting
        self.rows: list[dict[str, Any]] = []
        for name, mine in zip(names, rounds.T, strict=True):
            row: dict[str, Any] = {"name": name}
            for key, values in {"ms": mine, "times_as_fast": rounds[:, 0] / mine}.items():
                low, high = median_interval(values)
                row |= {
                    key: float(np.median(values)),
                    f"{key}_low": float(low),
                    f"{key}_high": float(high),
                }
            self.rows.append(row)

    def __str__(self) -> str:
        setting = self.setting
        title = ", ".join(
            [
                f"{setting['engine']} {setting['version']} from {setting['backend']}",
                f"batches of {setting['batch_size']}",
                *([] if setting["threads"] is None else [f"threads: {setting['threads']}"]),
                setting["processor"],
                f"{len(self.rounds)} rounds",
            ]
        )
        rows = [
            {
                "name": row["name"],
                "ms": f"{row['ms']:.3f}",
                "ms_interval": f"{row['ms_low']:.3f}-{row['ms_high']:.3f}",
                "times_as_fast": f"{row['times_as_fast']:.2f}",
                "ratio_interval": (
                    f"{row['times_as_fast_low']:.2f}-{row['times_as_fast_high']:.2f}"
                ),
            }
            for row in self.rows
        ]
        return f"{title}\n{format_table(COLUMNS, rows, ('name',))}"

    __repr__ = __str__
