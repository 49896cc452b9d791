"""Reads a flat model as steps."""

from collections import Counter

import keras
import numpy as np

from keras_nladv._copying.pointwise import granularity_of, pointwise_function, savable
from keras_nladv._keras import private
from keras_nladv._keras.padding import pads
from keras_nladv.layers.sparse_prelu import SparsePReLU
from keras_nladv.merging.linear_layers import (
    CONVOLUTIONS,
    DEPTHWISE,
    PADDINGS,
    SEPARABLE,
    TRANSPOSED,
)
from keras_nladv.merging.linear_map import LinearMap
from keras_nladv.merging.steps import ActivationStep, AddStep, MapStep, Step, new_key

# What does nothing when a trained model is used.
IDLE = (
    *(keras.layers.Dropout, keras.layers.AlphaDropout, keras.layers.GaussianDropout),
    *(keras.layers.SpatialDropout1D, keras.layers.SpatialDropout2D, keras.layers.SpatialDropout3D),
    *(keras.layers.GaussianNoise, keras.layers.ActivityRegularization, keras.layers.Identity),
)
KERNELS = (*CONVOLUTIONS.values(), *DEPTHWISE.values(), *SEPARABLE.values())


def read_steps(model):
    """Reads a flat model. What does nothing, activations that are all linear included, is left out.

    Returns:
        List of steps in order, a dict from the keys of tensors to their shapes, and the list of
        the keys of the model's outputs. Keys are the `id`s of tensors of the model.
    """
    nodes = private.nodes_between(model.inputs, model.outputs)
    calls = Counter(id(node.operation) for node in nodes)
    shapes = {id(tensor): tuple(tensor.shape) for tensor in model.inputs}
    # For tensors that are the same as another, since nothing happens between them, the other's key.
    aliases: dict[int, int] = {}
    steps = []
    for node in nodes:
        shapes.update((id(tensor), tuple(tensor.shape)) for tensor in node.outputs)
        operation = node.operation
        sources = [aliases.get(id(x), id(x)) for x in node.arguments.keras_tensors]
        # As the last layer often does under mixed precision.
        casts = any(x.dtype != node.outputs[0].dtype for x in node.arguments.keras_tensors)
        is_idle = isinstance(operation, IDLE) and not _is_in_training(node)
        if not casts and (is_idle or _is_linear_activation(operation)):
            aliases[id(node.outputs[0])] = sources[0]
            continue
        read = _read(node, sources, calls[id(operation)] > 1)
        if not casts and isinstance(read[0], ActivationStep) and read[0].linear.all():
            aliases[id(node.outputs[0])] = sources[0]
            continue
        for step in read[:-1]:
            shapes[step.outputs[0]] = step.shape(shapes[step.inputs[0]])
        steps += read
    return steps, shapes, [aliases.get(id(x), id(x)) for x in model.outputs]


def _is_in_training(node):
    """Whether a layer is called as in training whenever the model is."""
    return bool(node.arguments.kwargs.get("training"))


def _is_linear_activation(operation):
    return (
        isinstance(operation, keras.layers.Activation)
        and operation.activation is keras.activations.linear
    )


