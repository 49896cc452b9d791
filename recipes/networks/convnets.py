"""Networks for images whose activations are `SparsePReLU` with a `NonlinearitySparsity` each, or
plain ReLUs."""

import functools

import keras
from keras import layers

from keras_nladv import NonlinearitySparsity, SparsePReLU
from networks.names import family
from networks.token_networks import mixer, vision_transformer

# The layers that every network here is made of.
Conv = functools.partial(
    layers.Conv2D, padding="same", use_bias=False, kernel_initializer="he_normal"
)
DepthwiseConv = functools.partial(
    layers.DepthwiseConv2D, padding="same", use_bias=False, depthwise_initializer="he_normal"
)
# The default momentum, 0.99, lags behind in runs of a few hundred steps.
BatchNorm = functools.partial(layers.BatchNormalization, momentum=0.9)


def convnet(name, input_shape, classes, width=1.0, granularity="channel", mean=0.0, variance=1.0):
    """Builds a network that returns logits.

    Args:
        name: `"resnetD"` with depth D = 6n + 2 (He et al. 2015, section 4.2, with 1x1 projections
            where the stage changes), `"plainD"` (the same without shortcuts) with depth D of 2 or
            more, `"mobilenet"` (a small network of inverted residuals, Sandler et al. 2018,
            with ReLU6), `"vit"` or `"mixer"` (see `networks.token_networks`, with GELU).
        input_shape: Height, width and channels of an image.
        classes: Number of classes.
        width: Factor of all numbers of channels.
        granularity: That of `SparsePReLU`, or `None` for plain ReLUs everywhere, or plain GELUs.
        mean: Mean of the images, per channel; the network standardizes its input.
        variance: Variance of the images, per channel.

    Raises:
        ValueError: If the name is unknown.
    """
    kind, depth = family(name)

    def activation(name, base="relu"):
        if granularity is None:
            is_gelu = base == "gelu"
            return layers.Activation("gelu", name=name) if is_gelu else layers.ReLU(name=name)
        return SparsePReLU(
            granularity=granularity,
            alpha_regularizer=NonlinearitySparsity(0.0),
            activation=base,
            name=name,
        )

    inputs = keras.Input(input_shape)
    # In float32: images may have any range.
    x = layers.Normalization(mean=mean, variance=variance, dtype="float32")(inputs)
    if kind == "resnet":
        x = _resnet(x, (depth - 2) // 6, width, activation)
    elif kind == "plain":
        x = _plain(x, depth - 2, width, activation)
    elif kind == "mobilenet":
        x = _mobilenet(x, width, functools.partial(activation, base="relu6"))
    else:
        build = vision_transformer if kind == "vit" else mixer
        x = build(x, _scaled(128, width), functools.partial(activation, base="gelu"))
    is_image = len(x.shape) == 4
    x = (layers.GlobalAveragePooling2D() if is_image else layers.GlobalAveragePooling1D())(x)
    return keras.Model(inputs, layers.Dense(classes, dtype="float32", name="logits")(x), name=name)


def _resnet(x, blocks, width, activation):
    x = activation("stem")(BatchNorm()(Conv(_scaled(16, width), 3)(x)))
    for stage, base in enumerate((16, 32, 64), start=1):
        filters = _scaled(base, width)
        for block in range(1, blocks + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            shortcut = x
            x = BatchNorm()(Conv(filters, 3, strides=strides)(x))
            x = activation(f"stage{stage}_block{block}_inner")(x)
            x = BatchNorm()(Conv(filters, 3)(x))
            if strides == 2:
                shortcut = BatchNorm()(Conv(filters, 1, strides=2)(shortcut))
            x = activation(f"stage{stage}_block{block}")(layers.add([x, shortcut]))
    return x


def _plain(x, number, width, activation):
    x = activation("stem")(BatchNorm()(Conv(_scaled(16, width), 3)(x)))
    for stage, base in enumerate((16, 32, 64), start=1):
        # The layers are spread evenly; what is left over goes to later stages.
        for layer in range(1, (number + stage - 1) // 3 + 1):
            strides = 2 if stage > 1 and layer == 1 else 1
            x = BatchNorm()(Conv(_scaled(base, width), 3, strides=strides)(x))
            x = activation(f"stage{stage}_layer{layer}")(x)
    return x


def _mobilenet(x, width, activation):
    x = activation("stem")(BatchNorm()(Conv(_scaled(16, width), 3)(x)))
    for stage, (base, blocks) in enumerate([(16, 1), (24, 2), (32, 2), (64, 2)], start=1):
        filters = _scaled(base, width)
        for block in range(1, blocks + 1):
            strides = 2 if stage > 2 and block == 1 else 1
            shortcut = x
            name = f"stage{stage}_block{block}"
            x = activation(f"{name}_expand")(BatchNorm()(Conv(4 * x.shape[-1], 1)(x)))
            x = BatchNorm()(DepthwiseConv(3, strides=strides)(x))
            x = activation(f"{name}_depthwise")(x)
            x = BatchNorm()(Conv(filters, 1)(x))
            if strides == 1 and shortcut.shape[-1] == filters:
                x = layers.add([x, shortcut])
    return activation("head")(BatchNorm()(Conv(_scaled(128, width), 1)(x)))


def _scaled(channels, width):
    return max(round(channels * width), 1)
