"""Which operation of `keras.ops` follows which path rule.

Operations have no public classes; they are told by the names of their classes. Those that are
missing here are unknown on purpose: `exp`, `log` or `sin` are as often part of a softmax, a loss or
a code of positions, which do not count, as they are an activation. Powers and roots, of which
normalization by hand is made, pass.
"""

import math
import string

import keras
import numpy as np

from keras_nladv._keras import private
from keras_nladv.graph.around_zero import BOUND, CLIPPED
from keras_nladv.graph.channel_graph import NO_CHANNEL
from keras_nladv.graph.channels import Channels, compress
from keras_nladv.graph.layer_rules import (
    channels_axis,
    concatenate,
    depthwise,
    einsum,
    let_through,
    looked_up,
    pools,
    rearranges,
    told_apart,
)
from keras_nladv.graph.rules import activates, constant, fixed_activation, merges, passes

# Classes of operations that put out at least 0 and at most 1.
GATES = ("Sigmoid", "HardSigmoid")


def product(call):
    """Each tensor is an operand, channel by channel; what is multiplied with 0 does not go on."""
    labels = by_own_gate(call)
    if labels is not None:
        return labels
    labels = merges(call)
    for factor in call.arguments.values():
        if not isinstance(factor, Channels):
            labels = call.scaled(labels, call.nonzero(factor))
    return labels


def extremum(call):
    """The larger or smaller of two tensors merges them; with a constant it is a ReLU.

    A unit whose bound no number is beyond is linear; `collapse` writes such. With a lower bound and
    an upper one right behind each other, a unit is one all the same; with a lower bound of 1, a
    gate is always open.
    """
    if call.is_discrete or len(call.carrying) > 1:
        return merges(call)
    (channels,) = call.carrying
    name = type(call.operation).__name__.lower()
    (bound,) = (x for x in call.arguments.values() if x is not channels)
    if name == "maximum" and opens_on(call, channels, bound):
        return channels.labels
    beyond = is_beyond(bound, np.greater_equal if "min" in name else np.less_equal)
    slopes = None if beyond is None else beyond.astype("float64")
    if slopes is not None and clips_on(call, channels, slopes.ravel()):
        return channels.labels
    return fixed_activation(call, channels, name, slopes)


def opens_on(call, channels, bound):
    """Lets units of a gate be linear that a lower bound of 1 keeps open, where the others have
    that of 0, which they have anyway. Returns whether it is so."""
    if isinstance(bound, Channels):
        return False
    gate = type(private.producer(call.operation.input)).__name__
    earlier = call.reading.activation_before(channels)
    if gate not in GATES or earlier is None:
        return False
    bound = keras.ops.convert_to_numpy(bound).astype("float64")
    if bound.size != earlier.units or not np.isin(bound, (0.0, 1.0)).all():
        return False
    earlier.constant_slopes = bound.ravel()
    call.reading.note_open_gate(call.operation)
    return True


def by_own_gate(call):
    """Labels of a product of a tensor with its own gate, kept open for some units, as `collapse`
    writes SiLU: together they are that activation, and there is no path around it.

    A gate is kept open by a bound, or by a number in place of the tensor.

    Returns:
        Integer array of labels, or `None` if it is another product.
    """
    # A layer may have more tensors, or several calls.
    is_layer = isinstance(call.operation, keras.Layer)
    if is_layer or isinstance(call.operation.input, keras.KerasTensor):
        return None
    tensor, opened = call.operation.input
    channels, gate = call.arguments.values()
    made = private.producer(opened)
    if call.reading.is_open_gate(made):
        return gate.labels if private.producer(made.input).input is tensor else None
    if type(made).__name__ == "Multiply" and isinstance(made.input, keras.KerasTensor):
        made = private.producer(made.input)
    name = type(made).__name__
    if name not in (*GATES, "Relu6"):
        return None
    # What it gates may have been divided by 6 in the layer before, since it is open at 6.
    reaching = let_through(private.producer(made.input), 6 if name == "Relu6" else 1)
    if reaching is None or private.source(made.input).arguments.keras_tensors != [tensor]:
        return None
    earlier = call.reading.activation_before(gate)
    if earlier is not None and earlier.units == reaching.size:
        earlier.constant_slopes = (~reaching).ravel().astype("float64")
    return np.where(reaching, gate.labels, channels.labels)


