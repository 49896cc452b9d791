"""The forms in which an activation can be written of which some units are linear.

All are plain Keras. Constants are NumPy arrays, which every exporter writes as constants; those of
TensorFlow take tensors of a backend for inputs.
"""

import functools

import keras
import numpy as np

from keras_nladv._copying.pointwise import clip_bounds
from keras_nladv._keras import private

# The bounds between which a function is the identity and at which it stays. Operations by the names
# of their classes.
BOUNDS = {
    keras.activations.relu: (0.0, None),
    keras.ops.relu: (0.0, None),
    keras.activations.relu6: (0.0, 6.0),
    keras.ops.relu6: (0.0, 6.0),
    keras.activations.hard_tanh: (-1.0, 1.0),
    keras.ops.hard_tanh: (-1.0, 1.0),
    "Relu": (0.0, None),
    "Relu6": (0.0, 6.0),
    "HardTanh": (-1.0, 1.0),
}
# Forms with arrays, which not all backends take as they are if they are not float32.
WITH_ARRAYS = ("maximum", "clip", "gate", "shifted", "hard_shifted")
# What a number is multiplied with in functions that do that, at most 1: a gate, which is open where
# it is 1. Keys are as above.
GATES = {
    keras.activations.silu: keras.ops.sigmoid,
    keras.ops.silu: keras.ops.sigmoid,
    "Silu": keras.ops.sigmoid,
    keras.activations.hard_silu: keras.ops.hard_sigmoid,
    keras.ops.hard_silu: keras.ops.hard_sigmoid,
    "HardSilu": keras.ops.hard_sigmoid,
}
# How a gate is written that is kept open by what is added to its input, instead of a shift: the
# function, the shift, what is added, and how large the result is where the gate is open.
SHIFTED = {
    keras.ops.sigmoid: (keras.ops.sigmoid, 0.0, 40.0, 1.0),
    keras.ops.hard_sigmoid: (keras.ops.relu6, 3.0, 6.0, 6.0),
}


def bounds_of(function):
    """The bounds that a function clips its input to, `None` for none; or `None` if it is another.

    Args:
        function: An activation function, layer or operation.
    """
    is_operation = isinstance(function, keras.Operation)
    if is_operation and type(function).__name__ == "ReLU" and hasattr(function, "max_value"):
        plain = not function.negative_slope and not function.threshold
        return (0.0, function.max_value) if plain else None
    if _key(function) == "Clip":
        return clip_bounds(function)
    return BOUNDS.get(_key(function))


def gate_of(function):
    """The gate of a function that multiplies with one, or `None`.

    Args:
        function: An activation function, layer or operation.
    """
    return GATES.get(_key(function))


def _key(function):
    """What a function goes by in the tables above; `None` if it is an operation of another."""
    if not isinstance(function, keras.Operation):
        return function
    return type(function).__name__ if private.is_keras_operation(function) else None


def available(step):
    """Lists the forms that an activation can be written in; the first is the default.

    Args:
        step: An `ActivationStep` with some units linear.
    """
    # Masks end at operations.
    passing = ("prelu", "sum", "scaled")
    names = [name for name, (can, _) in FORMS.items() if can(step)]
    return [name for name in (*names, *step.factored) if not step.masked or name in passing]


def by_liking(step, liked):
    """Lists those forms in the order in which an engine likes them; others come last.

    Args:
        step: An `ActivationStep` with some units linear.
        liked: Names of forms.
    """
    return sorted(available(step), key=[*liked, *FORMS, *step.factored].index)


def chosen(step, inputs):
    """The form to write: that of the step, or the default where that one cannot be.

    Args:
        step: An `ActivationStep` with some units linear.
        inputs: The tensor that it is applied to.
    """
    names = available(step)
    if inputs.dtype != "float32":
        names = [name for name in names if name not in WITH_ARRAYS]
    return step.form if step.form in names else names[0]


def divisor(step):
    """What the map before an activation is to be divided by, since the form of the activation comes
    to so much more; 1 as a rule.

    Args:
        step: An `ActivationStep`.
    """
    if step.form != "hard_shifted" or step.form not in available(step):
        return 1.0
    # Where merging has left units of one kind it is written without its form, and so are other
    # numbers.
    is_mixed = step.linear.any() and not step.linear.all()
    if not is_mixed or step.policy.compute_dtype != "float32":
        return 1.0
    *_, opened = SHIFTED[gate_of(step.function)]
    return opened


def _is_binary(step):
    return bool(np.isin(step.slopes, (0.0, 1.0)).all())


def _is_relu(step):
    return bounds_of(step.function) == (0.0, None)


def _is_clipped(step):
    return None not in (bounds_of(step.function) or (None,))


def _is_gated(step, *gates):
    return _is_binary(step) and gate_of(step.function) in (gates or SHIFTED)


def _stays_at_zero(step):
    bounds = bounds_of(step.function)
    if bounds is not None:
        return bounds[0] <= 0
    return private.is_keras_function(step.function) and _is_zero_at_zero(step.function)


@functools.cache
def _is_zero_at_zero(function):
    """Computed once: forms are listed again and again while a plan is made."""
    return not keras.ops.convert_to_numpy(function(keras.ops.zeros((1, 2)))).any()


def _maximum(writer, step, inputs, name):
    """`maximum(x, low)`: one operation, where a PReLU is several on backends that do not fuse."""
    return private.with_name(keras.ops.maximum(inputs, _bounds(step, inputs, 0.0, "min")), name)


