import keras

from keras_nladv._keras import private


@keras.saving.register_keras_serializable(package="keras_nladv")
class PassMask(keras.layers.Layer):
    """Puts out its input with the mask that it is given, which layers and losses behind it find.

    `sparsify` puts it behind a block that passes masks on and is opened: operations drop them.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        # Before 3.12, Keras passes on the mask of `inputs` only.
        return inputs if mask is None else private.with_mask(inputs, mask)

    def compute_output_shape(self, input_shape):
        return input_shape