def clips_on(call, channels, slopes):
    """Lets a bound right behind an opposite one, or behind both, be of the same units. Returns
    whether it is.

    So it is if the same units are linear for all, as `collapse` writes; else it is another
    activation.
    """
    made = private.producer(call.operation.input)
    name, before = type(call.operation).__name__, type(made).__name__
    earlier = call.reading.activation_before(channels)
    if earlier is None or earlier.constant_slopes is None:
        return False
    # Behind the second of two bounds the activation is still the first: it is complete.
    if type(earlier.layer) is not type(made) or slopes.size not in (1, earlier.units):
        return False
    if (slopes != earlier.constant_slopes).any():
        return False
    bounds = {"Maximum", "Minimum"}
    return {name, before} == bounds or (before == "Clip" and name in bounds and slopes.any())


def clip(call):
    """Between two constants, a hyperbolic tangent made of straight pieces."""
    if call.is_discrete:
        return merges(call)
    below, above = (
        is_beyond(bound, compare)
        for bound, compare in (
            (call.operation.x_min, np.less_equal),
            (call.operation.x_max, np.greater_equal),
        )
    )
    slopes = (below & above).astype("float64")
    low, high = call.operation.x_min, call.operation.x_max
    if not (type(low) is type(high) is float and low <= BOUND < -BOUND <= high):
        return fixed_activation(call, call.first, "clip", slopes)
    maker = private.producer(call.operation.input)
    return fixed_activation(call, call.first, "clip", slopes, maker=maker, straight=CLIPPED)


def is_beyond(bound, compare):
    """Where no number is beyond a bound: a bool array, or `None` if that is not known."""
    if isinstance(bound, Channels):
        return None
    if bound is None:
        return np.array(True)
    end = np.finfo("float32").max
    bound = keras.ops.convert_to_numpy(bound)
    return np.asarray(compare(bound, end if compare is np.greater_equal else -end))


def power(call):
    """The power of a tensor by a number passes, as roots do."""
    exponent = [*call.arguments.values()][1]
    by_number = call.first in call.carrying and not isinstance(exponent, Channels)
    return merges(call) if by_number else of_ids(call)


def of_ids(call):
    """Arithmetic and comparisons of ids and masks make ids and masks; of values it is unknown."""
    return merges(call) if call.is_discrete else None


def padding(call):
    """Equality of data with a number, which tells what is padded or missing, makes a mask.

    Such numbers choose, as ids do. Behind an activation, whose values may often be that number, or
    between values, it is a step made of them, which is unknown.
    """
    if call.is_discrete:
        return merges(call)
    (channels, *others) = call.carrying
    if others or call.graph.is_behind_units(channels.labels):
        return None
    return merges(call)


def matmul(call):
    left, right = call.arguments.values()
    ranks = [len(np.shape(operand)) for operand in (left, right)]
    equation = "...ij,...jk->...ik"
    if ranks == [1, 1]:
        equation = "j,j->"
    elif ranks[0] == 1:
        equation = "j,...jk->...k"
    elif ranks[1] == 1:
        equation = "...ij,j->...i"
    return einsum(call, equation, [left, right])


def tensordot(call):
    left, right = call.arguments.values()
    axes = call.operation.axes
    ranks = [len(np.shape(operand)) for operand in (left, right)]
    if isinstance(axes, int):
        axes = range(ranks[0] - axes, ranks[0]), range(axes)
    return contraction(call, left, right, *map(np.atleast_1d, axes))


