import math
import operator
from typing import Any

import keras
import numpy as np

from keras_nladv._common.table import format_table
from keras_nladv._keras import private
from keras_nladv.graph.path_graph import PathGraph

COLUMNS = {
    "name": "activation",
    "function": "function",
    "units": "units",
    "nonlinear": "nonlinear",
    "positions": "positions",
    "operations": "operations",
    "dead": "dead",
    "always_on": "always on",
}


class NonlinearityReport:
    """What `nonlinearity_report` returns: the activations of a model and their nonlinear units.

    Attributes:
        rows: List of dicts, one an activation in the order of the graph, as `pandas.DataFrame`
            takes them. Keys: `name`, `function`, `units`, `nonlinear` (number of nonlinear units),
            `positions` (at which a unit is applied to one input), `operations` (nonlinear
            operations per input, `nonlinear * positions`; `None` if sizes are unknown) and, with
            data, `dead` and `always_on` (shares of the units, `None` where they cannot be watched).
    """

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    @property
    def units(self) -> int:
        """Number of units of the model."""
        return sum(row["units"] for row in self.rows)

    @property
    def nonlinear(self) -> int:
        """Number of nonlinear units of the model."""
        return sum(row["nonlinear"] for row in self.rows)

    @property
    def nonlinear_units(self) -> float:
        """Share of the units that are nonlinear, in [0, 1]; 0 for a model without units."""
        return self.nonlinear / self.units if self.units else 0.0

    @property
    def operations(self) -> int | None:
        """Nonlinear operations per input, `None` if sizes are unknown."""
        operations = [row["operations"] for row in self.rows]
        return None if None in operations else sum(operations)

    def to_dict(self) -> dict[str, Any]:
        """Returns totals and rows as plain Python values, ready for JSON."""
        return {
            "units": self.units,
            "nonlinear": self.nonlinear,
            "nonlinear_units": self.nonlinear_units,
            "operations": self.operations,
            "activations": [dict(row) for row in self.rows],
        }

    def __str__(self) -> str:
        total = {
            "name": "total",
            "units": self.units,
            "nonlinear": self.nonlinear,
            "operations": self.operations,
        }
        keys = [key for key in COLUMNS if any(key in row for row in self.rows)] or ["name", "units"]
        rows = [{key: _cell(key, row[key]) for key in row} for row in self.rows]
        columns = {key: COLUMNS[key] for key in keys}
        return format_table(columns, rows, ("name", "function"), total)

    __repr__ = __str__


def nonlinearity_report(
    model: keras.Model, data: Any = None, batch_size: int = 128
) -> NonlinearityReport:
    """Reports the nonlinear units of each activation of a model.

    Args:
        model: A built Functional or Sequential model.
        data: Optional inputs of the model (an array, or a structure of arrays), to find dead units,
            whose inputs are never positive, and always-on units, whose inputs always are. On this
            data a ReLU's dead units are constant and its always-on units linear.
        batch_size: Number of samples of `data` that are run at once.

    Returns:
        A `NonlinearityReport`. Print it for a table.

    Raises:
        ValueError: If the model's graph cannot be read (see `path_length`), or if `data` is empty.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)),
    ...     keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
    ...     keras.layers.GlobalAveragePooling2D(),
    ...     keras.layers.Dense(10, activation="softmax"),
    ... ])
    >>> print(nonlinearity_report(model))
    activation  function  units  nonlinear  positions  operations
    -------------------------------------------------------------
    conv        relu          4          4         36         144
    -------------------------------------------------------------
    total                     4          4                    144
    """
    activations = PathGraph.of(model).activations()
    rows = [
        {
            "name": activation.name,
            "function": activation.function,
            "units": activation.units,
            "nonlinear": (nonlinear := int(activation.nonlinear.sum())),
            "positions": activation.positions,
            "operations": None
            if activation.positions is None
            else nonlinear * activation.positions,
        }
        for activation in activations
    ]
    if data is not None:
        for row, shares in zip(rows, _watch(model, activations, data, batch_size)):
            row["dead"], row["always_on"] = shares
    return NonlinearityReport(rows)


def _watch(model, activations, data, batch_size):
    """Runs data through a model and returns the shares of dead and always-on units."""
    leaves = keras.tree.flatten(data)
    if not all(np.ndim(leaf) for leaf in leaves) or not all(len(leaf) for leaf in leaves):
        raise ValueError(
            "`data` must be an array, or a structure of arrays, with at least one sample. "
            f"Received: data={data!r}"
        )
    extremes: dict[int, tuple[Any, Any]] = {}

    def note(activation, inputs):
        if math.prod(inputs.shape[axis] for axis in activation.unit_axes) != activation.units:
            return  # The call is one on a tensor of another size.
        values = activation.by_unit(keras.ops.convert_to_numpy(inputs).astype("float32"))
        low, high = extremes.get(id(activation), (np.inf, -np.inf))
        extremes[id(activation)] = (
            np.minimum(low, values.min(axis=0)),
            np.maximum(high, values.max(axis=0)),
        )

    batches = [slice(i, i + batch_size) for i in range(0, len(leaves[0]), batch_size)]
    watchable = [activation for activation in activations if activation.is_watchable]
    with private.watched(watchable, note):
        for batch in batches:
            model(keras.tree.map_structure(operator.itemgetter(batch), data), training=False)
    for activation in activations:
        if id(activation) in extremes:
            low, high = extremes[id(activation)]
            yield float((high <= 0).mean()), float((low > 0).mean())
        else:
            # An operation inside a composite layer's `call`, which exists only while that runs, or
            # a cell of a recurrent layer.
            yield None, None


def _cell(key, value):
    share = key in ("dead", "always_on") and value is not None
    return f"{value:.1%}" if share else value