def _clip(writer, step, inputs, name):
    """`minimum(maximum(x, low), high)`, with no bounds where units are linear."""
    low, high = bounds_of(step.function)
    part = writer.names.unique(f"{name}_low")
    outputs = keras.ops.maximum(inputs, _bounds(step, inputs, low, "min"))
    high = _bounds(step, inputs, high, "max")
    return private.with_name(keras.ops.minimum(private.with_name(outputs, part), high), name)


def _gate(writer, step, inputs, name):
    """`x * maximum(gate(x), linear)`: one operation more than the function itself has."""
    gate = private.with_name(gate_of(step.function)(inputs), writer.names.unique(f"{name}_gate"))
    linear = step.broadcast(step.linear.astype(inputs.dtype), inputs)
    part = writer.names.unique(f"{name}_open")
    opened = private.with_name(keras.ops.maximum(gate, linear), part)
    return private.with_name(keras.ops.multiply(inputs, opened), name)


def _shifted(writer, step, inputs, name):
    """`x * gate(x + shift)`, with no `x` and a shift that opens the gate where units are linear."""
    function, shift, opening, opened = SHIFTED[gate_of(step.function)]
    part = writer.names.unique(f"{name}_nonlinear")
    shifts = np.where(step.linear, opening, shift)
    scale = np.where(step.linear, 0.0, step.divided)
    gate = function(_scaled(writer, step, inputs, scale, part, shifts))
    if opened != step.divided:
        gate = private.with_name(gate, writer.names.unique(f"{name}_gate"))
        gate = keras.ops.multiply(gate, np.float32(step.divided / opened))
    gate = private.with_name(gate, writer.names.unique(f"{name}_open"))
    return private.with_name(keras.ops.multiply(inputs, gate), name)


def _apart(writer, step, inputs, name):
    """`m * x + f((1 - m) * x)`, for functions that are 0 at 0."""
    linear, nonlinear = (
        _scaled(writer, step, inputs, units, writer.names.unique(f"{name}_{part}"))
        for part, units in (("linear", step.linear), ("nonlinear", ~step.linear))
    )
    parts = [linear, writer.base(step, nonlinear, name)]
    return keras.layers.Add(name=writer.names.unique(f"{name}_sum"), dtype=step.policy)(parts)


def _scaled(writer, step, inputs, scale, name, shift=None):
    """Each unit by a number, and plus a number, in a layer that is never trained: a convolution
    where it can be one, since engines compute functions together with those."""
    if step.axis != -1 or len(inputs.shape) != 4:
        shift = 0.0 if shift is None else step.broadcast(shift, inputs).tolist()
        return _rescaled(step, inputs, scale, name, shift)
    layer = keras.layers.DepthwiseConv2D(
        1, use_bias=shift is not None, trainable=False, name=name, dtype=step.policy
    )
    weights = [scale.reshape(1, 1, -1, 1)] + ([] if shift is None else [shift])
    writer.weigh(layer, [each.astype("float32") for each in weights])
    return layer(inputs)


def _rescaled(step, inputs, scale, name, shift=0.0):
    scale = step.broadcast(scale.astype("float64"), inputs).tolist()
    return keras.layers.Rescaling(scale, shift, name=name, dtype=step.policy)(inputs)


def _where(writer, step, inputs, name):
    """`where(linear, x, f(x))`."""
    nonlinear = writer.base(step, inputs, writer.names.unique(f"{name}_nonlinear"))
    outputs = keras.ops.where(step.broadcast(step.linear, inputs), inputs, nonlinear)
    return private.with_name(outputs, name)


def _prelu(writer, step, inputs, name):
    """`PReLU`, with any slopes."""
    slopes = step.broadcast(step.slopes, inputs)
    slopes = slopes.reshape((1,) * (len(inputs.shape) - 1 - slopes.ndim) + slopes.shape)
    others = [axis for axis, size in enumerate(slopes.shape, 1) if size == 1]
    layer = keras.layers.PReLU(
        shared_axes=others or None, trainable=step.trainable, name=name, dtype=step.policy
    )
    writer.weigh(layer, [slopes])
    return layer(inputs)


def _sum(writer, step, inputs, name):
    """`m * x + (1 - m) * f(x)`, for any function and any slopes."""
    parts = [
        _rescaled(step, x, scale, writer.names.unique(f"{name}_{part}"))
        for part, scale, x in (
            ("linear", step.slopes, inputs),
            ("nonlinear", 1.0 - step.slopes, writer.base(step, inputs, name)),
        )
    ]
    return keras.layers.Add(name=writer.names.unique(f"{name}_sum"), dtype=step.policy)(parts)


# By name: whether a step can be written so, and what writes it. Of those that can, the first is the
# fastest in Keras itself, as a rule. For those by factors `rescaling` has other steps.
FORMS = {
    "maximum": (lambda step: _is_binary(step) and _is_relu(step), _maximum),
    "where": (_is_binary, _where),
    "prelu": (_is_relu, _prelu),
    "sum": (lambda step: True, _sum),
    "clip": (lambda step: _is_binary(step) and _is_clipped(step), _clip),
    "gate": (_is_gated, _gate),
    "shifted": (lambda step: _is_gated(step, keras.ops.sigmoid), _shifted),
    "hard_shifted": (lambda step: _is_gated(step, keras.ops.hard_sigmoid), _shifted),
    "apart": (lambda step: _is_binary(step) and _stays_at_zero(step), _apart),
}


def _bounds(step, inputs, bound, end):
    """An array that broadcasts with the inputs: the bound of each unit, the last number that there
    is for none."""
    last = getattr(np.finfo(inputs.dtype), end)
    bounds = np.where(step.linear, last, last if bound is None else bound)
    return step.broadcast(bounds.astype(inputs.dtype), inputs)
