from keras import ops

from keras_nladv.tangent import differentiation
from keras_nladv.tangent.stateless import Stateless


def jvp(model, x, tangents, variables=None):
    """How the outputs of a model change as its weights move in a direction.

    The model runs as in `predict`: no dropout, normalization by moving statistics.

    Args:
        model: A built Keras model with one output tensor.
        x: Inputs, of `n` examples.
        tangents: List of arrays, a direction for each variable, of its shape.
        variables: List of variables of the model. Defaults to those that are trainable.

    Returns:
        Tuple of two tensors, of the shape of the outputs: the outputs, and their derivative.

    Raises:
        ValueError: If the model cannot be differentiated, or if `x` or `tangents` do not fit it.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    >>> outputs, change = tangent.jvp(model, np.ones((3, 2)), [np.ones((2, 1))])
    >>> keras.ops.convert_to_numpy(change).ravel()
    array([2., 2., 2.], dtype=float32)
    """
    stateless = Stateless.of(model, variables)
    x = stateless.inputs(x)
    tangents = _directions(tangents, stateless.variables)
    return stateless.compiled(_jvp)(stateless.values, stateless.state, x, tangents)


def vjp(model, x, cotangents, variables=None):
    """The gradients of the outputs of a model, weighted and summed.

    The model runs as in `predict`: no dropout, normalization by moving statistics.

    Args:
        model: A built Keras model with one output tensor.
        x: Inputs, of `n` examples.
        cotangents: Array of the shape of the outputs, the weights.
        variables: List of variables of the model. Defaults to those that are trainable.

    Returns:
        Tuple of the outputs and a list of tensors, a gradient for each variable.

    Raises:
        ValueError: If the model cannot be differentiated, or if `x` or `cotangents` do not fit it.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    >>> outputs, gradients = tangent.vjp(model, np.ones((3, 2)), np.ones((3, 1)))
    >>> keras.ops.convert_to_numpy(gradients[0]).ravel()
    array([3., 3.], dtype=float32)
    """
    stateless = Stateless.of(model, variables)
    x = stateless.inputs(x)
    cotangents = ops.convert_to_tensor(cotangents)
    return stateless.compiled(_vjp)(stateless.values, stateless.state, x, cotangents)


def _jvp(stateless, values, state, x, tangents):
    return differentiation.jvp(lambda values: stateless.run(values, state, x), values, tangents)


def _vjp(stateless, values, state, x, cotangents):
    def function(values):
        outputs = stateless.run(values, state, x)
        return outputs, outputs

    def weights(outputs):
        if cotangents.shape != outputs.shape:
            raise ValueError(
                f"`cotangents` must have the shape of the outputs, {tuple(outputs.shape)}. "
                f"Received: {tuple(cotangents.shape)}"
            )
        return ops.cast(cotangents, outputs.dtype)[None]

    outputs, gradients = differentiation.vjps(function, values, weights)
    return outputs, [each[0] for each in gradients]


def _directions(tangents, variables):
    tangents = [ops.convert_to_tensor(each) for each in tangents]
    received, expected = ([tuple(x.shape) for x in each] for each in (tangents, variables))
    if received != expected:
        raise ValueError(
            f"`tangents` must have the shapes of the variables, {expected}. Received: {received}"
        )
    return [ops.cast(*pair) for pair in zip(tangents, (x.dtype for x in variables), strict=True)]
