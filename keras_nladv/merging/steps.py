"""What a flat model is made of, as merging sees it: steps from tensors to tensors.

Tensors go by keys. Steps that came from a layer or operation of the flat model know its node, and
are written by copying it; those that merging made are written as new Keras layers.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from keras_nladv.merging.linear_map import LinearMap

# Makes keys for tensors that are not in the flat model.
new_key = itertools.count(-1, -1).__next__


@dataclass(eq=False)
class Step:
    """A call, from tensors to tensors.

    Attributes:
        name: Name of the layer or operation.
        inputs: List of the keys of its inputs.
        outputs: List of the keys of its outputs.
        node: The Keras node of the flat model, or `None` for what merging made.
        reason: Why nothing is merged across it.
    """

    name: str
    inputs: list[int]
    outputs: list[int]
    node: Any = None
    reason: str = ""

    def shape(self, shape):
        """The output's shape for that of the first input."""
        return shape

    def macs(self, shape):
        """Multiplications for one sample, for the output's shape."""
        return 0

    @property
    def signature(self):
        """What its time depends on, as against its values."""
        return (type(self).__name__,)


@dataclass(eq=False)
class MapStep(Step):
    """A `Dense` layer, a convolution, a batch normalization or a padding.

    Attributes:
        map: The `LinearMap`.
        axis: The axis of the channels, 1 or -1.
        kind: How to write it: `"dense"`, `"conv"`, or `"any"` for normalization and padding.
        policy: The dtype policy.
        border: How to write what a constant channel comes to: `"computed"` when the model runs, or
            `"constant"`, where the size is known.
        trainable: Whether any weight is trained of what it was made of.
    """

    map: LinearMap = field(kw_only=True)
    axis: int = field(kw_only=True)
    kind: str = field(kw_only=True)
    policy: Any = field(kw_only=True)
    border: str = field(kw_only=True, default="computed")
    trainable: bool = field(kw_only=True, default=True)

    def shape(self, shape):
        channels = (self.map.outputs,)
        if self.axis == 1:
            return (shape[0], *channels, *self.map.sizes(shape[2:]))
        return (shape[0], *self.map.sizes(shape[1:-1]), *channels)

    def macs(self, shape):
        return math.prod(self.map.shape) * math.prod(shape[1:]) // self.map.outputs

    @property
    def signature(self):
        m = self.map
        geometry = (m.shape, m.takes_one, m.is_biased, m.strides, m.pads, m.dilation)
        return (self.kind, self.axis, str(self.policy), self.border, *geometry)


@dataclass(eq=False)
class ActivationStep(Step):
    """A pointwise activation phi with slopes: alpha * x + (1 - alpha) * phi(x).

    Attributes:
        function: The base activation.
        slopes: Array of shape (channels,), or one that broadcasts with the inputs without `axis`.
        axis: The axis of the channels, `None` if the slopes are not by channel.
        policy: The dtype policy.
        masked: Whether a mask has to be passed along.
        form: How to write it where some units are linear, one of `forms.FORMS` or of `factored`;
            empty for the default.
        trainable: Whether its slopes are trained.
        divided: What its input has been divided by, see `forms.divisor`.
        factored: The forms by factors in which it can be written, see `rescaling`.
    """

    function: Callable[..., Any] = field(kw_only=True)
    slopes: np.ndarray = field(kw_only=True)
    axis: int | None = field(kw_only=True)
    policy: Any = field(kw_only=True)
    masked: bool = field(kw_only=True, default=False)
    form: str = field(kw_only=True, default="")
    trainable: bool = field(kw_only=True, default=True)
    divided: float = field(kw_only=True, default=1.0)
    factored: tuple[str, ...] = field(kw_only=True, default=())

    @property
    def linear(self):
        """Bool array of the slopes' shape: which units are exactly linear."""
        return self.slopes == 1.0

    @property
    def weights(self):
        """The weights of the base activation, if that is a layer."""
        return getattr(self.function, "weights", [])

    @property
    def signature(self):
        function = getattr(self.function, "__name__", type(self.function).__name__)
        return (function, self.axis, self.slopes.shape, bool(self.slopes.any()), self.form)

    def broadcast(self, values, inputs):
        """An array of values, one for each slope, shaped to broadcast with the inputs."""
        return values if self.axis is None else along(self.axis, values, inputs)

    def restricted(self, channels):
        """The activation of some of the channels."""
        return replace(self, slopes=self.slopes[channels], node=None)


@dataclass(eq=False)
class AddStep(Step):
    """A sum of tensors of one shape."""

    policy: Any = field(kw_only=True)


@dataclass(eq=False)
class ShiftStep(Step):
    """A number added to each channel.

    Attributes:
        shift: Array of shape (channels,).
        axis: The axis of the channels.
    """

    shift: np.ndarray = field(kw_only=True)
    axis: int = field(kw_only=True)


@dataclass(eq=False)
class ClipStep(Step):
    """Two bounds for all numbers.

    Attributes:
        low: The lower one.
        high: The upper one.
    """

    low: float = field(kw_only=True)
    high: float = field(kw_only=True)


def along(axis, values, inputs):
    """An array of values, one for each channel, shaped to broadcast with the inputs."""
    rank = len(inputs.shape)
    return values.reshape([len(values)] + [1] * (rank - 1 - axis % rank))


def same_dtype(*steps):
    """Whether steps with policies compute, and put out, numbers of one type."""
    return len({step.policy.compute_dtype for step in steps}) == 1
