"""Path rules: how the channels of a call's output are fed by those of its inputs.

A rule is a function of a `Call` that returns the labels of the output, or a list of them for
several outputs. This module holds the registry and the general rules; `layer_rules` and
`operation_rules` say which layer and which operation follows which.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from keras_nladv._keras import private
from keras_nladv.graph.activation import Activation
from keras_nladv.graph.around_zero import STRAIGHT, small_outputs
from keras_nladv.graph.call import Call

_rules: dict[Any, Callable[[Call], Any]] = {}

# Called after a rule was registered: what was measured by the rules before may be wrong now.
on_registration: list[Callable[[], None]] = []


def register_path_rule(
    target: Any, rule: str | Callable[[Call], Any] | None = None
) -> Callable[..., Any]:
    """Says how paths lead through a layer that the path rules do not know.

    A layer whose `call` is made of layers and operations that are known needs no rule: it is
    opened. A rule of your own takes precedence over opening, and over a built-in rule.

    Args:
        target: What the rule is for: a subclass of `keras.Layer` or `keras.Operation`, or a
            function: an activation, that of a `Lambda` layer, or one of `keras.ops`, for all of its
            calls.
        rule: The name of a general rule, or a function. The names are `"pass"` (each channel goes
            on; normalization, dropout, pooling), `"activation"` (each channel of the last axis, or
            of the axis that tells channels apart, is a nonlinear unit), `"mixing"` (each output
            channel is fed by all input channels), `"merge"` (channel by channel, each input is an
            operand) and `"constant"` (no path leads through). A function is called as `rule(call)`
            with a `keras_nladv.graph.Call` and returns the labels of the output. If `rule` is left
            out, `register_path_rule` is a decorator of such a function.

    Returns:
        The rule, or a decorator.

    Raises:
        TypeError: If `target` is neither a class of layers or operations nor a function.
        ValueError: If `rule` is no name of a general rule.

    Example:

    >>> class Swap(keras.layers.Layer):
    ...     def call(self, x):
    ...         return keras.ops.sort(x)
    >>> rule = register_path_rule(Swap, "mixing")
    """
    if rule is None:
        return lambda function: register_path_rule(target, function)
    is_class = isinstance(target, type)
    is_rule_for = issubclass(target, keras.Operation) if is_class else callable(target)
    if not is_rule_for or isinstance(target, keras.Operation):
        raise TypeError(
            "`target` must be a class of layers or operations, not one of them, or an activation "
            f"function. Received: target={target!r}"
        )
    if isinstance(rule, str) and rule in GENERAL_RULES:
        rule = GENERAL_RULES[rule]
    if not callable(rule):
        raise ValueError(
            f"`rule` must be a function or one of {sorted(GENERAL_RULES)}. Received: rule={rule!r}"
        )
    _rules[target] = rule
    if not is_class and private.is_keras_function(target):
        _rules[_operation_of(target)] = rule
    for forget in on_registration:
        forget()
    return rule


def rules_for(rule, *targets):
    """Registers one rule for several targets, some by name since they may not be installed."""
    for target in targets:
        _rules[target] = rule


def find_rule(target):
    """Returns the rule for an operation or function, or `None`.

    A subclass follows the rule of its base only as long as it has the same `call`.
    """
    if not isinstance(target, keras.Operation):
        return _rules.get(target, _rules.get(_qualified(target)))
    for cls in type(target).__mro__:
        rule = _rules.get(cls, _rules.get(_qualified(cls)))
        if rule is not None and getattr(type(target), "call", None) is getattr(cls, "call", None):
            return rule
    return _rules.get(_named(type(target))) if private.is_keras_operation(target) else None


def _operation_of(function):
    """What tells the operations that a function makes, whose classes are not public."""
    try:
        return _named(type(private.producer(function(keras.KerasTensor((1, 1))))))
    except Exception:  # It takes more than a tensor, or other ones.
        return _named(function)


def _named(target):
    return f"operation {target.__name__.replace('_', '').lower()}"


def function_of(operation):
    """The function of `keras.ops` that an operation is made by, as one writes it, or `None`."""
    modules = {"keras.ops": keras.ops, "keras.ops.image": keras.ops.image}
    modules |= {"keras.ops.linalg": keras.ops.linalg, "keras.ops.nn": keras.ops.nn}
    for place, module in modules.items():
        for name, function in vars(module).items():
            if callable(function) and _named(function) == _named(type(operation)):
                return f"{place}.{name}"
    return None


def _qualified(target):
    """A class or function by the name of its package, `package>name`, as Keras registers them."""
    package = getattr(target, "__module__", "").split(".")[0]
    return f"{package}>{getattr(target, '__name__', '')}"


def passes(call):
    """The output's channels are the input's."""
    channels = call.first
    if channels.shape == tuple(call.outputs[0].shape):
        return channels.labels
    axis = channels.channel_axis
    return call.on_axis(call.along(channels, axis), axis if axis < call.rank else -1)


def constant(call):
    """The outputs do not depend on the inputs' values along any path."""
    return [np.zeros((1,) * len(output.shape), int) for output in call.outputs]


