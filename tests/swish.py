import keras
from keras import layers, ops

from keras_nladv import register_path_rule


@keras.saving.register_keras_serializable("tests")
class Swish(layers.Layer):
    """An activation of a user's own, with a weight for each channel."""

    def build(self, shape):
        self.beta = self.add_weight(shape=(shape[-1],), initializer="random_normal")

    def call(self, x):
        return x * ops.sigmoid(self.beta * x)


register_path_rule(Swish, "activation")
