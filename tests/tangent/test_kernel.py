"""The kernel as a function of the values of weights, whose gradients transfer needs."""

import numpy as np
import pytest
from keras import ops

from keras_nladv.tangent import differentiation
from keras_nladv.tangent.kernel import kernel
from keras_nladv.tangent.stateless import Stateless
from tests.cases import once
from tests.gradients import gradients
from tests.tangent.reference import example, numbers


def setup(name):
    model, x1 = example(name, 2)
    x2 = example(name, 3, seed=2)[1]
    stateless = Stateless.of(model)
    values = [numbers(each) for each in stateless.values]
    return model, stateless, *stateless.pair(x1, x2), values


def directional(function, values, direction):
    """The derivative of a function of arrays, by finite differences, and its accuracy."""

    def at(step):
        moved = [value + step * each for value, each in zip(values, direction)]
        return float(numbers(function(*map(ops.convert_to_tensor, moved))))

    # On one of these, parts in float32 may be rounded alike.
    steps = (5e-8, 1e-7, 2e-7)
    noise = max(abs(at(each) - 2 * at(0.0) + at(-each)) for each in steps) / abs(at(0.0))
    step, accuracy = (1e-3, 1e-7) if noise < 2e-12 else (2e-3, 2e-3)
    near, far = at(step) - at(-step), at(2 * step) - at(-2 * step)
    return (8 * near - far) / (12 * step), accuracy


@pytest.mark.parametrize(
    ("name", "trace"),
    [
        once("dense", False),
        once("positions", True),
        ("conv2d", False),
        once("normalization", False),
        once("depthwise", False),
    ],
)
def test_gradient(name, trace, double):
    model, stateless, x1, x2, values = setup(name)
    k = np.prod(model.output_shape[1:])
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(2, 3) if trace else (2, 3, k, k))
    weights = ops.convert_to_tensor(weights.astype(stateless.dtype))

    def function(*values):
        found = kernel(stateless, list(values), stateless.state, x1, x2, trace)
        # Keras warns of what has no gradient, as the last bias.
        return ops.sum(weights * found) + 0.0 * sum(ops.sum(each) for each in values)

    found = gradients(function, *values, run_eagerly=False)
    direction = [rng.normal(size=each.shape).astype(each.dtype) for each in values]
    expected, accuracy = directional(differentiation.compiled(function), values, direction)
    products = [np.vdot(*pair) for pair in zip(found, direction)]
    scale = np.sqrt(sum(np.square(each).sum() for each in found))
    assert sum(products) == pytest.approx(expected, abs=accuracy * scale)
    assert abs(expected) > 10 * accuracy * scale
