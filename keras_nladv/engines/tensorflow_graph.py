import contextlib

import keras

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
    with _no_bias_along_sequences():
        concrete = function.get_concrete_function()
    return convert_variables_to_constants_v2(concrete, lower_control_flow=False)


@contextlib.contextmanager
def _no_bias_along_sequences():
    """Lets no sum be written as a bias along the second of three axes, as Keras does with tensors
    of shape (1, n, 1): TensorFlow computes that, its converters write something else."""
    import tensorflow as tf

    bias_add = tf.nn.bias_add

    def written(value, bias, data_format=None, name=None):
        if data_format == "NCHW" and len(value.shape) == 3:
            return tf.add(value, tf.reshape(bias, (-1, 1)), name=name)
        return bias_add(value, bias, data_format, name)

    tf.nn.bias_add = written
    try:
        yield
    finally:
        tf.nn.bias_add = bias_add
