import keras
import numpy as np
from keras import ops


class _Steps(keras.Model):
    """`function` of `arrays` plus weights that start at 0."""

    def __init__(self, function, arrays):
        # TensorFlow wants no underscore in front.
        super().__init__(name="steps")
        self.function = function
        self.arrays = arrays
        self.steps = [
            self.add_weight(shape=array.shape, initializer="zeros", dtype=array.dtype.name)
            for array in arrays
        ]
        self.built = True

    def call(self, _):
        values = [ops.add(*pair) for pair in zip(self.arrays, self.steps, strict=True)]
        return ops.reshape(self.function(*values), (1, 1))


def gradients(function, *arrays, run_eagerly=True):
    """Gradients of `function`, from tensors to a scalar tensor, on any backend.

    They are read from one optimizer step with learning rate 1, and are not rounded by it.
    """
    arrays = [np.asarray(array) for array in arrays]
    model = _Steps(function, arrays)
    model.compile(
        keras.optimizers.SGD(1.0), lambda _, value: ops.sum(value), run_eagerly=run_eagerly
    )
    model.train_on_batch(np.zeros((1, 1)), np.zeros((1, 1)))
    return [-np.asarray(ops.convert_to_numpy(step.value)) for step in model.steps]
