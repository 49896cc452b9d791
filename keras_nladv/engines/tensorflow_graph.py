import contextlib

import keras
import numpy as np

from keras_nladv._common.temporarily import temporarily
from keras_nladv._keras import private


def tensorflow_graph(model, specs):
    """A model as a TensorFlow function whose weights and constants are constants of its graph.

    Converters take constants that a function has captured for inputs of the network.

    Args:
        model: A model with a graph, on the backend TensorFlow.
        specs: List of `KerasTensor`s, what its inputs are.

    Returns:
        A concrete function of tensors in the order of the model's inputs. The names of its inputs
        are those of `specs`.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    structure, _ = private.structures(model)

    def call(*tensors):
        inputs = keras.tree.pack_sequence_as(structure, tensors)
        outputs = keras.tree.flatten(model(inputs, training=False))
        return [tf.identity(x, name=f"output_{i}") for i, x in enumerate(outputs)]

    signature = [tf.TensorSpec(spec.shape, spec.dtype, name=spec.name) for spec in specs]
    function = tf.function(call, input_signature=signature, autograph=False)
    with _known_to_converters():
        concrete = function.get_concrete_function()
    return convert_variables_to_constants_v2(concrete, lower_control_flow=False)


@contextlib.contextmanager
def _known_to_converters():
    """Lets what TensorFlow computes, and its converters do not know or misread, be written in
    other ways."""
    import tensorflow as tf

    bias_add = tf.nn.bias_add

    def bias_or_sum(value, bias, data_format=None, name=None):
        # Along the second of three axes, as of tensors of shape (1, n, 1).
        if data_format == "NCHW" and len(value.shape) == 3:
            return tf.add(value, tf.reshape(bias, (-1, 1)), name=name)
        return bias_add(value, bias, data_format, name)

    def inlined(inner=None, **options):
        # Keras compiles grouped convolutions by themselves.
        return inner or (lambda each: each)

    def roll(own, x, shift, axis=None):
        if axis is None or tf.is_tensor(shift):
            return own(x, shift, axis)
        for number, along in np.broadcast(shift, axis):
            size = x.shape[along]
            if size is None:
                x = own(x, number, along)
            elif number % size:
                parts = tf.split(x, [size - number % size, number % size], along)
                x = tf.concat(parts[::-1], along)
        return x

    with (
        temporarily([tf.nn], bias_add=bias_or_sum),
        temporarily([tf], function=inlined),
        # `argmax` asks for signs to tell -0 from 0.
        private.array_functions(roll=roll, signbit=lambda own, x: x < 0),
    ):
        yield
