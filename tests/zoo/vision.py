"""Networks that classify images."""

import keras
import numpy as np
from keras import layers, ops

from tests.zoo.registry import specimen


@specimen
def convmixer():
    def activation_block(x):
        x = layers.Activation("gelu")(x)
        return layers.BatchNormalization()(x)

    inputs = keras.Input((8, 8, 3))
    x = layers.Rescaling(scale=1.0 / 255)(inputs)
    x = activation_block(layers.Conv2D(4, kernel_size=2, strides=2)(x))
    for _ in range(2):
        x0 = x
        x = layers.DepthwiseConv2D(kernel_size=3, padding="same")(x)
        x = layers.Add()([activation_block(x), x0])
        x = activation_block(layers.Conv2D(4, kernel_size=1)(x))
    x = layers.GlobalAvgPool2D()(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))


@keras.saving.register_keras_serializable(package="zoo")
class Patches(layers.Layer):
    def __init__(self, patch_size, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = patch_size

    def call(self, images):
        input_shape = ops.shape(images)
        batch_size = input_shape[0]
        height, width, channels = input_shape[1], input_shape[2], input_shape[3]
        num_patches_h = height // self.patch_size
        num_patches_w = width // self.patch_size
        patches = keras.ops.image.extract_patches(images, size=self.patch_size)
        return ops.reshape(
            patches,
            (
                batch_size,
                num_patches_h * num_patches_w,
                self.patch_size * self.patch_size * channels,
            ),
        )

    def get_config(self):
        return {**super().get_config(), "patch_size": self.patch_size}


@keras.saving.register_keras_serializable(package="zoo")
class PatchEncoder(layers.Layer):
    def __init__(self, num_patches, projection_dim, **kwargs):
        super().__init__(**kwargs)
        self.num_patches = num_patches
        self.projection = layers.Dense(units=projection_dim)
        self.position_embedding = layers.Embedding(num_patches, projection_dim)

    def call(self, patch):
        positions = ops.expand_dims(ops.arange(start=0, stop=self.num_patches, step=1), axis=0)
        return self.projection(patch) + self.position_embedding(positions)

    def get_config(self):
        return {
            **super().get_config(),
            "num_patches": self.num_patches,
            "projection_dim": self.projection.units,
        }


def augmentation():
    return keras.Sequential(
        [layers.RandomFlip("horizontal"), layers.RandomRotation(0.02)], name="data_augmentation"
    )


@specimen
def vision_transformer():
    inputs = keras.Input((8, 8, 3))
    encoded = PatchEncoder(4, 6)(Patches(4)(augmentation()(inputs)))
    for _ in range(2):
        x1 = layers.LayerNormalization(epsilon=1e-6)(encoded)
        attention = layers.MultiHeadAttention(num_heads=2, key_dim=3, dropout=0.1)(x1, x1)
        x2 = layers.Add()([attention, encoded])
        x3 = layers.LayerNormalization(epsilon=1e-6)(x2)
        for units in (12, 6):
            x3 = layers.Dropout(0.1)(layers.Dense(units, activation=keras.activations.gelu)(x3))
        encoded = layers.Add()([x3, x2])
    x = layers.Flatten()(layers.LayerNormalization(epsilon=1e-6)(encoded))
    x = layers.Dropout(0.5)(x)
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(5, activation="gelu")(x)))


@keras.saving.register_keras_serializable(package="zoo")
class ClassToken(layers.Layer):
    """A learnt token in front of the others, and learnt positions."""

    def build(self, input_shape):
        _, length, size = input_shape
        self.token = self.add_weight(shape=(1, 1, size), initializer="random_normal", name="token")
        self.positions = self.add_weight(
            shape=(1, length + 1, size), initializer="random_normal", name="positions"
        )

    def call(self, x):
        batch = ops.shape(x)[0]
        token = ops.broadcast_to(self.token, (batch, 1, ops.shape(x)[-1]))
        return ops.concatenate([token, x], axis=1) + self.positions


