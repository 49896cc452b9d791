"""Derivatives by finite differences, and the models that they are compared on."""

import keras
import numpy as np
from keras import layers, ops

from keras_nladv import SparsePReLU


def numbers(tensor):
    return ops.convert_to_numpy(tensor)


def randomized(model, seed=0):
    """The model with random weights: at first biases are 0, and scales are 1."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        noise = rng.normal(size=variable.shape, scale=0.3)
        # Variances stay positive, and slopes stay away from 1.
        variable.assign(np.abs(numbers(variable.value) * 0.5 + 0.5 * noise))
    return model


def directions(model, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=each.shape).astype(each.dtype) for each in model.trainable_variables]


def change(model, x, tangents):
    """The derivative of the outputs in a direction by finite differences, and their accuracy."""
    values = [numbers(each.value) for each in model.trainable_variables]

    def outputs(step):
        for variable, value, tangent in zip(model.trainable_variables, values, tangents):
            variable.assign(value + step * tangent)
        return numbers(model(x, training=False)).astype("float64")

    # On JAX and torch, Keras computes much in float32 whatever it is told: then this is noise.
    noise = np.abs(outputs(1e-7) - 2 * outputs(0.0) + outputs(-1e-7)).max()
    step, accuracy = (1e-4, 1e-8) if noise < 1e-11 else (5e-3, 1e-3)
    near = outputs(step) - outputs(-step)
    far = outputs(2 * step) - outputs(-2 * step)
    outputs(0.0)
    return (8 * near - far) / (12 * step), accuracy


def functional(function, *shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], function(*inputs))


def sequential(shape, *stack):
    return keras.Sequential([keras.Input(shape), *stack, layers.Flatten()])


def attention(x):
    return layers.MultiHeadAttention(2, 3)(x, x)


def shared(x):
    dense = layers.Dense(4, activation="silu")
    return layers.Dense(2)(dense(dense(x)))


def nested(x):
    inner = sequential((4,), layers.Dense(3, activation="silu"))
    return layers.Dense(2)(inner(x))


def two_inputs(x, y):
    return layers.Dense(2)(layers.multiply([layers.Dense(3)(x), layers.Dense(3)(y)]))


class Subclassed(keras.Model):
    """A model without a graph, with a weight of its own that it uses with that of a layer."""

    def __init__(self):
        super().__init__()
        self.first = layers.Dense(4, activation="silu")
        self.second = layers.Dense(4)

    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=(4,), initializer="ones")
        self.first.build(shape)
        self.second.build((None, 4))

    def call(self, x):
        tied = ops.matmul(self.second(self.first(x)), ops.transpose(self.first.kernel))
        return tied * self.scale


# For a name, a function that makes a model, and the shape or shapes of an example.
MODELS = {
    "dense": (lambda: sequential((4,), layers.Dense(3, activation="silu"), layers.Dense(2)), (4,)),
    "positions": (lambda: sequential((3, 4), layers.Dense(3), layers.Dense(2, "silu")), (3, 4)),
    "without bias": (lambda: sequential((4,), layers.Dense(3, use_bias=False)), (4,)),
    "conv1d": (
        lambda: sequential(
            (6, 2),
            layers.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="gelu"),
            layers.MaxPooling1D(3),
        ),
        (6, 2),
    ),
    "conv2d": (
        lambda: sequential(
            (6, 5, 2),
            layers.Conv2D(4, 3, (2, 1), padding="same", activation="silu"),
            layers.Conv2D(4, 2, groups=2),
            layers.GlobalAveragePooling2D(),
        ),
        (6, 5, 2),
    ),
    "conv3d": (
        lambda: sequential(
            (3, 4, 3, 1),
            layers.Conv3D(2, 2, activation="softplus"),
            layers.GlobalAveragePooling3D(),
        ),
        (3, 4, 3, 1),
    ),
    "pooling": (
        lambda: sequential(
            (6, 6, 1), layers.Conv2D(2, 3), layers.MaxPooling2D(2), layers.AveragePooling2D(2)
        ),
        (6, 6, 1),
    ),
    "depthwise": (
        lambda: sequential(
            (5, 4, 2),
            layers.DepthwiseConv2D(2, depth_multiplier=2, padding="same", activation="silu"),
            layers.SeparableConv2D(2, 3),
        ),
        (5, 4, 2),
    ),
    "depthwise1d": (
        lambda: sequential((6, 2), layers.DepthwiseConv1D(3, 2), layers.SeparableConv1D(2, 2)),
        (6, 2),
    ),
    "transposed": (
        lambda: sequential(
            (3, 3, 2),
            layers.Conv2DTranspose(2, 2, 2),
            layers.UpSampling2D(2),
            layers.GlobalAveragePooling2D(),
        ),
        (3, 3, 2),
    ),
    "normalization": (
        lambda: sequential(
            (4, 4, 2),
            layers.Conv2D(4, 2),
            layers.BatchNormalization(),
            layers.LayerNormalization(axis=[-1, 1]),
            layers.GroupNormalization(2),
            layers.RMSNormalization(),
            layers.AveragePooling2D(3),
        ),
        (4, 4, 2),
    ),
    "slopes": (
        lambda: sequential(
            (4, 4, 2),
            layers.Conv2D(3, 2),
            SparsePReLU(activation="gelu"),
            SparsePReLU(activation="silu", granularity="layer"),
            SparsePReLU(activation="silu", granularity="element"),
            layers.Dense(2, activation=SparsePReLU(activation="softplus")),
            layers.GlobalAveragePooling2D(),
        ),
        (4, 4, 2),
    ),
    "kinks": (
        lambda: sequential((3, 2), layers.PReLU(shared_axes=[1]), layers.Dense(2), SparsePReLU()),
        (3, 2),
    ),
    "einsum": (
        lambda: sequential(
            (3, 4),
            layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de", activation="silu"),
            layers.EinsumDense("abde,de->abe", (None, 3), bias_axes="e"),
        ),
        (3, 4),
    ),
    "attention": (lambda: functional(attention, (3, 4)), (3, 4)),
    "embedding": (lambda: sequential((4,), layers.Embedding(5, 3), layers.Dense(2)), (4,)),
    "recurrent": (
        lambda: sequential(
            (3, 2), layers.LSTM(2, return_sequences=True), layers.Bidirectional(layers.GRU(2))
        ),
        (3, 2),
    ),
    "distributed": (lambda: sequential((3, 2), layers.TimeDistributed(layers.Dense(2))), (3, 2)),
    "shared": (lambda: functional(shared, (4,)), (4,)),
    "nested": (lambda: functional(nested, (4,)), (4,)),
    "two inputs": (lambda: functional(two_inputs, (2,), (3,)), [(2,), (3,)]),
    "subclassed": (Subclassed, (4,)),
}


def example(name, n=3, seed=1):
    """A model of `MODELS` with random weights, and inputs."""
    make, shapes = MODELS[name]
    model = make()
    rng = np.random.default_rng(seed)
    dtype = keras.config.dtype_policy().compute_dtype
    one = not isinstance(shapes, list)
    if name == "embedding":
        x = rng.integers(5, size=(n, *shapes)).astype(dtype)
    else:
        x = [rng.normal(size=(n, *shape)).astype(dtype) for shape in ([shapes] if one else shapes)]
        x = x[0] if one else x
    model(x)
    return randomized(model), x
