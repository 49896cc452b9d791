"""Linear units that are written as if they were nonlinear, and cost little or nothing.

Around 0 some functions are x / 2: SiLU of 2**-34 * x is 2**-35 * x to the last digit, for all
numbers x that a network has. So a unit is linear if the layer before it gives so much less of it,
and the layers that take it so much more. These factors are powers of 2, which change no digit.
A sigmoid is half of a hyperbolic tangent and 1 more, and that is x around 0. And a lower bound of 0
that is 2**-40 less is as good, and still far beyond 2**-66 * x.

Where only bounds of -1 and 1 cost nothing, all that is clipped has these: 6 is 1 of (x - 3) / 3,
and 0 is -1. A layer with padding does not take that, since its zeros would be another number; for
it x / 6 is clipped, and by 0 in addition.

What float32 and bfloat16 can hold of such kernels, float16 and int8 cannot.
"""

from collections import Counter
from dataclasses import replace

import keras
import numpy as np

from keras_nladv._keras import private
from keras_nladv.graph.around_zero import BOUND, CLIPPED, STRAIGHT
from keras_nladv.merging.forms import bounds_of, by_liking
from keras_nladv.merging.linear_map import LinearMap
from keras_nladv.merging.steps import (
    ActivationStep,
    ClipStep,
    MapStep,
    ShiftStep,
    new_key,
    same_dtype,
)
from keras_nladv.merging.writer import MAX_POOLING

# What is far smaller than the bounds is rounded as they are, where something is added.
ROUNDING = "centered"
# Those that cost nothing, and all.
FREE = ("scaled", ROUNDING)
FORMS = (*FREE, "bounded")
# In a product of two there is less still.
SMALLEST = 2.0**-96
SIGMOIDS = (keras.activations.sigmoid, keras.ops.sigmoid)
POOLING = (
    *MAX_POOLING,
    *(keras.layers.AveragePooling1D, keras.layers.AveragePooling2D, keras.layers.AveragePooling3D),
    *(keras.layers.GlobalAveragePooling1D, keras.layers.GlobalAveragePooling2D),
    keras.layers.GlobalAveragePooling3D,
)


def factorable(steps, ends, liked):
    """Notes by activations in which of these forms they can be written, in a list of steps.

    Args:
        steps: List of steps in order.
        ends: List of the keys that are outputs of the model.
        liked: Names of forms; no others are looked at.
    """

    def can(step, form):
        formed = replace(step, form=form)
        return _rescaled(_exchanged(steps, step, formed), [formed], ends) is not None

    return [
        replace(step, factored=tuple(x for x in FORMS if x in liked and can(step, x)))
        if isinstance(step, ActivationStep) and _is_mixed(step)
        else step
        for step in steps
    ]


def rescaled(steps, ends, liked):
    """Steps with the same function, in which activations of those forms are plain ones.

    Args:
        steps: List of steps in order. What has become of others around an activation may keep it
            from being written so; then it gets another form.
        ends: List of the keys that are outputs of the model.
        liked: Names of forms, in the order in which others are chosen.
    """
    wanted = [step for step in steps if _is_formed(step)]
    written = _rescaled(steps, wanted, ends)
    if written is not None:
        return written
    chosen: list[ActivationStep] = []
    for step in wanted:
        while step.form in FORMS and _rescaled(steps, [*chosen, step], ends) is None:
            other = in_next_form(step, liked)
            steps, step = _exchanged(steps, step, other), other
        if step.form in FORMS:
            chosen.append(step)
    return _rescaled(steps, chosen, ends)


def plain(step):
    """Steps that take the place of one: of an activation in such a form. Others stay."""
    if not _is_formed(step):
        return [step]
    bounds = bounds_of(step.function)
    if step.form == "centered":
        return [ClipStep(step.name, step.inputs, step.outputs, low=-1.0, high=1.0)]
    if step.form == "bounded":
        between, name = [new_key()], f"{step.name}_high"
        below = {"function": keras.activations.relu, "form": "maximum"}
        return [
            ClipStep(name, step.inputs, between, low=-1.0, high=1.0),
            replace(step, inputs=between, node=None, **below),
        ]
    if bounds:
        low, high = bounds
        low = float(low or BOUND)
        high = float(np.finfo("float32").max if high is None else high)
        return [ClipStep(step.name, step.inputs, step.outputs, low=low, high=high)]
    nonlinear = replace(step, slopes=np.zeros_like(step.slopes), node=None)
    if step.function not in SIGMOIDS:
        return [nonlinear]
    between, name = [new_key()], f"{step.name}_shift"
    return [
        replace(nonlinear, function=keras.activations.tanh, outputs=between),
        ShiftStep(name, between, step.outputs, shift=1.0 - step.linear, axis=step.axis),
    ]


def in_next_form(step, liked):
    """An activation without the form by factors that it is in."""
    left = replace(step, factored=tuple(form for form in step.factored if form != step.form))
    return replace(left, form=by_liking(left, liked)[0])


def _exchanged(steps, step, other):
    """Steps with another in the place of one."""
    return [other if each is step else each for each in steps]


def _is_formed(step):
    return isinstance(step, ActivationStep) and step.form in FORMS and _is_mixed(step)