@specimen
def vit_with_class_token():
    """Patches by a convolution, DeiT's class token, LayerScale as a frozen constant."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Reshape((4, 6))(layers.Conv2D(6, 4, strides=4)(inputs))
    x = ClassToken()(x)
    y = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(2, 3)(y, y)
    y = layers.Dense(8, activation="gelu")(layers.LayerNormalization()(x))
    x = x + 0.1 * layers.Dense(6)(y)
    return keras.Model(inputs, layers.Dense(3)(layers.LayerNormalization()(x)[:, 0]))


@keras.saving.register_keras_serializable(package="zoo")
class MLPMixerLayer(layers.Layer):
    def __init__(self, num_patches, hidden_units, dropout_rate, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.num_patches = num_patches
        self.hidden_units = hidden_units
        self.dropout_rate = dropout_rate
        self.mlp1 = keras.Sequential(
            [
                layers.Dense(units=num_patches, activation="gelu"),
                layers.Dense(units=num_patches),
                layers.Dropout(rate=dropout_rate),
            ]
        )
        self.mlp2 = keras.Sequential(
            [
                layers.Dense(units=hidden_units, activation="gelu"),
                layers.Dense(units=hidden_units),
                layers.Dropout(rate=dropout_rate),
            ]
        )
        self.normalize = layers.LayerNormalization(epsilon=1e-6)

    def build(self, input_shape):
        return super().build(input_shape)

    def call(self, inputs):
        x = self.normalize(inputs)
        x_channels = ops.transpose(x, axes=(0, 2, 1))
        mlp1_outputs = self.mlp1(x_channels)
        mlp1_outputs = ops.transpose(mlp1_outputs, axes=(0, 2, 1))
        x = mlp1_outputs + inputs
        x_patches = self.normalize(x)
        mlp2_outputs = self.mlp2(x_patches)
        return x + mlp2_outputs

    def get_config(self):
        return {
            **super().get_config(),
            "num_patches": self.num_patches,
            "hidden_units": self.hidden_units,
            "dropout_rate": self.dropout_rate,
        }


@specimen
def mlp_mixer():
    inputs = keras.Input((8, 8, 3))
    x = Patches(4)(inputs)
    x = layers.Dense(6)(x)
    x = keras.Sequential([MLPMixerLayer(4, 6, 0.2) for _ in range(2)])(x)
    representation = layers.Dropout(rate=0.2)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, layers.Dense(3)(representation))


@keras.saving.register_keras_serializable(package="zoo")
class FNetLayer(layers.Layer):
    """As FNet mixes, with a cosine transform in the place of Fourier's."""

    def __init__(self, embedding_dim, dropout_rate=0.2, **kwargs):
        super().__init__(**kwargs)
        self.embedding_dim, self.dropout_rate = embedding_dim, dropout_rate
        self.ffn = keras.Sequential(
            [
                layers.Dense(units=embedding_dim, activation="gelu"),
                layers.Dropout(rate=dropout_rate),
                layers.Dense(units=embedding_dim),
            ]
        )
        self.normalize1 = layers.LayerNormalization(epsilon=1e-6)
        self.normalize2 = layers.LayerNormalization(epsilon=1e-6)

    def call(self, inputs):
        size = inputs.shape[-1]
        grid = np.arange(size)
        basis = np.cos(np.pi / size * np.outer(grid + 0.5, grid)).astype("float32")
        x = ops.matmul(inputs, basis) + inputs
        x = self.normalize1(x)
        return self.normalize2(x + self.ffn(x))

    def get_config(self):
        return {
            **super().get_config(),
            "embedding_dim": self.embedding_dim,
            "dropout_rate": self.dropout_rate,
        }


@specimen
def fnet():
    inputs = keras.Input((5, 6))
    x = FNetLayer(6)(FNetLayer(6)(inputs))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


