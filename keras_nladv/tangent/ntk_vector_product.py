from keras import ops

from keras_nladv.tangent import differentiation
from keras_nladv.tangent.stateless import Stateless


def ntk_vector_product(model, x1, x2, vectors, variables=None):
    """Product of the empirical neural tangent kernel with a vector, without the kernel.

    It costs a backward derivative at `x2` and a forward one at `x1`.

    Args:
        model: A built Keras model with one output tensor. Outputs of an example are flattened
            to `k` numbers.
        x1: Inputs, of `n1` examples.
        x2: Inputs, of `n2` examples of the same shape, or `None` for `x1`.
        vectors: Array of shape `(n2, k)`.
        variables: List of variables of the model. Defaults to those that are trainable.

    Returns:
        Tensor of shape `(n1, k)`: `sum_jb K[i, j, a, b] vectors[j, b]`.

    Raises:
        ValueError: If the model cannot be differentiated, or if an argument does not fit.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> x = np.eye(2, dtype="float32")
    >>> product = tangent.ntk_vector_product(model, x, None, np.ones((2, 1)))
    >>> keras.ops.convert_to_numpy(product).ravel()
    array([3., 3.], dtype=float32)
    """
    stateless = Stateless.of(model, variables)
    x1, x2 = stateless.pair(x1, x2)
    vectors = ops.convert_to_tensor(vectors)
    return stateless.compiled(product)(stateless.values, stateless.state, x1, x2, vectors)


def product(stateless, values, state, x1, x2, vectors):
    """`ntk_vector_product` on tensors. It can be differentiated."""

    def cotangents(outputs):
        if vectors.shape != outputs.shape:
            raise ValueError(
                "`vectors` must have the shape of the outputs at `x2`, each flattened, "
                f"{tuple(outputs.shape)}. Received: {tuple(vectors.shape)}"
            )
        return ops.cast(vectors, outputs.dtype)[None]

    def at(x):
        return lambda values: stateless(values, state, x)

    _, directions = differentiation.vjps(lambda values: (at(x2)(values), ()), values, cotangents)
    return differentiation.jvp(at(x1), values, [each[0] for each in directions])[1]
