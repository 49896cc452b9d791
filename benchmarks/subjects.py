"""The networks that the benchmarks are about, and units of theirs made linear."""

import keras
from keras import layers

import keras_nladv


def inverted_residual(channels, size=16, activation="relu"):
    """Two inverted residuals in a row, expansion 6."""
    inputs = x = keras.Input((size, size, channels))
    for _ in range(2):
        shortcut = x
        for step in (
            layers.Conv2D(6 * channels, 1, use_bias=False),
            layers.BatchNormalization(),
            layers.Activation(activation),
            layers.DepthwiseConv2D(3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.Activation(activation),
            layers.Conv2D(channels, 1, use_bias=False),
            layers.BatchNormalization(),
        ):
            x = step(x)
        x = layers.Add()([x, shortcut])
    return keras.Model(inputs, x)


def feed_forward(narrow=512, wide=2048, activation="relu", tokens=64):
    """The feed-forward block of a Transformer."""
    inputs = keras.Input((tokens, narrow))
    x = layers.Dense(wide, activation=activation)(inputs)
    return keras.Model(inputs, layers.Dense(narrow)(x))


def vision_transformer(blocks=6):
    """192 channels on 36 patches of an image of 96 x 96."""
    inputs = keras.Input((96, 96, 3))
    x = layers.Reshape((36, 192))(layers.Conv2D(192, 16, strides=16)(inputs))
    for _ in range(blocks):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(3, 64)(y, y)])
        y = layers.Dense(768, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(192)(y)])
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))


def mixer(blocks=6):
    """An MLP-Mixer of the same size: 96 units mix the patches, 768 the channels."""
    inputs = keras.Input((96, 96, 3))
    x = layers.Reshape((36, 192))(layers.Conv2D(192, 16, strides=16)(inputs))
    for _ in range(blocks):
        y = layers.Permute((2, 1))(layers.LayerNormalization()(x))
        y = layers.Dense(36)(layers.Dense(96, activation="gelu")(y))
        x = layers.Add()([x, layers.Permute((2, 1))(y)])
        y = layers.Dense(768, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(192)(y)])
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))


def application(name):
    """A network of `keras.applications` for images of 96 x 96."""
    return getattr(keras.applications, name)(weights=None, input_shape=(96, 96, 3), classes=10)


def lenet():
    """LeNet-5-Caffe: 20 and 50 filters, 500 units, for images of 28 x 28."""
    model = keras.Sequential([keras.Input((28, 28, 1))])
    for filters in (20, 50):
        model.add(layers.Conv2D(filters, 5, activation="relu"))
        model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dense(500, activation="relu"))
    model.add(layers.Dense(10))
    return model


def resnet(depth=20, activation=layers.ReLU, input_shape=(32, 32, 3)):
    """The ResNet for CIFAR of He et al. 2015, with 1x1 projections, returning logits.

    Args:
        depth: Integer, 6n + 2.
        activation: Function of no arguments that makes an activation layer.
        input_shape: Height, width and channels of an image.
    """

    def convolved(x, filters, size, strides=1):
        x = layers.Conv2D(filters, size, strides, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    inputs = keras.Input(input_shape)
    x = activation()(convolved(inputs, 16, 3))
    for filters in (16, 32, 64):
        for block in range((depth - 2) // 6):
            strides = 2 if filters > 16 and block == 0 else 1
            y = activation()(convolved(x, filters, 3, strides))
            y = convolved(y, filters, 3)
            x = convolved(x, filters, 1, 2) if strides == 2 else x
            x = activation()(layers.add([x, y]))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def linearized(model, share, rng):
    """A copy with this share of the units linear, the same ones around a depthwise convolution."""
    sparse = keras_nladv.sparsify(model, share_around_depthwise=True, alpha_regularizer=None)
    for layer in sparse.layers:
        if isinstance(layer, keras_nladv.SparsePReLU):
            linear = rng.permutation(layer.alpha.shape[0]) < round(share * layer.alpha.shape[0])
            layer.alpha.assign(linear.astype("float32"))
    return sparse