@keras.saving.register_keras_serializable(package="zoo")
class GMLPLayer(layers.Layer):
    def __init__(self, num_patches, embedding_dim, dropout_rate=0.2, **kwargs):
        super().__init__(**kwargs)
        self.num_patches = num_patches
        self.embedding_dim = embedding_dim
        self.dropout_rate = dropout_rate
        self.channel_projection1 = keras.Sequential(
            [
                layers.Dense(units=embedding_dim * 2, activation="gelu"),
                layers.Dropout(rate=dropout_rate),
            ]
        )
        self.channel_projection2 = layers.Dense(units=embedding_dim)
        self.spatial_projection = layers.Dense(units=num_patches, bias_initializer="Ones")
        self.normalize1 = layers.LayerNormalization(epsilon=1e-6)
        self.normalize2 = layers.LayerNormalization(epsilon=1e-6)

    def spatial_gating_unit(self, x):
        u, v = ops.split(x, indices_or_sections=2, axis=2)
        v = self.normalize2(v)
        v_channels = ops.transpose(v, axes=(0, 2, 1))
        v_projected = self.spatial_projection(v_channels)
        v_projected = ops.transpose(v_projected, axes=(0, 2, 1))
        return u * v_projected

    def call(self, inputs):
        x = self.normalize1(inputs)
        x_projected = self.channel_projection1(x)
        x_spatial = self.spatial_gating_unit(x_projected)
        x_projected = self.channel_projection2(x_spatial)
        return x + x_projected

    def get_config(self):
        return {
            **super().get_config(),
            "num_patches": self.num_patches,
            "embedding_dim": self.embedding_dim,
            "dropout_rate": self.dropout_rate,
        }


@specimen
def gmlp():
    inputs = keras.Input((8, 8, 3))
    x = layers.Dense(6)(Patches(4)(inputs))
    x = keras.Sequential([GMLPLayer(4, 6)])(x)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


def window_partition(x, window_size):
    _, height, width, channels = x.shape
    patch_num_y = height // window_size
    patch_num_x = width // window_size
    x = ops.reshape(x, (-1, patch_num_y, window_size, patch_num_x, window_size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, window_size, window_size, channels))


def window_reverse(windows, window_size, height, width, channels):
    patch_num_y = height // window_size
    patch_num_x = width // window_size
    x = ops.reshape(windows, (-1, patch_num_y, patch_num_x, window_size, window_size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, height, width, channels))


@keras.saving.register_keras_serializable(package="zoo")
class WindowAttention(layers.Layer):
    def __init__(self, dim, window_size, num_heads, qkv_bias=True, dropout_rate=0.0, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim
        self.window_size = window_size
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv_bias = qkv_bias
        self.dropout_rate = dropout_rate
        self.qkv = layers.Dense(dim * 3, use_bias=qkv_bias)
        self.dropout = layers.Dropout(dropout_rate)
        self.proj = layers.Dense(dim)
        coords = np.stack(np.meshgrid(*map(np.arange, window_size), indexing="ij")).reshape(2, -1)
        relative = (coords[:, :, None] - coords[:, None, :]).transpose([1, 2, 0])
        relative += np.array(window_size) - 1
        relative[:, :, 0] *= 2 * window_size[1] - 1
        self.relative_position_index = relative.sum(-1)

    def build(self, input_shape):
        elements = (2 * self.window_size[0] - 1) * (2 * self.window_size[1] - 1)
        self.relative_position_bias_table = self.add_weight(
            shape=(elements, self.num_heads),
            initializer=keras.initializers.RandomNormal(),
            trainable=True,
            name="relative_position_bias_table",
        )

    def call(self, x, mask=None):
        _, size, channels = x.shape
        head_dim = channels // self.num_heads
        x_qkv = self.qkv(x)
        x_qkv = ops.reshape(x_qkv, (-1, size, 3, self.num_heads, head_dim))
        x_qkv = ops.transpose(x_qkv, (2, 0, 3, 1, 4))
        q, k, v = x_qkv[0], x_qkv[1], x_qkv[2]
        q = q * self.scale
        k = ops.transpose(k, (0, 1, 3, 2))
        attn = q @ k
        bias = ops.take(
            self.relative_position_bias_table, ops.reshape(self.relative_position_index, (-1,)), 0
        )
        bias = ops.reshape(bias, (size, size, -1))
        attn = attn + ops.expand_dims(ops.transpose(bias, (2, 0, 1)), axis=0)
        if mask is not None:
            n_windows = mask.shape[0]
            mask_float = ops.cast(ops.expand_dims(ops.expand_dims(mask, axis=1), axis=0), "float32")
            attn = ops.reshape(attn, (-1, n_windows, self.num_heads, size, size)) + mask_float
            attn = ops.reshape(attn, (-1, self.num_heads, size, size))
        attn = keras.activations.softmax(attn, axis=-1)
        attn = self.dropout(attn)
        x_qkv = ops.transpose(attn @ v, (0, 2, 1, 3))
        x_qkv = ops.reshape(x_qkv, (-1, size, channels))
        return self.dropout(self.proj(x_qkv))

    def get_config(self):
        names = ("dim", "window_size", "num_heads", "qkv_bias", "dropout_rate")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="zoo")
