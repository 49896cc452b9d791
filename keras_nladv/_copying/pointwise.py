"""What is a pointwise activation, by the path rules: they and what is copied must not disagree."""

import keras

from keras_nladv._common.arguments import scalar
from keras_nladv._keras import private
from keras_nladv.graph import layer_rules
from keras_nladv.graph.operation_rules import OPERATION_RULES
from keras_nladv.graph.rules import activates, find_rule

FUSING = (
    layer_rules.dense,
    layer_rules.einsum_dense,
    layer_rules.conv,
    layer_rules.transposed_conv,
    layer_rules.depthwise_conv,
    layer_rules.separable_conv,
)


def fuses_activation(operation):
    """Whether a layer applies its `activation` to what it puts out, as `Dense` does."""
    return find_rule(operation) in FUSING


def pointwise_function(applied, args=()):
    """Returns the function that an activation applies to each element.

    Args:
        applied: An activation function, or a layer or operation.
        args: The positional arguments of its call, for operations of two arguments.

    Returns:
        A function of one tensor: `keras.activations.relu` for whatever is a plain ReLU, else what
        was given or is inside it. `None` if it is no pointwise activation.
    """
    if isinstance(applied, keras.layers.Activation):
        return pointwise_function(applied.activation)
    rule = find_rule(applied)
    if rule is None and private.is_keras_operation(applied):
        rule = OPERATION_RULES.get(type(applied).__name__)
        kind = type(applied).__name__
        is_relu = kind == "Relu" or (kind == "Maximum" and any(map(_is_zero, args)))
        if is_relu:
            return keras.activations.relu
    if applied is keras.ops.relu:
        return keras.activations.relu
    if rule not in (activates, layer_rules.prelu):
        return None
    # The layer, or what `keras.activations.relu` leaves in the graph.
    if type(applied).__name__ == "ReLU" and hasattr(applied, "max_value"):
        plain = not applied.negative_slope and not applied.threshold and applied.max_value is None
        return keras.activations.relu if plain else applied
    return savable(applied)


def savable(function):
    """Returns a function, or the operation that does the same and is saved as what it is.

    Keras saves functions by their names: in place of `keras.ops.gelu`, which approximates, it loads
    `keras.activations.gelu`, which does not.
    """
    if function is keras.ops.gelu:
        return private.producer(function(keras.KerasTensor((1,))))
    return function


def function_name(applied):
    """The name of an activation for people, such as `"gelu"`."""
    if isinstance(applied, keras.layers.Activation):
        return function_name(applied.activation)
    return getattr(applied, "__name__", type(applied).__name__).lower()


def granularity_of(prelu):
    """The granularity and the axis of a stock PReLU's slopes; no granularity if none is like it."""
    shape = tuple(prelu.alpha.shape)
    axes = [axis for axis, size in enumerate(shape, 1) if size > 1]
    if not axes:
        return "layer", -1
    if len(axes) == 1:
        return "channel", -1 if axes[0] == len(shape) else axes[0]
    return None if prelu.shared_axes else "element", -1


def _is_zero(value):
    value = scalar(value)
    return isinstance(value, (int, float)) and value == 0