def _is_mixed(step):
    return step.linear.any() and np.isin(step.slopes, (0.0, 1.0)).all() and not step.linear.all()


def _rescaled(steps, activations, ends):
    """Steps in which some activations are plain ones; `None` if what is around one of them cannot
    be scaled."""
    uses = Counter(key for step in steps for key in step.inputs)
    makers = {key: step for step in steps for key in step.outputs}
    # By the `id` of a map, the activation of what it puts out.
    behind = {}
    # By the keys of tensors, what each channel has been multiplied with and what been added, and
    # the channels' axis.
    factors = {}
    places = set(map(id, activations))
    for each in activations:
        (key,) = each.inputs
        if uses[key] > 1 or key in ends or not _applies(makers.get(key), each):
            return None
        behind[id(makers[key])] = each
        _, *after = _factors(each)
        factors[each.outputs[0]] = *after, each.axis
    written = []
    for step in steps:
        given = [factors[key] for key in step.inputs if key in factors]
        activation = behind.get(id(step))
        if given and isinstance(step, MapStep):
            ((factor, added, axis),) = given
            if step.kind == "any" or step.axis != axis or step.policy.compute_dtype != "float32":
                return None
            # By its kernel alone it could not be told which of its units are linear.
            is_told = id(makers.get(step.inputs[0])) in places or not step.map.is_depthwise
            if activation is not None and not is_told:
                return None
            taken = step.map.scaled(inputs=1 / factor)
            if added.any():
                if step.map.is_padded or step.map.takes_one:
                    return None
                taken = LinearMap.diagonal(np.ones(len(added)), -added, taken.rank).then(taken)
            step = replace(step, map=taken, node=None)
        elif given:
            factor, axes = np.prod([f for f, *_ in given], axis=0), {axis for *_, axis in given}
            added = sum(each for _, each, _ in given)
            (axis, *others) = axes
            if others or factor.min() < SMALLEST or not _lets_through(step, factor, added, axis):
                return None
            factors[step.outputs[0]] = factor, added, axis
        if activation is not None:
            before, _, added = _factors(activation)
            small = step.map.then(LinearMap.diagonal(before, added, step.map.rank))
            # Training would change what is as small as that by far more than it is.
            written.append(replace(step, map=small, node=None, trainable=False))
            written += plain(activation)
        elif id(step) not in places:
            written.append(step)
    return None if any(key in factors for key in ends) else written


def _factors(step):
    """What the inputs and the outputs of an activation are multiplied with, and what is added to
    both."""
    before = after = 1.0
    middle = 0.0
    bounds = bounds_of(step.function)
    if bounds:
        small, slope = CLIPPED
        if step.form != "scaled":
            low, high = bounds
            low = low if step.form == "centered" else -high
            middle, before = (low + high) / 2, 2 / (high - low)
            after = before
    elif step.function in SIGMOIDS:
        small, slope = STRAIGHT[keras.activations.tanh]
        before, after = 0.5, 2.0
    else:
        small, slope = STRAIGHT[step.function]
    units = (small, before), (slope * small, after), (0.0, -middle * before)
    return [np.where(step.linear, *each) for each in units]


def _applies(maker, step):
    """Whether a step is a layer whose output an activation of this form can be applied to."""
    is_map = (
        isinstance(maker, MapStep)
        and maker.kind != "any"
        and not maker.map.takes_one
        and (maker.map.groups == 1 or maker.map.is_depthwise)
    )
    if not is_map or maker.axis != step.axis or not same_dtype(maker, step):
        return False
    if step.policy.compute_dtype != "float32" or not _is_mixed(step):
        return False
    low, high = bounds_of(step.function) or (1.0, None)
    is_around = low <= 0 and (high is None or high > 0)
    if step.form != "scaled" and (
        not is_around or high is None or (step.form == "bounded" and low < 0)
    ):
        return False
    # Masks end at operations, which these become.
    if is_around or step.function in SIGMOIDS:
        return not step.masked
    return not isinstance(step.function, keras.Operation) and step.function in STRAIGHT


def _lets_through(step, factors, added, axis):
    """Whether what a step puts out has the factors of its inputs, and the same added to it."""
    if step.node is None or len(step.outputs) > 1:
        return False
    operation, tensors = step.node.operation, step.node.arguments.keras_tensors
    (output,) = step.node.outputs
    shape = tuple(output.shape)
    size = shape[axis] if len(shape) > 2 else shape[-1]
    if size != len(factors) or output.dtype != "float32":
        return False
    if isinstance(operation, POOLING):
        # Backends leave out what is padded with; others need not.
        if added.any() and getattr(operation, "padding", "valid") != "valid":
            return False
        return (operation.data_format == "channels_first") == (axis == 1)
    if isinstance(operation, keras.layers.Reshape):
        return axis == -1 and tensors[0].shape[-1] == len(factors)
    if added.any():
        return False
    is_product = isinstance(operation, keras.layers.Multiply) or (
        private.is_keras_operation(operation) and type(operation).__name__ == "Multiply"
    )
    return is_product and {len(tensor.shape) for tensor in tensors} == {len(shape)}
