"""Reads a flat model as steps."""

from collections import Counter

import keras
import numpy as np

from keras_nladv import private
from keras_nladv.layers.sparse_prelu import SparsePReLU
from keras_nladv.surgery.linear_layers import CONVOLUTIONS, DEPTHWISE, PADDINGS
from keras_nladv.surgery.linear_map import LinearMap, same_pads
from keras_nladv.surgery.pointwise import pointwise_function
from keras_nladv.surgery.site import granularity_of
from keras_nladv.surgery.steps import ActivationStep, AddStep, MapStep, Step

# What does nothing when a trained model is used.
IDLE = (
    *(keras.layers.Dropout, keras.layers.AlphaDropout, keras.layers.GaussianDropout),
    *(keras.layers.SpatialDropout1D, keras.layers.SpatialDropout2D, keras.layers.SpatialDropout3D),
    *(keras.layers.GaussianNoise, keras.layers.ActivityRegularization, keras.layers.Identity),
)
KERNELS = (*CONVOLUTIONS.values(), *DEPTHWISE.values())


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
        if isinstance(operation, IDLE) or _is_linear_activation(operation):
            aliases[id(node.outputs[0])] = sources[0]
            continue
        step = _read(node, sources, calls[id(operation)] > 1)
        if isinstance(step, ActivationStep) and step.linear.all():
            aliases[id(node.outputs[0])] = sources[0]
            continue
        if isinstance(step, str):
            outputs = [id(x) for x in node.outputs]
            step = Step(operation.name, sources, outputs, node, step)
        steps.append(step)
    return steps, shapes, [aliases.get(id(x), id(x)) for x in model.outputs]


def _is_linear_activation(operation):
    return (
        isinstance(operation, keras.layers.Activation)
        and operation.activation is keras.activations.linear
    )


def _read(node, sources, is_shared):
    """Returns the step of a node, or the reason why nothing is merged across it."""
    operation, kind = node.operation, type(node.operation).__name__
    common = {
        "name": operation.name,
        "inputs": sources,
        "outputs": [id(x) for x in node.outputs],
        "node": node,
    }
    if len(node.outputs) == 1:
        activation = _read_activation(node, common)
        if activation is not None:
            return activation
        is_sum = isinstance(operation, keras.layers.Add) or (
            private.is_keras_operation(operation) and kind == "Add"
        )
        shapes = {tuple(x.shape) for x in node.arguments.keras_tensors}
        if is_sum and len(shapes) == 1 and len(sources) > 1:
            policy = getattr(operation, "dtype_policy", None)
            return AddStep(**common, policy=policy)
    if not isinstance(operation, keras.Layer):
        return f"operation {kind} mixes or moves elements"
    rank = len(node.outputs[0].shape) - 2
    first = getattr(operation, "data_format", None) == "channels_first"
    axis = 1 if first and rank > 0 else -1
    linear_map = _read_map(operation, tuple(node.arguments.keras_tensors[0].shape), rank, axis)
    if linear_map is None:
        return f"layer {kind} is none that linear units could be merged with"
    if isinstance(linear_map, str):
        return linear_map
    if getattr(operation, "quantization_mode", None) is not None:
        return f"layer '{operation.name}' is quantized"
    if is_shared:
        return f"layer '{operation.name}' is shared: it is called several times"
    if isinstance(operation, keras.layers.BatchNormalization):
        axis = 1 if operation.axis % (rank + 2) == 1 and rank > 0 else -1
    return MapStep(
        **common,
        map=linear_map,
        axis=axis,
        kind=_kind(operation),
        policy=operation.dtype_policy,
    )


def _kind(layer):
    if isinstance(layer, (keras.layers.Dense, keras.layers.EinsumDense)):
        return "dense"
    return "conv" if isinstance(layer, KERNELS) else "any"