class SwinTransformer(layers.Layer):
    def __init__(self, dim, num_patch, num_heads, window_size, shift_size, num_mlp, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim
        self.num_patch = num_patch
        self.num_heads = num_heads
        self.window_size = window_size
        self.shift_size = shift_size
        self.num_mlp = num_mlp
        self.norm1 = layers.LayerNormalization(epsilon=1e-5)
        self.attn = WindowAttention(dim, (window_size, window_size), num_heads)
        self.drop_path = layers.Dropout(0.0)
        self.norm2 = layers.LayerNormalization(epsilon=1e-5)
        self.mlp = keras.Sequential(
            [
                layers.Dense(num_mlp),
                layers.Activation(keras.activations.gelu),
                layers.Dropout(0.0),
                layers.Dense(dim),
                layers.Dropout(0.0),
            ]
        )

    def build(self, input_shape):
        if self.shift_size == 0:
            self.attn_mask = None
            return
        height, width = self.num_patch
        mask_array = np.zeros((1, height, width, 1))
        slices = (
            slice(0, -self.window_size),
            slice(-self.window_size, -self.shift_size),
            slice(-self.shift_size, None),
        )
        count = 0
        for h in slices:
            for w in slices:
                mask_array[:, h, w, :] = count
                count += 1
        windows = window_partition(ops.convert_to_tensor(mask_array), self.window_size)
        windows = ops.convert_to_numpy(windows).reshape(-1, self.window_size**2)
        attn_mask = windows[:, None] - windows[:, :, None]
        self.attn_mask = keras.Variable(
            np.where(attn_mask != 0, -100.0, 0.0), trainable=False, dtype="float32"
        )

    def call(self, x, training=False):
        height, width = self.num_patch
        _, _, channels = x.shape
        x_skip = x
        x = self.norm1(x)
        x = ops.reshape(x, (-1, height, width, channels))
        if self.shift_size > 0:
            shifted_x = ops.roll(x, shift=[-self.shift_size, -self.shift_size], axis=[1, 2])
        else:
            shifted_x = x
        x_windows = window_partition(shifted_x, self.window_size)
        x_windows = ops.reshape(x_windows, (-1, self.window_size * self.window_size, channels))
        attn_windows = self.attn(x_windows, mask=self.attn_mask)
        attn_windows = ops.reshape(attn_windows, (-1, self.window_size, self.window_size, channels))
        shifted_x = window_reverse(attn_windows, self.window_size, height, width, channels)
        if self.shift_size > 0:
            x = ops.roll(shifted_x, shift=[self.shift_size, self.shift_size], axis=[1, 2])
        else:
            x = shifted_x
        x = ops.reshape(x, (-1, height * width, channels))
        x = self.drop_path(x, training=training)
        x = x_skip + x
        x_skip = x
        x = self.norm2(x)
        x = self.mlp(x)
        x = self.drop_path(x)
        return x_skip + x

    def get_config(self):
        names = ("dim", "num_patch", "num_heads", "window_size", "shift_size", "num_mlp")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@specimen
def swin_transformer():
    inputs = keras.Input((8, 8, 3))
    x = layers.Dense(4)(Patches(2)(inputs))
    for shift in (0, 1):
        x = SwinTransformer(
            dim=4, num_patch=(4, 4), num_heads=2, window_size=2, shift_size=shift, num_mlp=6
        )(x)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


@keras.saving.register_keras_serializable(package="zoo")
class CCTTokenizer(layers.Layer):
    def __init__(self, channels=(4, 6), **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.conv_model = keras.Sequential()
        for size in channels:
            self.conv_model.add(
                layers.Conv2D(size, 3, 1, padding="valid", use_bias=False, activation="relu",
                              kernel_initializer="he_normal")
            )  # fmt: skip
            self.conv_model.add(layers.ZeroPadding2D(1))
            self.conv_model.add(layers.MaxPooling2D(3, 2, "same"))

    def call(self, images):
        outputs = self.conv_model(images)
        return keras.ops.reshape(
            outputs,
            (
                -1,
                keras.ops.shape(outputs)[1] * keras.ops.shape(outputs)[2],
                keras.ops.shape(outputs)[-1],
            ),
        )

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable(package="zoo")
class SequencePooling(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.Dense(1)

    def call(self, x):
        attention_weights = keras.ops.softmax(self.attention(x), axis=1)
        attention_weights = keras.ops.transpose(attention_weights, axes=(0, 2, 1))
        weighted_representation = keras.ops.matmul(attention_weights, x)
        return keras.ops.squeeze(weighted_representation, -2)


@keras.saving.register_keras_serializable(package="zoo")
class StochasticDepth(layers.Layer):
    def __init__(self, drop_prop, **kwargs):
        super().__init__(**kwargs)
        self.drop_prob = drop_prop
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, x, training=None):
        if training:
            keep_prob = 1 - self.drop_prob
            shape = (keras.ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
            random_tensor = keep_prob + keras.random.uniform(shape, 0, 1, seed=self.seed_generator)
            random_tensor = keras.ops.floor(random_tensor)
            return (x / keep_prob) * random_tensor
        return x

    def get_config(self):
        return {**super().get_config(), "drop_prop": self.drop_prob}


@specimen
def compact_convolutional_transformer():
    inputs = keras.Input((8, 8, 3))
    encoded = CCTTokenizer()(inputs)
    for rate in np.linspace(0, 0.1, 2):
        x1 = layers.LayerNormalization(epsilon=1e-5)(encoded)
        attention = layers.MultiHeadAttention(num_heads=2, key_dim=3, dropout=0.1)(x1, x1)
        x2 = layers.Add()([StochasticDepth(float(rate))(attention), encoded])
        x3 = layers.LayerNormalization(epsilon=1e-5)(x2)
        for units in (6, 6):
            x3 = layers.Dropout(0.1)(layers.Dense(units, activation=ops.gelu)(x3))
        encoded = layers.Add()([StochasticDepth(float(rate))(x3), x2])
    pooled = SequencePooling()(layers.LayerNormalization(epsilon=1e-5)(encoded))
    return keras.Model(inputs, layers.Dense(3)(pooled))


@specimen
def external_attention_transformer():
    """EANet: attention to two small memories that are dense layers."""

    def external_attention(x, dim, num_heads, dim_coefficient=2):
        _, num_patch, _ = x.shape
        num_heads = num_heads * dim_coefficient
        x = layers.Dense(dim * dim_coefficient)(x)
        x = ops.reshape(x, (-1, num_patch, num_heads, dim * dim_coefficient // num_heads))
        x = ops.transpose(x, axes=[0, 2, 1, 3])
        attn = layers.Dense(dim // dim_coefficient)(x)
        attn = layers.Softmax(axis=2)(attn)
        attn = ops.divide(attn, 1e-9 + ops.sum(attn, axis=-1, keepdims=True))
        attn = layers.Dropout(0.2)(attn)
        x = layers.Dense(dim * dim_coefficient // num_heads)(attn)
        x = ops.transpose(x, axes=[0, 2, 1, 3])
        x = ops.reshape(x, [-1, num_patch, dim * dim_coefficient])
        return layers.Dropout(0.2)(layers.Dense(dim)(x))

    inputs = keras.Input((8, 8, 3))
    x = layers.Dense(4)(Patches(4)(inputs))
    residual = layers.LayerNormalization(epsilon=1e-5)(x)
    x = layers.add([external_attention(residual, 4, 2), residual])
    residual = x
    x = layers.LayerNormalization(epsilon=1e-5)(x)
    x = layers.Dropout(0.2)(layers.Dense(6, activation=ops.nn.gelu)(x))
    x = layers.add([layers.Dense(4)(x), residual])
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


@keras.saving.register_keras_serializable(package="zoo")
class Involution(layers.Layer):
    def __init__(self, channel, group_number, kernel_size, stride, reduction_ratio, **kwargs):
        super().__init__(**kwargs)
        self.channel = channel
        self.group_number = group_number
        self.kernel_size = kernel_size
        self.stride = stride
        self.reduction_ratio = reduction_ratio

    def build(self, input_shape):
        (_, height, width, num_channels) = input_shape
        height = height // self.stride
        width = width // self.stride
        self.stride_layer = (
            layers.AveragePooling2D(pool_size=self.stride, strides=self.stride, padding="same")
            if self.stride > 1
            else layers.Identity()
        )
        self.kernel_gen = keras.Sequential(
            [
                layers.Conv2D(filters=self.channel // self.reduction_ratio, kernel_size=1),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Conv2D(
                    filters=self.kernel_size * self.kernel_size * self.group_number, kernel_size=1
                ),
            ]
        )
        self.kernel_gen.build((None, height, width, num_channels))
        taps = self.kernel_size * self.kernel_size
        self.kernel_reshape = layers.Reshape((height, width, taps, 1, self.group_number))
        self.input_patches_reshape = layers.Reshape(
            (height, width, taps, num_channels // self.group_number, self.group_number)
        )
        self.output_reshape = layers.Reshape((height, width, num_channels))

    def call(self, x):
        kernel_input = self.stride_layer(x)
        kernel = self.kernel_gen(kernel_input)
        kernel = self.kernel_reshape(kernel)
        input_patches = ops.image.extract_patches(
            images=x,
            size=(self.kernel_size, self.kernel_size),
            strides=(self.stride, self.stride),
            dilation_rate=(1, 1),
            padding="same",
        )
        input_patches = self.input_patches_reshape(input_patches)
        output = ops.multiply(kernel, input_patches)
        output = ops.sum(output, axis=3)
        return self.output_reshape(output)

    def get_config(self):
        names = ("channel", "group_number", "kernel_size", "stride", "reduction_ratio")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@specimen
def involution():
    inputs = keras.Input((8, 8, 3))
    x = Involution(3, 1, 3, 2, 1, name="inv_1")(inputs)
    x = layers.MaxPooling2D((2, 2))(layers.ReLU()(x))
    x = layers.Flatten()(Involution(3, 1, 3, 1, 1, name="inv_2")(x))
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(6, activation="relu")(x)))


@specimen
def squeeze_and_excite():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    se = layers.GlobalAveragePooling2D(keepdims=True)(x)
    se = layers.Conv2D(2, 1, activation="relu")(se)
    se = layers.Conv2D(8, 1, activation="hard_sigmoid")(se)
    x = layers.Multiply()([x, se])
    x = layers.Conv2D(4, 1)(x)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


@specimen
def spectrally_normalized():
    """A critic, whose convolutions cannot grow steep."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.SpectralNormalization(layers.Conv2D(4, 3, 2, activation="leaky_relu")),
            layers.SpectralNormalization(layers.Conv2D(5, 3, activation="relu")),
            layers.Flatten(),
            layers.SpectralNormalization(layers.Dense(4, activation="relu")),
            layers.Dense(1),
        ]
    )


@specimen
def preprocessing_inside():
    """What users deploy: resizing, scaling and augmentation in the model."""
    return keras.Sequential(
        [
            keras.Input((10, 10, 3), dtype="uint8"),
            layers.Resizing(8, 8),
            layers.Rescaling(1.0 / 127.5, offset=-1),
            layers.RandomFlip("horizontal"),
            layers.RandomZoom(0.1),
            layers.RandomContrast(0.1),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(5, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


@specimen
def mnist_convnet():
    """Images of one channel, normalized between the convolutions."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(3, activation="softmax"),
        ]
    )


@specimen
def fine_tuned_mobilenet():
    """A frozen network of `keras.applications` in a model, its name with a dot."""
    base = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), alpha=0.35, include_top=False, weights=None
    )
    inner = keras.Model(
        base.input, base.get_layer("block_2_project_BN").output, name="mobilenetv2_0.35_32"
    )
    inner.trainable = False
    inputs = keras.Input((32, 32, 3))
    x = keras.applications.mobilenet_v2.preprocess_input(inputs)
    x = layers.GlobalAveragePooling2D()(inner(x, training=False))
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(4, activation="relu")(x)))