def _read(node, sources, is_shared):
    """Returns the steps of a node. There is one, as a rule."""
    operation, kind = node.operation, type(node.operation).__name__
    outputs = [id(x) for x in node.outputs]
    common = {"name": operation.name, "inputs": sources, "outputs": outputs, "node": node}
    if len(node.outputs) == 1:
        activation = _read_activation(node, common)
        if activation is not None:
            masks = map(private.mask_of, node.arguments.keras_tensors)
            activation.masked = any(mask is not None for mask in masks)
            return [activation]
        is_sum = isinstance(operation, keras.layers.Add) or (
            private.is_keras_operation(operation) and kind == "Add"
        )
        shapes = {tuple(x.shape) for x in node.arguments.keras_tensors}
        if is_sum and len(shapes) == 1 and len(sources) > 1:
            return [AddStep(**common, policy=_policy(node))]
    if not isinstance(operation, keras.Layer):
        return [Step(**common, reason=f"operation {kind} mixes or moves elements")]
    if isinstance(operation, keras.layers.BatchNormalization) and _is_in_training(node):
        reason = f"layer '{operation.name}' is called with `training=True`: it depends on the batch"
        return [Step(**common, reason=reason)]
    rank = len(node.outputs[0].shape) - 2
    first = getattr(operation, "data_format", None) == "channels_first"
    axis = 1 if first and rank > 0 else -1
    maps = _read_maps(operation, tuple(node.arguments.keras_tensors[0].shape), rank, axis)
    if not isinstance(maps, str):
        if getattr(operation, "quantization_mode", None) is not None:
            maps = f"layer '{operation.name}' is quantized"
        elif is_shared:
            maps = f"layer '{operation.name}' is shared: it is called several times"
    if isinstance(maps, str):
        return [Step(**common, reason=maps)]
    if isinstance(operation, keras.layers.BatchNormalization):
        axis = 1 if operation.axis % (rank + 2) == 1 and rank > 0 else -1
    common |= {"axis": axis, "kind": _kind(operation), "policy": operation.dtype_policy}
    common["trainable"] = _is_trained(operation)
    if len(maps) == 1:
        return [MapStep(**common, map=maps[0])]
    # Two layers will be written for it.
    common["node"] = None
    between = [new_key()]
    return [
        MapStep(
            **{**common, "name": f"{operation.name}_depthwise", "outputs": between}, map=maps[0]
        ),
        MapStep(**{**common, "inputs": between}, map=maps[1]),
    ]


def _policy(node):
    """The dtype policy of a layer, or for an operation that of what it puts out."""
    policy = getattr(node.operation, "dtype_policy", None)
    return policy or keras.DTypePolicy(node.outputs[0].dtype)


def _is_trained(layer):
    # Weights can be frozen by themselves, and what a layer says holds for its own.
    return any(weight.trainable for weight in layer.weights)


def _kind(layer):
    if isinstance(layer, (keras.layers.Dense, keras.layers.EinsumDense)):
        return "dense"
    return "conv" if isinstance(layer, KERNELS) else "any"


def _read_activation(node, common):
    operation = node.operation
    shape = tuple(node.outputs[0].shape)
    policy = _policy(node)
    if isinstance(operation, SparsePReLU):
        return read_units(operation, node, common)
    if len(shape) < 2:
        return None
    if isinstance(operation, keras.layers.PReLU):
        granularity, axis = granularity_of(operation)
        if granularity not in ("channel", "layer"):
            return None
        slopes = keras.ops.convert_to_numpy(operation.alpha).ravel()
        return ActivationStep(
            **common,
            function=keras.activations.relu,
            slopes=np.broadcast_to(slopes, shape[axis]),
            axis=axis,
            policy=policy,
            trainable=_is_trained(operation),
        )
    function = pointwise_function(operation, node)
    if function is None:
        return None
    axis = 1 if _channels_first(node) else -1
    if shape[axis] is None:
        return None
    slopes = np.zeros(shape[axis])
    return ActivationStep(**common, function=function, slopes=slopes, axis=axis, policy=policy)


def read_units(layer, node, common):
    """The `ActivationStep` of a `SparsePReLU`.

    Args:
        layer: The layer.
        node: The Keras node of its call.
        common: Dict of the arguments of a `Step`.
    """
    shape, slopes, axis = tuple(node.outputs[0].shape), layer.slopes, None
    if layer.granularity == "channel":
        axis = layer.axis % len(shape)
    elif layer.granularity == "layer" and len(shape) > 1:
        along = 1 if _channels_first(node) else len(shape) - 1
        if shape[along] is not None:
            axis, slopes = along, np.broadcast_to(slopes, shape[along])
    elif len(shape) == 2:
        axis = 1
    return ActivationStep(
        **common,
        function=savable(layer.activation),
        slopes=slopes,
        axis=-1 if axis == len(shape) - 1 else axis,
        policy=layer.dtype_policy,
        trainable=layer.alpha.trainable,
    )


def _channels_first(node):
    """Whether the layers before an activation say that the channels are axis 1."""
    while node.arguments.keras_tensors:
        data_format = getattr(node.operation, "data_format", None)
        if data_format is not None:
            return data_format == "channels_first" and len(node.outputs[0].shape) > 2
        tensor = node.arguments.keras_tensors[0]
        if isinstance(private.producer(tensor), keras.layers.InputLayer):
            break
        node = private.source(tensor)
    return False