def dot(call):
    """The last axis of one tensor with the last but one of the other, as in NumPy."""
    left, right = call.arguments.values()
    ranks = [len(np.shape(operand)) for operand in (left, right)]
    if 0 in ranks:
        return product(call)
    return contraction(call, left, right, [-1], [-2 if ranks[1] > 1 else -1])


def inner(call):
    left, right = call.arguments.values()
    if not np.shape(left) or not np.shape(right):
        return product(call)
    return contraction(call, left, right, [-1], [-1])


def contraction(call, left, right, left_axes, right_axes):
    """Labels of a product of two tensors that is summed over pairs of axes."""
    letters = iter(string.ascii_letters)
    terms = [[next(letters) for _ in np.shape(operand)] for operand in (left, right)]
    for one, other in zip(left_axes, right_axes):
        terms[1][other] = terms[0][one]
    output = [letter for term in terms for letter in term if not set(letter) <= shared(*terms)]
    equation = ",".join(map("".join, terms)) + "->" + "".join(output)
    return einsum(call, equation, [left, right])


def shared(left, right):
    return set(left) & set(right)


def vdot(call):
    left, right = (flat(call, operand) for operand in call.arguments.values())
    return einsum(call, "i,i->", [left, right])


def outer(call):
    left, right = (flat(call, operand) for operand in call.arguments.values())
    return einsum(call, "i,j->ij", [left, right])


def flat(call, operand):
    """An operand with one axis, by which its channels are told apart whatever its size is."""
    if not isinstance(operand, Channels):
        return keras.ops.reshape(operand, -1)
    return Channels(compress(operand.full_labels().ravel()), (None,), operand.dtype)


def einsum_operation(call):
    return einsum(call, call.operation.subscripts, call.args)


def conv(call):
    channels, kernel = call.arguments.values()
    axis = channels_axis(call)
    *_, inputs, outputs = np.shape(kernel)
    groups = channels.shape[axis] // inputs
    return call.mixed(channels, axis, outputs, groups=groups, nonzero=call.nonzero(kernel))


def transposed_conv(call):
    channels, kernel = call.arguments.values()
    size = np.shape(kernel)[-2]
    nonzero = call.nonzero(keras.ops.swapaxes(kernel, -1, -2))
    return call.mixed(channels, channels_axis(call), size, nonzero=nonzero)


def separable_conv(call):
    channels, kernel, pointwise = call.arguments.values()
    axis = channels_axis(call)
    between = Channels(depthwise(call, channels, kernel, axis), channels.shape, channels.dtype)
    size = np.shape(pointwise)[-1]
    return call.mixed(between, axis, size, nonzero=call.nonzero(pointwise))


def depthwise_conv(call):
    channels, kernel = call.arguments.values()
    return depthwise(call, channels, kernel, channels_axis(call))


def reduction(call):
    """Statistics over axes: what lies along them is mixed, as by pooling."""
    operation, channels = call.operation, call.first
    if len(call.carrying) > 1:
        return None  # An average whose weights are made of inputs.
    axes = operation.axes if hasattr(operation, "axes") else operation.axis
    if axes is None:
        axes = range(len(channels.shape))
    axes = [axes] if isinstance(axes, int) else axes
    labels = call.contracted(channels.labels, axes, getattr(operation, "keepdims", False))
    # Several quantiles are one channel still: they lie along a first axis.
    labels = labels.reshape((1,) * (call.rank - labels.ndim) + labels.shape)
    return [labels for _ in call.outputs]


def trace(call):
    operation, channels = call.operation, call.first
    axes = operation.axis1, operation.axis2
    return call.contracted(channels.labels, axes)


def segments(call):
    """Rows that are put together, by ids that choose."""
    return call.contracted(call.arguments["data"].labels, [0], keepdims=True)


def reduction_of_ids(call):
    return reduction(call) if call.is_discrete else None


