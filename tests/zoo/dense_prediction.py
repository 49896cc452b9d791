"""Networks whose outputs are images, and those that make images out of noise."""

import math

import keras
import numpy as np
from keras import layers, ops

from keras_nladv import register_path_rule
from tests.zoo.registry import specimen


@specimen
def unet_xception():
    """Segmentation of pets: separable convolutions, transposed ones, residuals."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("relu")(x)
    previous = x
    for filters in (6,):
        for _ in range(2):
            x = layers.Activation("relu")(x)
            x = layers.SeparableConv2D(filters, 3, padding="same")(x)
            x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        x = layers.add([x, layers.Conv2D(filters, 1, strides=2, padding="same")(previous)])
        previous = x
    for filters in (6, 4):
        for _ in range(2):
            x = layers.Activation("relu")(x)
            x = layers.Conv2DTranspose(filters, 3, padding="same")(x)
            x = layers.BatchNormalization()(x)
        x = layers.UpSampling2D(2)(x)
        residual = layers.Conv2D(filters, 1, padding="same")(layers.UpSampling2D(2)(previous))
        previous = x = layers.add([x, residual])
    return keras.Model(inputs, layers.Conv2D(3, 3, activation="softmax", padding="same")(x))


@specimen
def unet():
    """The first U-Net: concatenated shortcuts."""

    def block(x, filters):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        return x

    inputs = keras.Input((8, 8, 1))
    first = block(inputs, 3)
    x = block(layers.Dropout(0.3)(layers.MaxPooling2D(2)(first)), 5)
    x = layers.Conv2DTranspose(3, 3, 2, padding="same")(x)
    x = block(layers.concatenate([x, first]), 3)
    return keras.Model(inputs, layers.Conv2D(2, 1, padding="same", activation="softmax")(x))


@specimen
def deeplab_v3_plus():
    """Dilated spatial pyramid pooling, and bilinear upsampling."""

    def block(x, filters=4, size=3, rate=1):
        x = layers.Conv2D(
            filters, size, dilation_rate=rate, padding="same", use_bias=False,
            kernel_initializer=keras.initializers.HeNormal(),
        )(x)  # fmt: skip
        return ops.nn.relu(layers.BatchNormalization()(x))

    def pyramid(dspp_input):
        dims = dspp_input.shape
        x = layers.AveragePooling2D(pool_size=(dims[-3], dims[-2]))(dspp_input)
        x = block(x, size=1)
        out_pool = layers.UpSampling2D(
            size=(dims[-3] // x.shape[1], dims[-2] // x.shape[2]), interpolation="bilinear"
        )(x)
        rates = [block(dspp_input, size=1, rate=1), block(dspp_input, rate=2)]
        return block(layers.Concatenate(axis=-1)([out_pool, *rates]), size=1)

    inputs = keras.Input((8, 8, 3))
    low = block(inputs)
    x = pyramid(block(layers.MaxPooling2D(2)(low)))
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = block(layers.Concatenate(axis=-1)([x, block(low, 2, size=1)]))
    return keras.Model(inputs, layers.Conv2D(3, 1, padding="same")(x))


@specimen
def dcgan_generator():
    noise = keras.Input((6,))
    x = layers.Reshape((2, 2, 4))(layers.Dense(2 * 2 * 4)(noise))
    for filters in (6, 4):
        x = layers.Conv2DTranspose(filters, kernel_size=4, strides=2, padding="same")(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.Conv2D(3, kernel_size=5, padding="same", activation="sigmoid")(x)
    return keras.Model(noise, x, name="generator")


@specimen
def dcgan_discriminator():
    return keras.Sequential(
        [
            keras.Input(shape=(8, 8, 3)),
            layers.Conv2D(4, kernel_size=4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2D(6, kernel_size=4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(1, activation="sigmoid"),
        ],
        name="discriminator",
    )


@keras.saving.register_keras_serializable(package="zoo")
class Sampling(layers.Layer):
    """Uses (z_mean, z_log_var) to sample z, the vector encoding a digit."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs):
        z_mean, z_log_var = inputs
        batch = ops.shape(z_mean)[0]
        dim = ops.shape(z_mean)[1]
        epsilon = keras.random.normal(shape=(batch, dim), seed=self.seed_generator)
        return z_mean + ops.exp(0.5 * z_log_var) * epsilon


