"""Networks for the tests of engines."""

import keras
from keras import layers

# Those that take one argument.
ACTIVATIONS = sorted(
    name
    for name in dir(keras.activations)
    if name[0] != "_" and name not in ("get", "serialize", "deserialize", "threshold")
)


class Positions(layers.Layer):
    """Adds a weight for each position."""

    def build(self, input_shape):
        self.table = self.add_weight(shape=input_shape[1:], initializer="normal")

    def call(self, inputs):
        return inputs + self.table


def every_activation(names=ACTIVATIONS):
    """All activations of Keras side by side."""
    inputs = keras.Input((6,), name="x")
    x = layers.Dense(8)(inputs)
    outputs = [
        keras.activations.glu(x) if name == "glu" else layers.Activation(name)(x) for name in names
    ]
    return keras.Model(inputs, outputs)


def vision_transformer():
    """A small one, with GELU and layer normalization."""
    inputs = keras.Input((16, 16, 3))
    x = Positions()(layers.Reshape((16, 12))(layers.Conv2D(12, 4, strides=4)(inputs)))
    for function in ("gelu", keras.ops.gelu):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(2, 6)(y, y)])
        y = layers.Dense(24, activation=function)(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(12)(y)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
