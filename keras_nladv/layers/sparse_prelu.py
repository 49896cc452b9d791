from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_nladv._common.arguments import number, scalar
from keras_nladv.constraints.function_constraint import FunctionConstraint
from keras_nladv.layers.base_activation import unfit

GRANULARITIES = ("channel", "layer", "element")

# Values of the weight `side`: where a slope stood relative to 1 after the last step. 0 before the
# first step, 1 below, -1 above, and FROZEN. That one is large because optimizers change weights
# without gradient too, by decay and by averaging: one step later an average with a momentum of up
# to 0.999 is already beyond what it can be of other values. It is exact in float16 and bfloat16.
# Units that are HELD stay nonlinear, until the side of their slopes is assigned to their `side`.
FROZEN = 2.0**14
HELD = -FROZEN
NEAR_FROZEN = 1.5
# How far from 1, beyond the threshold, a held slope is put that would be linear; twice the distance
# of numbers below 1 in bfloat16.
MARGIN = 2.0**-7


@keras.saving.register_keras_serializable(package="keras_nladv")
class SparsePReLU(keras.layers.Layer):
    r"""An activation whose units can be made linear, one by one.

    It computes

    $$f(x) = \alpha x + (1 - \alpha)\,\phi(x)$$

    with a trainable slope $\alpha$ per unit and a base activation $\phi$. For the default,
    $\phi = \mathrm{relu}$, this is $x$ for $x \ge 0$ and $\alpha x$ for $x < 0$. Slopes start at 0,
    where $f = \phi$: putting the layer where a ReLU was changes nothing. At $\alpha = 1$ the unit
    is linear.

    **Freezing.** A unit becomes linear when an optimizer step brings its slope nearer to 1 than
    `linear_threshold`, or carries it across 1. From that step on its slope is exactly 1 and never
    leaves 1, whatever momentum is left in the optimizer; saving and loading keep it so. The paper
    knows the threshold only. The second case is added because large steps jump over the window and
    swing about 1: for tens of steps at the default threshold, many slopes to the end of training
    where the threshold is small or the pressure large (see `benchmarks/freezing.py`).

    What freezes units are the constraints of the layer's weights, which Keras applies. In a loop
    with an optimizer of `torch.optim` or optax, call `keras_nladv.freeze_linear_units(model)` after
    each step. `Ftrl` computes weights anew from sums of gradients; with it, only the threshold
    applies. An optimizer that averages weights (`use_ema=True`) leaves averages in `alpha`; the
    layer computes with 1 where a unit is frozen all the same, see `slopes`. To free a unit by hand,
    assign 0 to its `side` as well as the new slope to its `alpha`.

    Args:
        axis: Integer, the axis of the channels. The batch axis, 0, is not allowed. Only used with
            `granularity="channel"`.
        granularity: What has a slope of its own: `"channel"` (shared over every other axis, which
            may have unknown sizes), `"layer"` (one slope) or `"element"` (one for each feature;
            needs known sizes).
        linear_threshold: Float in [0, 1). A unit with $|1 - \alpha|$ below it is linear.
        alpha_initializer: Initializer of the slopes.
        alpha_regularizer: Regularizer of the slopes, usually `keras_nladv.NonlinearitySparsity`.
        alpha_constraint: Constraint of the slopes, applied before units are frozen.
        activation: The base activation $\phi$: a pointwise function, its name, or a layer that is
            one, which may have weights.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Input shape:
        Any, with the batch axis first.

    Output shape:
        That of the input.

    Raises:
        ValueError: If an argument is out of range, if the input lacks `axis`, or if a size that is
            needed for the slopes is unknown.

    Example:

    >>> layer = SparsePReLU(alpha_initializer=keras.initializers.Constant(0.5))
    >>> keras.ops.convert_to_numpy(layer(np.array([[-2.0, 3.0]]))).tolist()
    [[-1.0, 3.0]]
    >>> layer.nonlinear.tolist()
    [True, True]

    Source: *Nonlinear Advantage*, arXiv 2211.17180.
    """

    def __init__(
        self,
        axis: int = -1,
        granularity: str = "channel",
        linear_threshold: float = 0.01,
        alpha_initializer: keras.Initializer | str = "zeros",
        alpha_regularizer: keras.Regularizer | str | None = None,
        alpha_constraint: Callable[..., Any] | str | None = None,
        activation: Callable[..., Any] | str = "relu",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        axis = scalar(axis)
        if isinstance(axis, bool) or not isinstance(axis, int) or axis == 0:
            raise ValueError(
                f"`axis` must be an integer other than 0, the batch axis. Received: axis={axis!r}"
            )
        if not isinstance(granularity, str) or granularity not in GRANULARITIES:
            raise ValueError(
                f"`granularity` must be one of {GRANULARITIES}. Received: "
                f"granularity={granularity!r}"
            )
        wanted = "a number from 0 up to, but not including, 1"
        linear_threshold = number(
            "linear_threshold", linear_threshold, wanted, lambda given: 0 <= given < 1
        )
        self.axis = axis
        self.granularity = granularity
        self.linear_threshold = linear_threshold
        self.alpha_initializer = keras.initializers.get(alpha_initializer)
        self.alpha_regularizer = keras.regularizers.get(alpha_regularizer)
        self.alpha_constraint = keras.constraints.get(alpha_constraint)
        self.activation = keras.activations.get(activation)
        reason = unfit(self.activation)
        if reason is not None:
            raise ValueError(
                "`activation` must be a nonlinear function that is applied pointwise, or a layer "
                "that does that. Received: "
                f"activation={activation!r}, which {reason}"
            )
        # Asked here because `keras.RematScope` wraps `self.activation` while the layer is called.
        self._is_relu = self.activation is keras.activations.relu
        self.supports_masking = True

    def build(self, input_shape):
        rank = len(input_shape)
        if self.granularity == "channel":
            if not -rank < self.axis < rank:
                raise ValueError(
                    f"`axis` must be an axis of the input other than the batch axis. Received: "
                    f"axis={self.axis} for an input of shape {tuple(input_shape)}"
                )
            shape = (input_shape[self.axis],)
            # Sizes that broadcast the slopes along the channel axis.
            self._broadcast_shape = shape + (1,) * (rank - 1 - self.axis % rank)
            # An axis that is counted from the end fits inputs of several ranks.
            ranks = {"ndim": rank} if self.axis > 0 else {"min_ndim": 1 - self.axis}
            input_spec = keras.InputSpec(axes={self.axis: shape[0]}, **ranks)
        else:
            shape = tuple(input_shape[1:]) if self.granularity == "element" else ()
            self._broadcast_shape = shape
            input_spec = keras.InputSpec(shape=(None, *shape)) if shape else None
        if None in shape:
            raise ValueError(
                f'`granularity="{self.granularity}"` needs known sizes for its slopes. Received: '
                f"an input of shape {tuple(input_shape)} with axis={self.axis}. Give the sizes to "
                '`keras.Input`, or use `granularity="layer"`.'
            )
        self.input_spec = input_spec
        if isinstance(self.activation, keras.Layer) and not self.activation.built:
            self.activation.build(input_shape)
        self.alpha = self.add_weight(
            name="alpha",
            shape=shape,
            initializer=self.alpha_initializer,
            regularizer=self.alpha_regularizer,
            constraint=FunctionConstraint(self._pin),
        )
        # Which side of 1 each slope is on has to be known inside the optimizer's step, where
        # momentum would move a frozen slope. On JAX only the variables that the optimizer updates
        # are visible there, so this is one of them, with a gradient of 0 and a constraint.
        self.side = self.add_weight(
            name="side",
            shape=shape,
            initializer="zeros",
            constraint=FunctionConstraint(self._follow),
        )

    def _pin(self, alpha):
        """The constraint of `alpha`: slopes that are, or just became, linear are 1."""
        if self.alpha_constraint is not None:
            alpha = self.alpha_constraint(alpha)
        alpha, side = ops.convert_to_tensor(alpha), ops.convert_to_tensor(self.side)
        distance = 1.0 - alpha
        linear = (
            (side > NEAR_FROZEN) | (abs(distance) < self.linear_threshold) | (distance * side < 0)
        )
        return ops.where(
            side < -NEAR_FROZEN,
            kept_nonlinear(alpha, self.linear_threshold),
            ops.where(linear, ops.ones_like(distance), alpha),
        )

    def _follow(self, side):
        """The constraint of `side`. It runs after that of `alpha`, the weight built before it."""
        distance = 1.0 - ops.convert_to_tensor(self.alpha)
        moved = ops.where(distance == 0, FROZEN, ops.sign(distance))
        return ops.where(ops.convert_to_tensor(side) < -NEAR_FROZEN, HELD, moved)

    def call(self, inputs):
        # A frozen slope is 1 and has no gradient. The product gives `side` a gradient of 0, without
        # which optimizers would leave it out; so it does where a derivative is differentiated.
        alpha, side = ops.convert_to_tensor(self.alpha), ops.convert_to_tensor(self.side)
        alpha = ops.where(side > NEAR_FROZEN, 1.0 + 0.0 * side, alpha)
        # Nor has a slope that is linear from the start, or it would leave 1 in the first step.
        alpha = ops.where(abs(1.0 - alpha) < self.linear_threshold, ops.stop_gradient(alpha), alpha)
        alpha = ops.reshape(alpha, self._broadcast_shape)
        inputs = ops.convert_to_tensor(inputs)
        outputs = self.activation(inputs)
        if self._is_relu:
            # The same function; exact for x >= 0, and with a gradient of 1 at x = 0 and alpha = 1.
            return outputs + alpha * (inputs - outputs)
        return alpha * inputs + (1.0 - alpha) * outputs

    @property
    def slopes(self):
        """NumPy array of the shape of `alpha`: the slopes that the layer computes with.

        They are the values of `alpha`, except after training with an optimizer that averages
        weights (`use_ema=True`): it leaves averages in `alpha`, and frozen slopes stay 1.
        """
        if not self.built:
            raise ValueError(
                f"The units of layer '{self.name}' are not known before it is built. Call it, or "
                "the model it is part of, on data first."
            )
        frozen = ops.convert_to_numpy(self.side) > NEAR_FROZEN
        slopes = ops.convert_to_numpy(self.alpha)
        # Not 1.0: NumPy 1 knows no common type of a float and bfloat16.
        return np.where(frozen, np.ones_like(slopes), slopes)

    @property
    def nonlinear(self):
        """NumPy bool array of the shape of `alpha`: True where the unit is still nonlinear."""
        distance = np.abs(1.0 - self.slopes)
        return ~((distance == 0) | (distance < self.linear_threshold))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "axis": self.axis,
            "granularity": self.granularity,
            "linear_threshold": self.linear_threshold,
            "alpha_initializer": keras.initializers.serialize(self.alpha_initializer),
            "alpha_regularizer": keras.regularizers.serialize(self.alpha_regularizer),
            "alpha_constraint": keras.constraints.serialize(self.alpha_constraint),
            "activation": keras.activations.serialize(self.activation),
        }


def kept_nonlinear(slopes, threshold):
    """Slopes, of which those that are linear are put outside of the threshold, on their side."""
    distance = 1.0 - slopes
    linear = (abs(distance) < threshold) | (distance == 0)
    outside = ops.where(distance < 0, -1.0, 1.0) * (threshold + MARGIN)
    return ops.where(linear, ops.cast(1.0 - outside, slopes.dtype), slopes)