def merges(call):
    """Each input is an operand, channel by channel."""
    return call.merged([channels.labels for channels in call.carrying])


def mixes(call):
    """Every output channel is fed by all channels; several inputs are operands."""
    return [
        mixed_operands(replace(call, outputs=[output]), call.carrying) for output in call.outputs
    ]


def mixed_operands(call, operands, nonzero=None):
    """Labels of output channels fed by operands of equal weight, each mixed by itself.

    Args:
        call: The `Call`.
        operands: List of `Channels`.
        nonzero: List of bool arrays, for each operand as for `Call.mixed`, or `None`.
    """
    size = call.outputs[0].shape[-1] or 1
    return call.merged(
        [
            call.mixed(channels, -1, size, nonzero=each)
            for channels, each in zip(operands, nonzero or itertools.repeat(None))
        ]
    )


def activates(call):
    """Each channel is a nonlinear unit, but for those that only see numbers around 0."""
    channels = call.first
    applied = getattr(call.operation, "activation", call.operation)
    name = getattr(applied, "__name__", type(applied).__name__)
    # Dense layers put their channels last, also where it is positions that they mix.
    dense = isinstance(call.operation, (keras.layers.Dense, keras.layers.EinsumDense))
    axis = len(channels.shape) - 1 if dense else channels.channel_axis
    around = {"maker": call.operation, "straight": STRAIGHT.get(applied)}
    return fixed_activation(call, channels, name.lower(), axis=axis, **around)


def fixed_activation(call, channels, function, slopes=None, axis=None, maker=None, straight=None):
    """Labels behind an activation that is no layer with slopes: every channel is a unit.

    Args:
        call: The `Call`.
        channels: `Channels`, the input.
        function: Name of the activation.
        slopes: Array that broadcasts with the input, slopes that never change; `None` if all units
            are nonlinear. Where they differ along other axes than the channels', they are not used.
        axis: The axis along which a unit lies beside another, by default that of the channels.
        maker: The layer right before it, which may give so little that it is linear.
        straight: What numbers are so small, and how steep the activation is there; `None` if it has
            no such place.
    """
    axis = channels.channel_axis if axis is None else axis
    rank = len(channels.shape)
    size = channels.shape[axis] or channels.labels.shape[axis]
    units = call.on_axis(np.arange(size), axis, rank)
    small = straight and small_outputs(maker, call.reading.given_to(maker), straight[0])
    if small is not None and small.size == size:
        labels = activated(call, channels, function, units, size, small.astype("float64"))
        call.reading.note_factors(labels, np.where(small, math.prod(straight), 1.0))
        return labels
    if slopes is not None:
        slopes = slopes.reshape((1,) * (rank - slopes.ndim) + slopes.shape)
        slopes = np.broadcast_to(slopes, units.shape).ravel() if slopes.size in (1, size) else None
    return activated(call, channels, function, units, size, slopes)


def activated(call, channels, function, units, size, slopes=None):
    """Labels behind the activation of `call`, whose unit at each element is given by `units`."""
    unknown = None in channels.shape[1:] or call.reading.assumes_sizes
    elements = None if unknown else math.prod(channels.shape[1:])
    activation = Activation(
        name=call.name,
        layer=call.operation,
        function=function,
        units=size,
        positions=None if elements is None else elements // size,
        unit_axes=tuple(axis for axis, count in enumerate(units.shape) if count > 1),
        constant_slopes=slopes,
    )
    return call.activated(channels.labels, activation, units)


GENERAL_RULES = {
    "pass": passes,
    "activation": activates,
    "mixing": mixes,
    "merge": merges,
    "constant": constant,
}
