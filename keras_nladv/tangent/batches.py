import keras
from keras import ops


def count(x):
    """The number of examples of inputs."""
    return keras.tree.flatten(x)[0].shape[0]


def part(x, start, size):
    """Some of the examples of inputs."""
    return keras.tree.map_structure(lambda each: each[start : start + size], x)


def dense(x):
    """An input as a tensor. Of sparse ones, examples cannot be taken."""
    if hasattr(x, "toarray"):
        x = x.toarray()  # Of SciPy.
    return ops.convert_to_tensor(x, sparse=False)
