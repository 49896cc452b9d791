"""Which Keras layer follows which path rule."""

import math
import string
from dataclasses import replace

import keras
import numpy as np
from keras import layers, ops

from keras_nladv._keras import private
from keras_nladv._keras.pass_mask import PassMask
from keras_nladv.graph.channel_graph import NO_CHANNEL
from keras_nladv.graph.channels import Channels
from keras_nladv.graph.rules import (
    activated,
    activates,
    find_rule,
    merges,
    mixed_operands,
    passes,
    rules_for,
)
from keras_nladv.layers.sparse_prelu import SparsePReLU


def applies_activation(call):
    channels = call.first
    return with_activation(call, channels.labels)


def with_activation(call, labels):
    """Labels behind the `activation` of the layer, a layer or a function."""
    activation = call.operation.activation
    if activation is None:
        return labels
    output = call.outputs[0]
    channels = Channels(labels, tuple(output.shape), output.dtype)
    if isinstance(activation, keras.Operation):
        return call.apply(activation, channels, output)
    rule = find_rule(activation)
    if rule is None:
        name = getattr(activation, "__name__", type(activation).__name__)
        raise ValueError(
            f"The path rules do not know activation function {name!r} of layer '{call.name}'. "
            "Say whether its channels are nonlinear units with "
            f'`keras_nladv.register_path_rule({name}, "activation")`, or `"pass"` if it is linear'
            f"{', by a name that you give it' if name == '<lambda>' else ''}."
        )
    return rule(replace(call, args=(channels,), kwargs={}))


def sparse_prelu(call):
    channels = call.first
    layer, rank = call.operation, len(channels.shape)
    if not layer.built and layer.granularity != "element":
        # Inside `Dense(activation=...)` it has no weights before the model runs. Those of an
        # "element" depend on sizes that may only be assumed here.
        layer.build(channels.shape)
    size = layer.nonlinear.size
    units = np.arange(size)
    if layer.granularity == "channel":
        units = call.on_axis(units, layer.axis, rank)
    else:
        units = units.reshape(
            (1, *channels.shape[1:]) if layer.granularity == "element" else (1,) * rank
        )
    name = getattr(layer.activation, "__name__", type(layer.activation).__name__)
    return activated(call, channels, f"SparsePReLU({name})", units, size)


def prelu(call):
    channels = call.first
    shape = tuple(call.operation.alpha.shape)
    units = np.arange(np.prod(shape)).reshape((1, *shape))
    return activated(call, channels, "PReLU", units, units.size)


def channels_axis(call):
    # Layers on sequences that have no choice have no such attribute, operations may leave it open.
    data_format = getattr(call.operation, "data_format", "channels_last")
    data_format = data_format or keras.config.image_data_format()
    return 1 if data_format == "channels_first" else call.rank - 1


def pools(call):
    """Positions are pooled, resampled, cut or padded; each channel goes on."""
    channels = call.first
    positions = set(range(1, call.rank)) - {channels_axis(call)}
    return call.contracted(channels.labels, positions, keepdims=True)


def dense(call):
    layer = call.operation
    return with_activation(call, einsum(call, "...i,ij->...j", [call.first, layer.kernel]))


def conv(call):
    channels = call.first
    layer = call.operation
    nonzero = call.nonzero(layer.kernel)
    return with_activation(
        call,
        call.mixed(
            channels, channels_axis(call), layer.filters, groups=layer.groups, nonzero=nonzero
        ),
    )


def transposed_conv(call):
    channels = call.first
    layer = call.operation
    nonzero = call.nonzero(ops.swapaxes(layer.kernel, -1, -2))
    return with_activation(
        call, call.mixed(channels, channels_axis(call), layer.filters, nonzero=nonzero)
    )


def depthwise_conv(call):
    chosen = let_through(call.operation)
    if chosen is not None:
        return with_activation(call, call.scaled(passes(call), chosen))
    call.reading.note_given(call.operation, call.first)
    return with_activation(
        call, depthwise(call, call.first, call.operation.kernel, channels_axis(call))
    )