# What errors ask of users: the library does not guess what an exponential or a sine is to a path.
register_path_rule(Sampling, "merge")


@specimen
def variational_autoencoder():
    encoder_inputs = keras.Input(shape=(8, 8, 1))
    x = layers.Conv2D(4, 3, activation="relu", strides=2, padding="same")(encoder_inputs)
    x = layers.Flatten()(x)
    x = layers.Dense(5, activation="relu")(x)
    z_mean = layers.Dense(2, name="z_mean")(x)
    z_log_var = layers.Dense(2, name="z_log_var")(x)
    z = Sampling()([z_mean, z_log_var])
    encoder = keras.Model(encoder_inputs, [z_mean, z_log_var, z], name="encoder")
    latent_inputs = keras.Input(shape=(2,))
    x = layers.Dense(4 * 4 * 3, activation="relu")(latent_inputs)
    x = layers.Reshape((4, 4, 3))(x)
    x = layers.Conv2DTranspose(4, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Conv2DTranspose(1, 3, activation="sigmoid", padding="same")(x)
    decoder = keras.Model(latent_inputs, x, name="decoder")
    inputs = keras.Input(shape=(8, 8, 1))
    z_mean, z_log_var, z = encoder(inputs)
    return keras.Model(inputs, [decoder(z), z_mean, z_log_var])


@keras.saving.register_keras_serializable(package="zoo")
class AdaIN(layers.Layer):
    """Instance normalization, whose scale and shift come of a style."""

    def build(self, input_shapes):
        x_shape, w_shape = input_shapes
        self.w_channels, self.x_channels = w_shape[-1], x_shape[-1]
        self.dense_1 = layers.Dense(self.x_channels)
        self.dense_2 = layers.Dense(self.x_channels)
        self.dense_1.build(w_shape)
        self.dense_2.build(w_shape)

    def call(self, inputs):
        x, w = inputs
        mean = ops.mean(x, axis=[1, 2], keepdims=True)
        x = (x - mean) / (ops.std(x, axis=[1, 2], keepdims=True) + 1e-5)
        ys = ops.reshape(self.dense_1(w), (-1, 1, 1, self.x_channels))
        yb = ops.reshape(self.dense_2(w), (-1, 1, 1, self.x_channels))
        return ys * x + yb


@keras.saving.register_keras_serializable(package="zoo")
class AddNoise(layers.Layer):
    def build(self, input_shape):
        size = input_shape[0][-1]
        self.b = self.add_weight(shape=(1, 1, 1, size), initializer="ones", name="kernel")

    def call(self, inputs):
        x, noise = inputs
        return x + self.b * noise


@specimen
def stylegan_block():
    """A mapping network, noise and a style for each convolution."""
    latent = keras.Input((4,))
    w = latent / (ops.sqrt(ops.mean(latent**2, axis=-1, keepdims=True)) + 1e-8)
    for _ in range(2):
        w = layers.LeakyReLU(0.2)(layers.Dense(4)(w))
    x = image = keras.Input((4, 4, 3))
    noise = keras.Input((8, 8, 1))
    x = layers.UpSampling2D((2, 2))(x)
    for _ in range(2):
        x = layers.Conv2D(4, 3, padding="same")(x)
        x = AddNoise()([x, noise])
        x = layers.LeakyReLU(0.2)(x)
        x = AdaIN()([x, w])
    return keras.Model([image, latent, noise], layers.Conv2D(3, 1)(x))


@keras.saving.register_keras_serializable(package="zoo")
def sinusoidal_embedding(x):
    frequencies = ops.exp(ops.linspace(ops.log(1.0), ops.log(1000.0), 2))
    angular_speeds = ops.cast(2.0 * math.pi * frequencies, "float32")
    return ops.concatenate([ops.sin(angular_speeds * x), ops.cos(angular_speeds * x)], axis=3)


register_path_rule(sinusoidal_embedding, "mixing")


@specimen
def ddim_unet():
    """Denoising diffusion implicit models: a residual U-Net of swish, with a clock."""

    def residual_block(width):
        def apply(x):
            residual = x if x.shape[3] == width else layers.Conv2D(width, kernel_size=1)(x)
            x = layers.BatchNormalization(center=False, scale=False)(x)
            x = layers.Conv2D(width, kernel_size=3, padding="same", activation="swish")(x)
            x = layers.Conv2D(width, kernel_size=3, padding="same")(x)
            return layers.Add()([x, residual])

        return apply

    def down_block(width):
        def apply(x):
            x, skips = x
            x = residual_block(width)(x)
            skips.append(x)
            return layers.AveragePooling2D(pool_size=2)(x)

        return apply

    def up_block(width):
        def apply(x):
            x, skips = x
            x = layers.UpSampling2D(size=2, interpolation="bilinear")(x)
            return residual_block(width)(layers.Concatenate()([x, skips.pop()]))

        return apply

    noisy_images = keras.Input((8, 8, 3))
    noise_variances = keras.Input((1, 1, 1))
    e = layers.Lambda(sinusoidal_embedding, output_shape=(1, 1, 4))(noise_variances)
    e = layers.UpSampling2D(size=8, interpolation="nearest")(e)
    x = layers.Concatenate()([layers.Conv2D(4, kernel_size=1)(noisy_images), e])
    skips = []
    x = down_block(4)([x, skips])
    x = residual_block(6)(x)
    x = up_block(4)([x, skips])
    x = layers.Conv2D(3, kernel_size=1, kernel_initializer="random_normal")(x)
    return keras.Model([noisy_images, noise_variances], x, name="residual_unet")


@specimen
def super_resolution():
    """Sub-pixel convolutions on one channel of images of unknown size, then SRGAN's PReLU."""
    inputs = keras.Input(shape=(None, None, 1))
    x = layers.Conv2D(4, 5, activation="relu", padding="same")(inputs)
    x = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(4, 3, padding="same")(x))
    x = layers.Conv2D(4, 3, activation="relu", padding="same")(x)
    return keras.Model(inputs, layers.UpSampling2D(2)(layers.Conv2D(1, 3, padding="same")(x)))


