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


def pointwise_function(applied, node=None):
    """Returns the function that an activation applies to each element.

    Args:
        applied: An activation function, or a layer or operation.
        node: The Keras node of its call, for operations of two arguments.

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
        if kind == "Relu" or (kind == "Maximum" and node is not None and _is_relu(node)):
            return keras.activations.relu
        if kind == "Clip":
            # What keeps numbers away from 0 is no activation.
            bounds = clip_bounds(applied)
            if bounds is None or not bounds[0] <= 0 < bounds[1]:
                return None
            # One of plain numbers is saved.
            return private.producer(keras.ops.clip(keras.KerasTensor((1,)), *bounds))
    if applied is keras.ops.relu:
        return keras.activations.relu
    if rule not in (activates, layer_rules.prelu):
        return None
    # The layer, or what `keras.activations.relu` leaves in the graph.
    if type(applied).__name__ == "ReLU" and hasattr(applied, "max_value"):
        plain = not applied.negative_slope and not applied.threshold and applied.max_value is None
        return keras.activations.relu if plain else applied
    return savable(applied)


def clip_bounds(operation):
    """The two numbers between which an operation `Clip` clips, as floats; `None` if they are others
    for some elements, or if one is left out."""
    bounds = scalar(operation.x_min), scalar(operation.x_max)
    are_numbers = all(isinstance(bound, (int, float)) for bound in bounds)
    return tuple(map(float, bounds)) if are_numbers else None


def is_bound_beside_another(node):
    """Whether a call of a maximum or minimum is one activation with an opposite one beside it."""
    other = {"Maximum": "Minimum", "Minimum": "Maximum"}[type(node.operation).__name__]
    return any(
        private.is_keras_operation(each)
        and type(each).__name__ == other
        and isinstance(each.input, keras.KerasTensor)
        for each in private.operations_around(node)
    )


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


def _is_relu(node):
    bounds = [scalar(each) for each in node.arguments.args]
    is_with_zero = any(isinstance(bound, (int, float)) and bound == 0 for bound in bounds)
    return is_with_zero and not is_bound_beside_another(node)