def _read_maps(layer, shape, rank, axis):
    """The `LinearMap`s of a layer in a row; a string says why nothing can be merged with it."""
    kind = type(layer)
    sizes = shape[2:] if axis == 1 else shape[1:-1]
    if layer.quantization_mode is not None:
        return "the layer is quantized"
    if kind is keras.layers.Dense:
        return [_matrix(layer.kernel, layer.bias, rank)]
    if kind is keras.layers.EinsumDense:
        inputs, output = layer.equation.replace(" ", "").split("->")
        tensor, kernel = inputs.split(",")
        plain = len(kernel) == 2 and tensor[-1] == kernel[0] and output == tensor[:-1] + kernel[1]
        if not plain or (layer.bias is not None and layer.bias.ndim != 1):
            return f"einsum '{layer.equation}' is not that of a Dense layer"
        return [_matrix(layer.kernel, layer.bias, rank)]
    if kind is keras.layers.BatchNormalization:
        if layer.axis % (rank + 2) not in (1, rank + 1):
            return "the batch normalization is not over channels"
        return [_normalization(layer, rank)]
    if kind in PADDINGS.values():
        channels = shape[axis]
        pads = layer.padding if rank > 1 else (layer.padding,)
        return [LinearMap.diagonal(np.ones(channels), np.zeros(channels), rank, tuple(pads))]
    if kind in TRANSPOSED.values():
        return "a transposed convolution puts out more positions than it takes"
    if kind not in KERNELS:
        return f"layer {kind.__name__} is none that linear units could be merged with"
    if kind in SEPARABLE.values():
        maps = [
            _depthwise(layer.depthwise_kernel, None, layer, sizes),
            _matrix(layer.pointwise_kernel, layer.bias, rank),
        ]
    elif kind in DEPTHWISE.values():
        maps = [_depthwise(layer.kernel, layer.bias, layer, sizes)]
    else:
        *taps, inputs, outputs = layer.kernel.shape
        shape = (*taps, layer.groups, inputs, outputs // layer.groups)
        maps = [_linear_map(shape, layer.kernel, layer.bias, layer, sizes)]
    if maps[0].pads is None:
        return 'padding "same" with strides depends on the size, which is not known'
    return maps


def _matrix(kernel, bias, rank):
    return _linear_map((*(1,) * (rank + 1), *kernel.shape[-2:]), kernel, bias)


def _depthwise(kernel, bias, layer, sizes):
    *taps, inputs, multiplier = kernel.shape
    return _linear_map((*taps, inputs, 1, multiplier), kernel, bias, layer, sizes)


def _linear_map(shape, kernel, bias, layer=None, sizes=()):
    """The `LinearMap` of weights. Its `pads` are `None` if they depend on a size not known.

    Args:
        shape: Shape of its kernel.
        kernel: The weight.
        bias: The weight, or `None`.
        layer: The convolution that they are of, or `None` for a matrix.
        sizes: The sizes of the convolution's input.
    """
    *taps, groups, inputs, outputs = shape
    bias = np.zeros(groups * outputs) if bias is None else _array(bias)

    def compute():
        array = _array(kernel).reshape(*taps, inputs, groups, outputs)
        return array.swapaxes(-3, -2), bias

    if layer is None:
        ones, around = (1,) * len(taps), ((0, 0),) * len(taps)
        return LinearMap(shape, bool(bias.any()), ones, around, ones, compute)
    around = pads(layer, sizes)
    return LinearMap(shape, bool(bias.any()), layer.strides, around, layer.dilation_rate, compute)


def _array(weight):
    """A weight in float64."""
    # With LoRA, a kernel is no variable but a tensor.
    return keras.ops.convert_to_numpy(getattr(weight, "value", weight)).astype("float64")


def _normalization(layer, rank):
    mean, variance = _array(layer.moving_mean), _array(layer.moving_variance)
    scale = 1.0 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * _array(layer.gamma)
    shift = -mean * scale
    if layer.center:
        shift = shift + _array(layer.beta)
    return LinearMap.diagonal(scale, shift, rank)
