"""What cards make of float32, asked of the backend."""

import contextlib

import keras


def rounds():
    """Whether the factors of products of float32 may be rounded to ten bits, on cards that can."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.config.jax_default_matmul_precision != "highest"
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.config.experimental.tensor_float_32_execution_enabled()
    import torch

    parts = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
    return any(part.fp32_precision == "tf32" for part in parts)


@contextlib.contextmanager
def watched():
    """A layer that returns its inputs, and a list of whether factors might be rounded then."""
    seen = []

    class Watch(keras.layers.Layer):
        def call(self, x):
            if not isinstance(x, keras.KerasTensor):
                seen.append(rounds())
            return x

    yield Watch(), seen
    assert rounds(), "What holds elsewhere is not what it was."
