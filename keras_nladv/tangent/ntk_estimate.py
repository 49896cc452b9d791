import math
from dataclasses import dataclass

import numpy as np
from keras import ops

from keras_nladv._common.arguments import integer
from keras_nladv.tangent import differentiation
from keras_nladv.tangent.batches import count, part
from keras_nladv.tangent.kernel_plan import KernelPlan
from keras_nladv.tangent.stateless import Stateless


@dataclass(frozen=True)
class NTKEstimate:
    """Estimates of numbers that say how large an empirical neural tangent kernel is.

    All are of the kernel as a matrix, of `n k` rows and columns. Errors are standard errors: two
    times in three, the exact number is not farther away than that.

    Attributes:
        trace: Float, the sum of its eigenvalues.
        trace_error: Float.
        squared_norm: Float, the square of its Frobenius norm, the sum of its squared eigenvalues.
        squared_norm_error: Float.
    """

    trace: float
    trace_error: float
    squared_norm: float
    squared_norm_error: float

    @property
    def norm(self):
        """Float, the Frobenius norm, the root of `squared_norm`."""
        return math.sqrt(self.squared_norm)

    @property
    def norm_error(self):
        """Float, the error of `norm` as long as it is small."""
        return self.squared_norm_error / (2 * self.norm)


def estimate_ntk(model, x, samples=64, variables=None, batch_size=None, seed=None):
    r"""Trace and Frobenius norm of the empirical neural tangent kernel, without the kernel.

    With a vector $v$ of random signs, $\lVert J^T v \rVert^2$ has the expectation
    $\mathrm{tr}\,K$, and $\lVert J J^T v \rVert^2$ has $\lVert K \rVert^2$: a sample of both costs
    a backward and a forward derivative. The means over samples are unbiased.

    Args:
        model: A built Keras model with one output tensor.
        x: Inputs, of `n` examples.
        samples: Integer of at least 2. Errors go down with its root.
        variables: List of variables of the model. Defaults to those that are trainable.
        batch_size: Integer, so many inputs are differentiated at a time. Defaults to all.
        seed: Integer, a random seed, or `None`.

    Returns:
        An `NTKEstimate`.

    Raises:
        ValueError: If the model cannot be differentiated, or if an argument does not fit.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> x = np.eye(2, dtype="float32")
    >>> estimate = tangent.estimate_ntk(model, x, samples=1000, seed=0)
    >>> abs(estimate.trace - 4) < 4 * estimate.trace_error
    True

    Source: Hutchinson, *A stochastic estimator of the trace of the influence matrix*, 1989.
    """
    samples = integer("samples", samples, least=2)
    stateless = Stateless.of(model, variables)
    x = stateless.inputs(x)
    n, k = count(x), KernelPlan.of(stateless, x).k
    size = n if batch_size is None else integer("batch_size", batch_size, least=1)
    rng = np.random.default_rng(seed)
    found = [
        _sample(stateless, x, size, rng.choice([-1.0, 1.0], (n, k)).astype(stateless.dtype))
        for _ in range(samples)
    ]
    means = np.mean(found, axis=0)
    errors = np.std(found, axis=0, ddof=1) / math.sqrt(samples)
    return NTKEstimate(*map(float, (means[0], errors[0], means[1], errors[1])))


def _sample(stateless, x, size, signs):
    """The squared norms of J^T v and of J J^T v."""
    values, state = stateless.values, stateless.state
    pulled, pushed = stateless.compiled(_pulled), stateless.compiled(_pushed)
    starts = range(0, len(signs), size)
    directions = [ops.zeros_like(each) for each in values]
    for i in starts:
        gradients = pulled(values, state, part(x, i, size), signs[i : i + size])
        directions = [ops.add(*pair) for pair in zip(directions, gradients, strict=True)]
    squares = sum(_square(stateless, each) for each in directions)
    return float(squares), float(
        sum(pushed(values, state, part(x, i, size), directions) for i in starts)
    )


def _pulled(stateless, values, state, x, signs):
    def function(values):
        return stateless(values, state, x), ()

    def cotangents(outputs):
        return ops.cast(signs, outputs.dtype)[None]

    _, gradients = differentiation.vjps(function, values, cotangents)
    return [each[0] for each in gradients]


def _pushed(stateless, values, state, x, directions):
    _, change = differentiation.jvp(lambda values: stateless(values, state, x), values, directions)
    return _square(stateless, change)


def _square(stateless, tensor):
    return ops.sum(ops.square(ops.cast(tensor, stateless.dtype)))