def let_through(operation, factor=1):
    """Which channels a layer lets through that multiplies each with 0 or 1, once and for all, as
    `collapse` writes such: a bool array that broadcasts with its output; `None` if it is another.

    Args:
        operation: A layer or operation.
        factor: What it may multiply with in place of 1.
    """
    if type(operation) is layers.Rescaling:
        factors = np.asarray(operation.scale)
    elif (
        type(operation) is layers.DepthwiseConv2D
        and not operation.trainable
        and operation.data_format == "channels_last"
        and operation.depth_multiplier == 1
        and tuple(operation.kernel.shape[:2]) == (1, 1)
    ):
        factors = ops.convert_to_numpy(operation.kernel).ravel()
    else:
        return None
    return factors != 0 if factors.ndim and np.isin(factors, (0, 1, factor)).all() else None


def depthwise(call, channels, kernel, axis):
    """Labels of channels that are each fed by one channel of the input.

    Args:
        call: The `Call`.
        channels: `Channels`, the input.
        kernel: Tensor of shape (..., channels, multiplier).
        axis: The channels' axis.
    """
    fed = call.along(channels, axis).repeat(np.shape(kernel)[-1])
    nonzero = call.nonzero(kernel)
    if nonzero is None:
        return call.on_axis(call.graph.fan_out(fed), axis)
    nonzero = nonzero.reshape(-1, len(fed)).any(axis=0)
    return call.on_axis(call.graph.fan_out(fed, nonzero), axis)


def separable_conv(call):
    channels = call.first
    layer, axis = call.operation, channels_axis(call)
    between = depthwise(call, channels, layer.depthwise_kernel, axis)
    between = Channels(between, channels.shape, channels.dtype)
    nonzero = call.nonzero(layer.pointwise_kernel)
    return with_activation(call, call.mixed(between, axis, layer.filters, nonzero=nonzero))


def einsum_dense(call):
    layer = call.operation
    return with_activation(call, einsum(call, layer.equation, [call.first, layer.kernel]))


