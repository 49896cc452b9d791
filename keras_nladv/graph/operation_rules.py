"""Which operation of `keras.ops` follows which path rule.

Operations have no public classes; they are told by the names of their classes. Those that are
missing here are unknown on purpose: `exp`, `sqrt` or `power` are as often part of a normalization,
which does not count, as they are an activation.
"""

import keras
import numpy as np

from keras_nladv import private
from keras_nladv.graph.channel_graph import NO_CHANNEL
from keras_nladv.graph.channels import Channels, compress
from keras_nladv.graph.layer_rules import concatenate, depthwise, einsum, looked_up, rearranges
from keras_nladv.graph.rules import activates, constant, fixed_activation, merges, passes


def product(call):
    """Each tensor is an operand, channel by channel; what is multiplied with 0 does not go on."""
    labels = merges(call)
    for factor in call.arguments.values():
        if not isinstance(factor, Channels):
            labels = call.scaled(labels, call.nonzero(factor))
    return labels


def extremum(call):
    """The larger or smaller of two tensors merges them; with a constant it is a ReLU.

    A unit whose bound no number is beyond is linear; `collapse` writes such. With a lower bound and
    an upper one right behind each other, a unit is one all the same.
    """
    if is_discrete(call):
        return constant(call)
    if len(call.carrying) > 1:
        return merges(call)
    (channels,) = call.carrying
    name, slopes = type(call.operation).__name__.lower(), None
    (bounds,) = (x for x in call.arguments.values() if x is not channels)
    if not isinstance(bounds, Channels):
        bounds, end = keras.ops.convert_to_numpy(bounds), np.finfo("float32").max
        beyond = np.less_equal(bounds, -end) if "max" in name else np.greater_equal(bounds, end)
        slopes = beyond.astype("float64")
    if slopes is not None and clips_on(call, channels, slopes.ravel()):
        return channels.labels
    return fixed_activation(call, channels, name, slopes)


def clips_on(call, channels, slopes):
    """Lets a bound right behind an opposite one be of the same units. Returns whether it is."""
    pair = call.operation, private.producer(call.operation.input)
    if {type(operation).__name__ for operation in pair} != {"Maximum", "Minimum"}:
        return False
    earlier = call.tracer.activation_before(channels)
    if earlier is None or earlier.constant_slopes is None:
        return False
    if slopes.size not in (1, earlier.units):
        return False
    earlier.constant_slopes = np.minimum(earlier.constant_slopes, slopes)
    return True


def quotient(call):
    """Division by a constant passes."""
    return passes(call) if isinstance(call.args[0], Channels) and len(call.carrying) == 1 else None


def matmul(call):
    left, right = call.args
    ranks = [len(np.shape(operand)) for operand in (left, right)]
    equation = "...ij,...jk->...ik"
    if ranks[0] == 1:
        equation = "j,...jk->...k"
    elif ranks[1] == 1:
        equation = "...ij,j->...i"
    return einsum(call, equation, [left, right])


def einsum_operation(call):
    return einsum(call, call.operation.subscripts, call.args)


def conv(call):
    channels, kernel = call.args
    axis = convolution_axis(call)
    *_, inputs, outputs = np.shape(kernel)
    groups = channels.shape[axis] // inputs
    return call.mixed(channels, axis, outputs, groups=groups, nonzero=call.nonzero(kernel))


def depthwise_conv(call):
    channels, kernel = call.args
    return depthwise(call, channels, kernel, convolution_axis(call))


def convolution_axis(call):
    data_format = call.operation.data_format or keras.config.image_data_format()
    return 1 if data_format == "channels_first" else -1


def reduction(call):
    channels = call.first
    axes = call.operation.axis
    if axes is None:
        axes = range(len(channels.shape))
    axes = [axes] if isinstance(axes, int) else axes
    return call.contracted(channels.labels, axes, call.operation.keepdims)


def choice(call):
    """A known mask takes each channel from one side; of a mask of constants that is not known, both
    sides are operands; a mask of values is unknown."""
    condition, *sides = call.args
    if not isinstance(condition, Channels):
        labels = [x.labels if isinstance(x, Channels) else NO_CHANNEL for x in sides]
        return compress(np.where(keras.ops.convert_to_numpy(condition), *labels))
    return merges(call) if condition.is_constant else None


def comparison(call):
    """Comparing ids makes masks, through which no path leads; comparing values is unknown."""
    return constant(call) if is_discrete(call) else None


def is_discrete(call):
    """Whether all that a call gets are ids or masks."""
    return all("int" in x.dtype or x.dtype == "bool" for x in call.carrying)


def lookup(call):
    """Taking rows of a constant by ids is an embedding."""
    if isinstance(call.args[0], Channels):
        return call.rearranged()
    return looked_up(call, call.carrying[0], call.args[0], call.outputs[0].shape[-1])


def dot_product_attention(call):
    return call.merged([call.arguments[name].labels for name in ("query", "key", "value")])


RULES = {
    activates: (
        "Relu ReLU Relu6 LeakyRelu Elu Selu Celu Gelu Silu HardSilu Threshold "
        "Tanh HardTanh TanhShrink Sigmoid SparseSigmoid HardSigmoid LogSigmoid Softplus Softsign "
        "SparsePlus Squareplus SoftShrink HardShrink"
    ),
    passes: (
        "Cast SaturateCast ConvertToTensor StopGradient Copy Negative NanToNum Identity Softmax "
        "LogSoftmax Sparsemax Normalize BatchNorm LayerNorm RMSNorm MaxPool AveragePool "
        "AdaptiveMaxPool AdaptiveAveragePool Resize PadImages CropImages"
    ),
    merges: "Add Subtract Average",
    product: "Multiply",
    extremum: "Maximum Minimum Fmax Fmin",
    quotient: "Divide TrueDivide DivideNoNan",
    matmul: "Matmul",
    einsum_operation: "Einsum",
    conv: "Conv",
    depthwise_conv: "DepthwiseConv",
    reduction: "Mean Sum Max Min Amax Amin",
    choice: "Where",
    comparison: (
        "Equal NotEqual Greater GreaterEqual Less LessEqual LogicalAnd LogicalOr LogicalNot "
        "LogicalXor Any All Isclose Isnan Isinf Isfinite IsIn Argmax Argmin"
    ),
    constant: "OnesLike ZerosLike FullLike EmptyLike Size Ndim",
    lookup: "Take OneHot",
    concatenate: "Concatenate",
    dot_product_attention: "DotProductAttention",
    rearranges: (
        "Reshape Transpose Moveaxis Swapaxes Squeeze ExpandDims GetItem Split ArraySplit Unstack "
        "Stack Flip Fliplr Flipud Roll Repeat Tile BroadcastTo Pad Ravel Rot90 Diagonal Slice "
        "SliceUpdate Hstack Vstack Dstack Hsplit Vsplit Rearrange DepthToSpace SpaceToDepth"
    ),
}
OPERATION_RULES = {name: rule for rule, names in RULES.items() for name in names.split()}
