import keras
import numpy as np


class FirstState:
    """The state of a compiled model and its optimizer, to begin again from.

    Compiled once, a training step serves all trainings that begin there.

    Args:
        model: The model.
    """

    def __init__(self, model):
        model.optimizer.build(model.trainable_variables)
        self._variables = [*model.weights, *model.optimizer.variables]
        # Copies: backends may train in the memory of the arrays that they give away.
        self._values = [np.array(keras.ops.convert_to_numpy(each)) for each in self._variables]

    def restore(self):
        for variable, value in zip(self._variables, self._values, strict=True):
            variable.assign(value)