def einsum(call, equation, operands):
    """Labels of an Einstein sum of `Channels` and constants.

    What is summed with a constant is mixed, and the constant's new indices are new channels.
    Indices that it shares with the output make groups; positions, which it does not know, are not
    told apart. Where it is positions that are summed, as where a dense layer mixes tokens, channels
    along other axes go on. Several tensors are operands, like those of a product.
    """
    terms, output = explicit_equation(equation, [len(np.shape(operand)) for operand in operands])
    sizes: dict[str, int] = {}
    carrying, constants = [], []
    for operand, term in zip(operands, terms):
        if not isinstance(operand, Channels):
            sizes.update(zip(term, np.shape(operand)))
            constants.append((call.nonzero(operand), term))
        elif not operand.is_constant:
            carrying.append((operand.labels, term))
    parts = []
    for labels, term in carrying:
        new = [letter for letter in output if letter in sizes and letter not in term]
        summed = [letter for letter in term if letter in sizes and letter not in output]
        varies = {letter for letter, size in zip(term, labels.shape) if size > 1}
        sums_positions = varies & set(output) and all(
            letter not in varies and sizes[letter] > 1 for letter in summed
        )
        mixing = sizes and (new or any(letter not in output for letter in term))
        apart = len(carrying) > 1 or not mixing or not summed or sums_positions
        shared = set(output) if apart else set(output) & set(sizes)
        kept = [letter for letter in term if letter in shared]
        rest = [letter for letter in term if letter not in kept + summed]
        labels = np.einsum(f"{term}->{''.join(kept + summed + rest)}", labels)
        known = dict(zip(kept, labels.shape))
        nonzero = nonzero_factors(constants, known, summed + new)
        if summed and sums_positions:
            mixing = False
            if nonzero is not None:
                axes = tuple(range(len(kept), nonzero.ndim))
                nonzero = nonzero.any(axis=axes)
        if mixing:
            shape = [*known.values(), *(sizes[letter] for letter in summed)]
            rows = np.broadcast_to(labels, (*shape, *labels.shape[len(shape) :]))
            groups, size = (math.prod(x) for x in (known.values(), [sizes[x] for x in new]))
            rows = rows.reshape(groups, math.prod(shape) // groups, -1)
            if nonzero is not None:
                nonzero = nonzero.reshape(groups, -1, size)
            known |= {letter: sizes[letter] for letter in new}
            labels = call.graph.connect(rows, size, nonzero).reshape([*known.values()])
        else:
            labels = call.contracted(labels, range(len(kept), labels.ndim))
            labels = call.scaled(labels, nonzero)
        present = [letter for letter in output if letter in known]
        labels = np.einsum(f"{''.join(known)}->{''.join(present)}", labels)
        parts.append(labels.reshape([known.get(letter, 1) for letter in output]))
    return call.merged(parts)


def nonzero_factors(constants, known, letters):
    """Where a product of constants is not zero, at some position at least.

    Args:
        constants: List of pairs: where a constant is not zero, and the letters of its axes.
        known: Dict from the letters of the first axes of the result to their sizes. Along one of
            size 1, or that no constant has, are positions.
        letters: List of the letters of the other axes.

    Returns:
        Bool array, or `None` if every edge counts.
    """
    if not constants or constants[0][0] is None:
        return None
    equation = ",".join(term for _, term in constants)
    shared = [letter for letter, size in known.items() if letter in equation and size > 1]
    arrays = (nonzero.astype("float32") for nonzero, _ in constants)
    product = np.einsum(f"{equation}->{''.join(shared + letters)}", *arrays) > 0
    absent = [axis for axis, letter in enumerate(known) if letter not in shared]
    product = np.expand_dims(product, absent)
    return np.broadcast_to(product, (*known.values(), *product.shape[len(known) :]))


def explicit_equation(equation, ranks):
    """Splits an equation into the letters of its terms and output, with letters for ellipses."""
    inputs, output = equation.replace(" ", "").split("->")
    terms = inputs.split(",")
    spare = [letter for letter in string.ascii_letters if letter not in equation]
    free = [rank - len(term) + 3 if "." in term else 0 for term, rank in zip(terms, ranks)]
    letters = "".join(spare[: max(free)])
    terms = [
        term.replace("...", letters[len(letters) - count :]) for term, count in zip(terms, free)
    ]
    return terms, output.replace("...", letters)


def embedding(call):
    """The positions of a sequence of ids are one channel, not as many as there are positions."""
    channels = call.first
    layer, size = call.operation, call.outputs[0].shape[-1]
    if call.arguments.get("reverse") is True:
        kernel = ops.transpose(layer.embeddings) if layer.tie_weights else layer.reverse_embeddings
        return call.mixed(channels, -1, size, nonzero=call.nonzero(kernel))
    return looked_up(call, channels, layer.embeddings, size)


def looked_up(call, ids, table, size):
    """Labels of the channels that ids choose from the rows of a table, of constants or weights."""
    source = ids.labels[ids.labels > 0][:1].reshape(1, 1, 1)
    nonzero = None if isinstance(table, Channels) else call.nonzero(table)
    if nonzero is not None:
        nonzero = nonzero.reshape(1, -1, size)
    return call.on_axis(call.graph.connect(source, size, nonzero).ravel(), -1)


def attention(call):
    """Query, key and value, each projected and thereby mixed, are operands of equal weight."""
    query, value, key = (call.arguments.get(name) for name in ("query", "value", "key"))
    operands = [query, value if key is None else key, value]
    outputs = [mixed_operands(call, operands, attention_weights(call))]
    # The scores, if they are returned, and the cache tell no channels apart.
    hub = call.graph.mix(np.concatenate([query.labels.ravel(), value.labels.ravel()]))
    return outputs + [np.full((1,) * len(scores.shape), hub) for scores in call.outputs[1:]]


def attention_weights(call):
    """Which channels of query, key and value feed which outputs, through the heads between them.

    Returns:
        List of three bool arrays, or `None` if every edge counts.
    """
    *projections, output = private.projections(call.operation)
    nonzero = [call.nonzero(kernel) for kernel in projections]
    output = call.nonzero(output)
    if output is None:
        return None
    output = output.reshape(*output.shape[:2], -1)  # (heads, size of a head, outputs)
    # Several query heads may share those of key and value.
    query, key, value = (each.repeat(len(output) // each.shape[1], axis=1) for each in nonzero)
    scored = [each.any(axis=2) @ output.any(axis=1) for each in (query, key)]
    return [*scored, np.einsum("chd,hdo->co", value, output)]


def attention_without_weights(call):
    """Query, key and value are operands, channel by channel."""
    query, value, *key = call.first
    outputs = [call.merged([query.labels, (key or [value])[0].labels, value.labels])]
    return outputs + [call.mean(query.labels) for _ in call.outputs[1:]]


def self_attention(call):
    """An attention layer whose query, key and value are all made of its first argument."""
    kernels = [x for x in call.operation.weights if x.name == "kernel"]
    if any(nonzero is not None and not nonzero.all() for nonzero in map(call.nonzero, kernels)):
        raise ValueError(
            f"Which channels feed which in '{call.name}', a layer of class "
            f"{type(call.operation).__name__} some of whose weights are zero, is not known. Write "
            "a path rule for it, with `keras_nladv.register_path_rule`."
        )
    outputs = [mixed_operands(call, [call.first] * 3)]
    hub = call.graph.mix(call.first.labels)
    return outputs + [np.full((1,) * len(cache.shape), hub) for cache in call.outputs[1:]]


def normalizes(call):
    """Each channel goes on, unless its scale is zero."""
    layer = call.operation
    labels = passes(call)
    scales = [x for x in layer.weights if x.name in ("gamma", "scale", "weight")]
    for nonzero in map(call.nonzero, scales):
        if nonzero is not None:
            axes = np.atleast_1d(getattr(layer, "axis", -1)) % labels.ndim
            sizes = dict(zip(sorted(axes), nonzero.shape))
            shape = [sizes.get(axis, 1) for axis in range(labels.ndim)]
            labels = call.scaled(labels, nonzero.reshape(shape))
    return labels


def rescaling(call):
    """Each channel goes on, unless its factor of several is 0; `collapse` writes such."""
    scale = np.asarray(call.operation.scale)
    return call.scaled(passes(call), scale != 0 if scale.ndim else None)


def concatenate(call):
    axis = call.operation.axis % call.rank
    operands = [
        x
        if isinstance(x, Channels)
        else Channels(np.zeros((1,) * np.ndim(x), int), np.shape(x), "")
        for x in call.first
    ]
    varies = {a for x in operands for a, size in enumerate(x.labels.shape) if size > 1}
    if varies and axis not in varies:
        return call.merged([x.labels for x in operands])
    parts = []
    seen: set[int] = set()
    for x in operands:
        # A channel that is concatenated with itself is two channels from there on.
        labels = x.labels if seen.isdisjoint(x.labels.flat) else call.copied(x.labels)
        seen.update(set(x.labels.flat) - {NO_CHANNEL})
        shape = list(labels.shape)
        shape[axis] = x.shape[axis] or shape[axis]
        parts.append(np.broadcast_to(labels, shape))
    others = np.broadcast_shapes(*((*p.shape[:axis], 1, *p.shape[axis + 1 :]) for p in parts))
    return np.concatenate(
        [np.broadcast_to(p, (*others[:axis], p.shape[axis], *others[axis + 1 :])) for p in parts],
        axis,
    )


def global_pooling(call):
    channels = call.first
    layer = call.operation
    rank = len(channels.shape)
    axes = range(2, rank) if layer.data_format == "channels_first" else range(1, rank - 1)
    return call.contracted(channels.labels, axes, layer.keepdims)


def dot(call):
    """A product of two tensors that is summed over an axis of each."""
    axes = call.operation.axes
    axes = (axes, axes) if isinstance(axes, int) else axes
    terms = []
    for x, letters, axis in zip(call.first, ("abcdefgh", "ijklmnop"), axes):
        term = list(letters[: len(x.shape)])
        term[0], term[axis] = "y", "z"  # The batch, and what is summed.
        terms.append("".join(term))
    output = "y" + "".join(letter for term in terms for letter in term if letter not in "yz")
    return einsum(call, f"{','.join(terms)}->{output}", call.first)


def rearranges(call):
    return call.rearranged()


def told_apart(call, ids, size, axis=-1):
    """Labels of new channels along a new axis, by which ids are told apart."""
    distinct, inverse = np.unique(ids.labels, return_inverse=True)
    fed = call.graph.connect(distinct.reshape(-1, 1, 1), size)
    return np.moveaxis(fed[inverse].reshape(*ids.labels.shape, size), -1, axis)


def encodes(call):
    """Each value becomes an id, or a channel for each id that there is; all of a row, or each."""
    output = call.outputs[0]
    labels = call.merged([x.labels for x in call.carrying])
    shape = keras.tree.flatten(call.first)[0].shape
    if len(shape) < call.rank:
        labels = labels.reshape(labels.shape[call.rank - len(shape) :])
        ids = Channels(labels, shape, output.dtype)
        return told_apart(call, ids, output.shape[-1] or 1)
    if tuple(output.shape[1:]) == tuple(shape[1:]):
        return labels
    return call.mixed(Channels(labels, shape, output.dtype), -1, output.shape[-1] or 1)


def spectrogram(call):
    """Each channel is taken apart into frequencies, which are channels, too."""
    layer, channels, shape = call.operation, call.first, call.outputs[0].shape
    first = layer.data_format == "channels_first"
    labels = call.along(channels, 1 if first else -1)
    if not layer.expand_dims:
        axis = 1 if first else 2
        fed = call.graph.connect(labels.reshape(-1, 1, 1), shape[axis] // len(labels))
        return call.on_axis(fed.ravel(), axis)
    fed = call.graph.connect(labels.reshape(-1, 1, 1), shape[3 if first else 2])
    return fed[:, None, :][None] if first else fed.T[None, None]


def mel_spectrogram(call):
    """Each band is fed by the whole signal, whose samples are positions."""
    return call.mixed(call.first, -1, call.outputs[0].shape[-2], output_axis=-2)


def wrapped(call):
    channels = call.first
    return call.apply(call.operation.layer, channels, call.outputs[0])


def time_distributed(call):
    channels = call.first
    inner = Channels(
        call.contracted(channels.labels, (1,)),
        channels.shape[:1] + channels.shape[2:],
        channels.dtype,
    )
    output = call.outputs[0]
    output = keras.KerasTensor(output.shape[:1] + output.shape[2:], output.dtype)
    return np.expand_dims(call.apply(call.operation.layer, inner, output), 1)


rules_for(applies_activation, layers.Activation)
rules_for(activates, layers.ReLU, layers.LeakyReLU, layers.ELU)
rules_for(sparse_prelu, SparsePReLU)
rules_for(passes, PassMask)
rules_for(prelu, layers.PReLU)
rules_for(dense, layers.Dense)
rules_for(einsum_dense, layers.EinsumDense)
rules_for(conv, layers.Conv1D, layers.Conv2D, layers.Conv3D)
rules_for(transposed_conv, layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
rules_for(depthwise_conv, layers.DepthwiseConv1D, layers.DepthwiseConv2D)
rules_for(separable_conv, layers.SeparableConv1D, layers.SeparableConv2D)
# What older versions of Keras lack, by name.
rules_for(embedding, layers.Embedding, "keras>ReversibleEmbedding")
rules_for(attention, layers.MultiHeadAttention, layers.GroupQueryAttention)
rules_for(attention_without_weights, layers.Attention, layers.AdditiveAttention)
rules_for(
    merges,
    *(layers.Add, layers.Subtract, layers.Average, layers.Maximum, layers.Minimum, layers.Multiply),
)
rules_for(rescaling, layers.Rescaling)
# The other one is what `keras.utils.FeatureSpace` puts its features together with.
rules_for(concatenate, layers.Concatenate, "keras>TFDConcat")
rules_for(dot, layers.Dot)
rules_for(rearranges, layers.Flatten, layers.Reshape, layers.Permute, layers.RepeatVector)
rules_for(wrapped, layers.SpectralNormalization)
rules_for(time_distributed, layers.TimeDistributed)
rules_for(
    normalizes,
    *(layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization),
    layers.RMSNormalization,
)
rules_for(
    passes,
    *(layers.UnitNormalization, layers.Normalization),
    *(layers.Dropout, layers.AlphaDropout, layers.GaussianDropout, layers.GaussianNoise),
    *(layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
    *(layers.ActivityRegularization, layers.Identity, layers.Masking, layers.Softmax),
)
rules_for(
    pools,
    *(layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D),
    *(layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D),
    *(f"keras>Adaptive{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)),
    *(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D),
    *(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D),
    *(layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D),
    *(layers.Resizing, layers.CenterCrop),
)
# Random augmentation does nothing where a model predicts, and what improves images prepares them.
rules_for(
    pools,
    *(layers.RandomCrop, layers.RandomFlip, layers.RandomRotation, layers.RandomTranslation),
    *(layers.RandomZoom, layers.RandomShear, layers.RandomPerspective),
    *(layers.RandomElasticTransform, layers.RandomBrightness, layers.RandomContrast),
    *(layers.RandomColorDegeneration, layers.RandomColorJitter, layers.RandomErasing),
    *(layers.RandomGaussianBlur, layers.RandomGrayscale, layers.RandomHue, layers.RandomInvert),
    *(layers.RandomPosterization, layers.RandomSaturation, layers.RandomSharpness),
    *(layers.AugMix, layers.CutMix, layers.MixUp, layers.RandAugment),
    *(layers.AutoContrast, layers.Equalization, layers.Solarization),
    "keras>ContrastLimitedAdaptiveHistogramEqualization",
)
rules_for(
    encodes,
    *(layers.CategoryEncoding, layers.Discretization, layers.Hashing, layers.HashedCrossing),
    *(layers.IntegerLookup, layers.StringLookup, layers.TextVectorization),
)
rules_for(spectrogram, layers.STFTSpectrogram)
rules_for(mel_spectrogram, layers.MelSpectrogram)
rules_for(
    global_pooling,
    *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D),
    *(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D),
)

NO_UNITS = ("linear", "softmax", "log_softmax", "sparsemax")
UNITS = (
    *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "threshold"),
    *("sigmoid", "sparse_sigmoid", "hard_sigmoid", "log_sigmoid", "hard_silu", "softplus"),
    *("tanh", "hard_tanh", "tanh_shrink", "hard_shrink", "soft_shrink", "softsign"),
    *("sparse_plus", "squareplus", "exponential"),
)
rules_for(passes, *(getattr(keras.activations, name) for name in NO_UNITS))
rules_for(activates, *(getattr(keras.activations, name) for name in UNITS))
# As the `activation` of a layer, the operations do as well.
rules_for(activates, *(getattr(keras.ops, name) for name in UNITS if hasattr(keras.ops, name)))

# Layers and functions of keras-hub, by name: it need not be installed.
rules_for(attention, "keras_hub>CachedMultiHeadAttention")
rules_for(
    self_attention,
    *("keras_hub>BloomAttention", "keras_hub>FalconAttention", "keras_hub>GPTNeoXAttention"),
    *("keras_hub>CachedGemmaAttention", "keras_hub>CachedGemma3Attention"),
    *("keras_hub>GptOssAttention", "keras_hub>LlamaAttention", "keras_hub>Phi3Attention"),
    *("keras_hub>CachedMistralAttention", "keras_hub>CachedMixtralAttention"),
    *("keras_hub>QwenAttention", "keras_hub>QwenMoeAttention", "keras_hub>Qwen3Attention"),
    *("keras_hub>Qwen3MoeAttention", "keras_hub>SmolLM3Attention"),
)
rules_for(
    normalizes,
    *("keras_hub>RMSNormalization", "keras_hub>LlamaLayerNorm", "keras_hub>T5LayerNorm"),
    *("keras_hub>MistralLayerNormalization", "keras_hub>MixtralLayerNormalization"),
    *("keras_hub>QwenLayerNorm", "keras_hub>QwenMoeLayerNorm", "keras_hub>Qwen3LayerNorm"),
    *("keras_hub>Qwen3MoeLayerNorm", "keras_hub>Phi3LayerNorm"),
    "keras_hub>GptOssLayerNormalization",
)
rules_for(passes, "keras_hub>RotaryEmbedding", "keras_hub>SmolLM3RotaryEmbedding")
rules_for(activates, "keras_hub>gelu_approximate")
