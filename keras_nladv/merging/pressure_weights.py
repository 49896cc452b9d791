from typing import Any

import keras

from keras_nladv.merging.part import Part
from keras_nladv.pressable import pressable
from keras_nladv.table import format_table

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

    def __str__(self) -> str:
        kind = "ms saved by a unit" if self.by == "time" else "multiplications saved by a unit"
        rows = [
            {**row, "weight": f"{row['weight']:.3f}", "saves": f"{row['saves']:.3g}"}
            for row in self.rows
        ]
        return format_table({**COLUMNS, "saves": kind}, rows, ("name", "reason"))