@specimen
def zero_dce():
    """Low light: curves that are applied again and again to the image."""
    image = keras.Input((8, 8, 3))
    one = layers.Conv2D(4, 3, activation="relu", padding="same")(image)
    two = layers.Conv2D(4, 3, activation="relu", padding="same")(one)
    joined = layers.Concatenate(axis=-1)([two, one])
    curves = layers.Conv2D(6, 3, activation="tanh", padding="same")(joined)
    x = image
    for r in (curves[:, :, :, :3], curves[:, :, :, 3:6]):
        x = x + r * (ops.square(x) - x)
    return keras.Model(image, x)


@keras.saving.register_keras_serializable(package="zoo")
class SineLayer(layers.Layer):
    """Random Fourier features of rays, as in NeRF."""

    def __init__(self, positions=2, **kwargs):
        super().__init__(**kwargs)
        self.positions = positions

    def call(self, x):
        encoded = [x]
        for i in range(self.positions):
            for function in (ops.sin, ops.cos):
                encoded.append(function(2.0**i * x))
        return ops.concatenate(encoded, axis=-1)

    def get_config(self):
        return {**super().get_config(), "positions": self.positions}


register_path_rule(SineLayer, lambda call: np.tile(call.first.labels, 5))


@specimen
def nerf():
    inputs = keras.Input((5, 3))
    encoded = SineLayer()(inputs)
    x = encoded
    for i in range(3):
        x = layers.Dense(units=5, activation="relu")(x)
        if i % 2 == 0 and i > 0:
            x = layers.concatenate([x, encoded], axis=-1)
    return keras.Model(inputs, layers.Dense(units=4)(x))