def running(call):
    """What is summed up along an axis feeds all that comes after it."""
    channels, axis = call.first, call.operation.axis
    labels = channels.labels
    if axis is None:
        labels, axis = flat(call, channels).labels, 0
    size = labels.shape[axis]
    return call.linear(labels, axis, size, np.triu(np.ones((size, size), bool)))


def differences(call):
    labels, axis, order = call.first.labels, call.operation.axis, call.operation.n
    size = labels.shape[axis]
    feeds = np.diff(np.eye(size), n=order, axis=1) != 0
    return call.linear(labels, axis, size - order, feeds)


def gated(call):
    """One half of the channels, multiplied with the sigmoid of the other."""
    channels, axis = call.first, call.operation.axis % call.rank
    if channels.labels.shape[axis] > 1:
        values, gates = np.split(channels.labels, 2, axis)
    else:
        values = gates = channels.labels
    shape = tuple(call.outputs[0].shape)
    gates = fixed_activation(call, Channels(gates, shape, channels.dtype), "sigmoid")
    return call.merged([values, gates])


def patches(call):
    """Each element of a patch is a channel of the output: that which it belongs to."""
    size = call.operation.size
    size = (size, size) if isinstance(size, int) else size
    axis = -1 if call.operation.data_format == "channels_last" else -len(size) - 1
    return call.on_axis(np.tile(call.along(call.first, axis), math.prod(size)), axis)


def grayscale(call):
    return call.mixed(call.first, -1, 1)  # One channel, along whichever axis.


def images(call):
    """Positions of images are resampled, cut or padded; each channel goes on."""
    channels = call.first
    axis = -1 if call.operation.data_format == "channels_last" else -3
    positions = {-1, -2, -3} - {axis}
    return call.contracted(channels.labels, positions, keepdims=True)


def choice(call):
    """A known mask takes each channel from one side; of a mask that is not known, both sides are
    operands."""
    condition, *sides = call.arguments.values()
    if not isinstance(condition, Channels):
        labels = [x.labels if isinstance(x, Channels) else NO_CHANNEL for x in sides]
        return compress(np.where(keras.ops.convert_to_numpy(condition), *labels))
    # Ids as conditions are true where they are not 0.
    if not call.graph.is_mask(condition.labels) and "int" not in condition.dtype:
        return None
    carrying = [x for x in call.carrying if x is not condition] or [condition]
    return call.merged([x.labels for x in carrying])


def one_hot(call):
    """Each id is told by new channels."""
    return told_apart(call, call.first, call.operation.num_classes, call.operation.axis)


def many_hot(call):
    """All ids along the axis are told by the same new channels."""
    return call.mixed(call.first, -1, call.operation.num_classes)


def lookup(call):
    """Taking rows of a constant by ids is an embedding; of a tensor, any row may be taken."""
    table, ids = call.arguments.values()
    if not isinstance(ids, Channels):
        return call.rearranged()
    if not isinstance(table, Channels) or table.is_constant:
        return looked_up(call, ids, table, call.outputs[0].shape[-1])
    axis = call.operation.axis
    labels = call.contracted(table.labels, range(len(table.shape)) if axis is None else [axis])
    axis = 0 if axis is None else axis % len(table.shape)
    return np.expand_dims(labels, tuple(axis + i for i in range(len(ids.shape))))


def lookup_along(call):
    """As `lookup`, with a place for each element."""
    table, places = call.arguments.values()
    if not isinstance(table, Channels):
        return of_ids(call)
    if not isinstance(places, Channels):
        return call.rearranged()
    if table.is_constant:
        return of_ids(call)
    axis = call.operation.axis
    if axis is None:
        return call.mean(table.labels.ravel())
    return call.contracted(table.labels, [axis], keepdims=True)


def item(call):
    """A part of a tensor, at places that are known."""
    tensor, key = call.arguments.values()
    places = keras.tree.flatten(key)
    known = isinstance(tensor, Channels) and not any(isinstance(x, Channels) for x in places)
    return call.rearranged() if known else None


