import keras


class FunctionConstraint(keras.constraints.Constraint):
    """A function as a constraint: variables of Keras before 3.15 take no others.

    It is not saved: the layer that has the function makes it anew.

    Args:
        function: What makes the new weights of the weights.
    """

    def __init__(self, function):
        self._function = function

    def __call__(self, weights):
        return self._function(weights)
