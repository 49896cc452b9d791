import functools
from dataclasses import dataclass

import keras
import numpy as np

from keras_nladv.layers.sparse_prelu import SparsePReLU

# What is linear among slopes that no SparsePReLU keeps; its default threshold.
LINEAR_THRESHOLD = 0.01


@dataclass
class Activation:
    """The units of one activation of a model, with their slopes as they are when first asked for.

    Attributes:
        name: Name of the layer, with those of the models and layers it is nested in.
        layer: The layer or operation that applies the activation.
        function: What is applied, such as `"relu"`.
        units: Number of units.
        positions: Number of positions, over all calls, at which a unit is applied to one input.
            `None` if sizes are unknown.
        unit_axes: Tuple of the axes of the input that tell units apart.
        constant_slopes: Array of shape (units,), slopes that the layer does not have as weights.
    """

    name: str
    layer: keras.Operation
    function: str
    units: int
    positions: int | None
    unit_axes: tuple[int, ...]
    constant_slopes: np.ndarray | None = None

    @functools.cached_property
    def slopes(self):
        """Array of shape (units,), the slopes, or `None` if the activation has none.

        They are read from the device when this is asked for the first time.
        """
        if isinstance(self.layer, SparsePReLU):
            return self.layer.slopes.ravel()
        if isinstance(self.layer, keras.layers.PReLU):
            return keras.ops.convert_to_numpy(self.layer.alpha).ravel()
        if isinstance(self.layer, keras.layers.LeakyReLU):
            return np.full(self.units, float(self.layer.negative_slope))
        return self.constant_slopes

    @functools.cached_property
    def nonlinear(self):
        """Bool array of shape (units,): True where the unit is nonlinear."""
        if self.slopes is None:
            return np.ones(self.units, bool)
        threshold = getattr(self.layer, "linear_threshold", LINEAR_THRESHOLD)
        distance = np.abs(1.0 - self.slopes)
        return ~((distance == 0) | (distance < threshold))

    @property
    def is_watchable(self):
        """Whether its inputs can be watched: the cell of a recurrent layer runs inside a loop."""
        return not hasattr(self.layer, "state_size")

    def by_unit(self, values):
        """Reshapes a batch of the activation's inputs to (samples and positions, units)."""
        last = range(-len(self.unit_axes), 0)
        return np.moveaxis(values, self.unit_axes, last).reshape(-1, self.units)