def dot_product_attention(call):
    return call.merged([call.arguments[name].labels for name in ("query", "key", "value")])


RULES = {
    activates: (
        "Relu ReLU Relu6 LeakyRelu Elu Selu Celu Gelu Silu HardSilu Threshold Mish "
        "Tanh HardTanh TanhShrink Sigmoid SparseSigmoid HardSigmoid LogSigmoid Softplus Softsign "
        "SparsePlus Squareplus SoftShrink HardShrink"
    ),
    passes: (
        "Cast SaturateCast ConvertToTensor Array StopGradient Copy Negative NanToNum Softmax "
        "LogSoftmax Sparsemax Normalize BatchNorm LayerNorm RMSNorm Deg2rad Rad2deg "
        "Square Sqrt Rsqrt Reciprocal"
    ),
    pools: "MaxPool AveragePool AdaptiveMaxPool AdaptiveAveragePool",
    images: ("Resize PadImages CropImages AffineTransform PerspectiveTransform"),
    merges: "Add Subtract Divide TrueDivide DivideNoNan",
    product: "Multiply",
    extremum: "Maximum Minimum Fmax Fmin",
    clip: "Clip",
    power: "Power",
    matmul: "Matmul",
    tensordot: "Tensordot",
    dot: "Dot",
    inner: "Inner",
    vdot: "Vdot",
    outer: "Outer",
    einsum_operation: "Einsum",
    conv: "Conv",
    transposed_conv: "ConvTranspose",
    separable_conv: "SeparableConv",
    depthwise_conv: "DepthwiseConv",
    reduction: (
        "Mean Sum Prod Max Min Amax Amin Median Quantile Percentile Std Var Moments Logsumexp Norm "
        "Average Trapezoid Ptp Nanmax Nanmin Nanmean Nansum Nanprod Nanstd Nanvar Nanmedian "
        "Nanquantile Nanpercentile"
    ),
    reduction_of_ids: "Any All Argmax Argmin",
    trace: "Trace",
    segments: "SegmentSum SegmentMax SegmentMin SegmentProd",
    grayscale: "RGBToGrayscale",
    running: "Cumsum Cumprod Nancumsum Nancumprod",
    differences: "Diff",
    gated: "Glu",
    patches: "ExtractPatches",
    choice: "Where",
    one_hot: "OneHot",
    many_hot: "MultiHot",
    lookup: "Take",
    lookup_along: "TakeAlongAxis",
    item: "GetItem",
    padding: "Equal NotEqual IsIn Isnan Isinf Isposinf Isneginf Isfinite",
    of_ids: (
        "Greater GreaterEqual Less LessEqual LogicalAnd LogicalOr LogicalNot "
        "LogicalXor Isclose Mod Fmod FloorDivide BitwiseAnd BitwiseInvert BitwiseNot "
        "BitwiseOr BitwiseXor BitwiseLeftShift BitwiseRightShift LeftShift RightShift Gcd Lcm Abs "
        "Absolute Fabs Sign Floor Ceil Round Trunc Exp Exp2 "
        "Expm1 Log Log2 Log10 Log1p Sin Cos"
    ),
    constant: "OnesLike ZerosLike FullLike EmptyLike Size Ndim",
    concatenate: "Concatenate",
    dot_product_attention: "DotProductAttention",
    rearranges: (
        "Reshape Transpose Moveaxis Swapaxes Squeeze ExpandDims Split ArraySplit Unstack "
        "Stack Flip Fliplr Flipud Roll Repeat Tile BroadcastTo Pad Ravel Rot90 Diagonal Slice "
        "SliceUpdate Hstack Vstack Dstack Hsplit Vsplit Dsplit Rearrange DepthToSpace SpaceToDepth "
        "Append Diag Diagflat Tril Triu Meshgrid ExtractSequences"
    ),
}
OPERATION_RULES = {name: rule for rule, names in RULES.items() for name in names.split()}