@specimen
def resnet_channels_first():
    """Channels first, which only engines on the CPU of TensorFlow refuse to run."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Permute((3, 1, 2))(inputs)
    x = layers.BatchNormalization(axis=1)(x)
    y = layers.ReLU()(x)
    x = layers.Add()([x, layers.BatchNormalization(axis=1)(y)])
    x = layers.GlobalAveragePooling2D(data_format="channels_first")(x)
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(4, activation="relu")(x)))


@specimen
def attention_pooled_bags():
    """Multiple instance learning: a shared network and gated attention over a bag."""
    inputs = [keras.Input((4, 4)) for _ in range(3)]
    first = layers.Dense(6, activation="relu", name="shared_dense_layer_1")
    second = layers.Dense(4, activation="relu", name="shared_dense_layer_2")
    embeddings = [second(first(layers.Flatten()(each))) for each in inputs]
    tanh, sigmoid, score = (
        layers.Dense(3, activation="tanh"), layers.Dense(3, activation="sigmoid"), layers.Dense(1),
    )  # fmt: skip
    scores = [score(tanh(each) * sigmoid(each)) for each in embeddings]
    alpha = ops.softmax(ops.stack(scores), axis=0)
    alpha = [alpha[i] for i in range(len(inputs))]
    weighted = [layers.multiply([a, e]) for a, e in zip(alpha, embeddings)]
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.concatenate(weighted)))


@specimen
def siamese_with_dot():
    """Two images through one network; how much their embeddings agree."""
    embedding = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(3, 3, activation="tanh"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(4, activation="relu"),
        ],
        name="embedding",
    )
    one, two = keras.Input((6, 6, 1)), keras.Input((6, 6, 1))
    merged = layers.Dot(axes=1, normalize=True)([embedding(one), embedding(two)])
    output = layers.Dense(1, activation="sigmoid")(layers.BatchNormalization()(merged))
    return keras.Model([one, two], output)


@specimen
def siamese_of_triplets():
    def distances(anchor, positive, negative):
        near = ops.sum(ops.square(anchor - positive), axis=-1, keepdims=True)
        far = ops.sum(ops.square(anchor - negative), axis=-1, keepdims=True)
        return near, far

    embedding = keras.Sequential(
        [keras.Input((5,)), layers.Dense(6, activation="relu"), layers.Dense(3)], name="Embedding"
    )
    inputs = [keras.Input((5,), name=name) for name in ("anchor", "positive", "negative")]
    return keras.Model(inputs, distances(*map(embedding, inputs)))