def _read_activation(node, common):
    operation = node.operation
    shape = tuple(node.outputs[0].shape)
    if len(shape) < 2:
        return None
    policy = getattr(operation, "dtype_policy", None)
    axis = -1
    if isinstance(operation, SparsePReLU):
        slopes = operation.slopes
        if operation.granularity == "channel":
            axis = operation.axis % len(shape)
            axis = -1 if axis == len(shape) - 1 else axis
        elif operation.granularity == "layer":
            axis = 1 if _channels_first(node) else -1
            if shape[axis] is None:
                return None
            slopes = np.broadcast_to(slopes, shape[axis])
        elif len(shape) > 2:
            return None
        return ActivationStep(
            **common, function=operation.activation, slopes=slopes, axis=axis, policy=policy
        )
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
        )
    function = pointwise_function(operation, node.arguments.args)
    if function is None:
        return None
    axis = 1 if _channels_first(node) else -1
    if shape[axis] is None:
        return None
    slopes = np.zeros(shape[axis])
    return ActivationStep(**common, function=function, slopes=slopes, axis=axis, policy=policy)


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


def _read_map(layer, shape, rank, axis):
    """The `LinearMap` of a layer; `None` if it is not linear, a string if it cannot be merged."""
    if type(layer) is keras.layers.Dense:
        kernel, bias = _weights(layer)
        return LinearMap.pointwise(kernel, bias, rank)
    if type(layer) is keras.layers.EinsumDense:
        return _read_einsum(layer, rank)
    if type(layer) is keras.layers.BatchNormalization:
        return _read_normalization(layer, rank)
    if type(layer) in PADDINGS.values():
        channels = shape[axis]
        pads = layer.padding if rank > 1 else (layer.padding,)
        return LinearMap.diagonal(np.ones(channels), np.zeros(channels), rank, tuple(pads))
    if type(layer) not in KERNELS:
        return None
    sizes = shape[2:] if axis == 1 else shape[1:-1]
    kernel, bias = _weights(layer)
    groups = getattr(layer, "groups", 1)
    if type(layer) in DEPTHWISE.values():
        if layer.depth_multiplier > 1:
            return "a depthwise convolution with a depth multiplier makes several of each channel"
        kernel, groups = kernel.reshape((*kernel.shape[:-2], 1, -1)), kernel.shape[-2]
    extent = [d * (k - 1) for k, d in zip(kernel.shape, layer.dilation_rate)]
    pads = {
        "valid": ((0, 0),) * rank,
        "causal": ((extent[0], 0),),
        "same": same_pads(sizes, extent, layer.strides),
    }[layer.padding]
    if pads is None:
        return 'padding "same" with strides depends on the size, which is not known'
    return LinearMap(kernel, bias, groups, layer.strides, pads, layer.dilation_rate)


def _weights(layer):
    """Kernel and bias in float64."""
    kernel = _array(layer.kernel)
    outputs = kernel.shape[-1] * (
        kernel.shape[-2] if isinstance(layer, tuple(DEPTHWISE.values())) else 1
    )
    return kernel, _array(layer.bias) if layer.bias is not None else np.zeros(outputs)


def _array(weight):
    # With LoRA, a kernel is no variable but a tensor.
    return keras.ops.convert_to_numpy(getattr(weight, "value", weight)).astype("float64")


def _read_einsum(layer, rank):
    inputs, output = layer.equation.replace(" ", "").split("->")
    tensor, kernel = inputs.split(",")
    plain = len(kernel) == 2 and tensor[-1] == kernel[0] and output == tensor[:-1] + kernel[1]
    if not plain or (layer.bias is not None and layer.bias.ndim != 1):
        return f"einsum '{layer.equation}' is not that of a Dense layer"
    kernel, bias = _weights(layer)
    return LinearMap.pointwise(kernel, bias, rank)


def _read_normalization(layer, rank):
    if layer.axis % (rank + 2) not in (1, rank + 1):
        return "the batch normalization is not over channels"
    mean, variance = _array(layer.moving_mean), _array(layer.moving_variance)
    scale = 1.0 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * _array(layer.gamma)
    shift = -mean * scale
    if layer.center:
        shift = shift + _array(layer.beta)
    return LinearMap.diagonal(scale, shift, rank)
