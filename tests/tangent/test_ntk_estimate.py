import numpy as np
import pytest

from keras_nladv.tangent import NTKEstimate, empirical_ntk, estimate_ntk
from tests.cases import once
from tests.tangent.reference import example

RUNS = 100


@pytest.fixture(scope="module")
def estimates():
    """The exact trace and squared norm, and many estimates of them."""
    model, x = example("dense", 6)
    kernel = empirical_ntk(model, x)
    matrix = kernel.transpose(0, 2, 1, 3).reshape(12, 12).astype("float64")
    found = [estimate_ntk(model, x, samples=10, seed=seed) for seed in range(RUNS)]
    return matrix, found


@pytest.mark.parametrize("name", [once("trace"), "squared_norm"])
def test_unbiased_with_errors(name, estimates):
    matrix, found = estimates
    exact = np.trace(matrix) if name == "trace" else np.square(matrix).sum()
    values = np.array([getattr(each, name) for each in found])
    errors = np.array([getattr(each, f"{name}_error") for each in found])
    # The mean of all runs has an error that is ten times less.
    assert abs(values.mean() - exact) < 3 * values.std() / np.sqrt(RUNS)
    # Errors are what the values scatter by, and rarely exceeded.
    assert np.sqrt(np.square(errors).mean()) == pytest.approx(values.std(), rel=0.25)
    within = abs(values - exact) < errors
    assert 0.5 < within.mean() < 0.8
    assert values.std() > 0.01 * exact


def test_variance_of_the_trace(estimates):
    """That of Hutchinson's estimator with signs: twice the squares off the diagonal."""
    matrix, found = estimates
    expected = 2 * (np.square(matrix).sum() - np.square(np.diag(matrix)).sum()) / 10
    assert np.var([each.trace for each in found]) == pytest.approx(expected, rel=0.4)


def test_norm():
    estimate = NTKEstimate(3.0, 0.1, 16.0, 0.8)
    assert estimate.norm == 4.0
    assert estimate.norm_error == pytest.approx(0.1)


@pytest.mark.parametrize("batch_size", [once(1), 2, once(5), once(9)])
def test_batches(batch_size):
    model, x = example("dense", 5)
    whole = estimate_ntk(model, x, samples=3, seed=1)
    parts = estimate_ntk(model, x, samples=3, seed=1, batch_size=batch_size)
    assert vars(parts) == pytest.approx(vars(whole), rel=1e-5)
    assert vars(parts) != pytest.approx(vars(estimate_ntk(model, x, samples=3, seed=2)), rel=1e-2)


@pytest.mark.once
def test_chosen_variables():
    model, x = example("dense", 3)
    variables = [model.layers[1].bias]
    # K is 1 where outputs are the same, and 0 elsewhere.
    estimate = estimate_ntk(model, x, samples=400, variables=variables, seed=0)
    assert estimate.trace == pytest.approx(6, abs=4 * estimate.trace_error)
    assert estimate.squared_norm == pytest.approx(18, abs=4 * estimate.squared_norm_error)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 1}, "`samples` must be an integer of at least 2. Received: samples=1"),
        ({"samples": 2.5}, r"`samples` must be an integer .* Received: samples=2\.5"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1"),
        ({"x": np.ones((3, 4), int)}, "`x` must be floats"),
    ],
)
def test_bad_arguments(arguments, message):
    model, x = example("dense")
    with pytest.raises(ValueError, match=message):
        estimate_ntk(**{"model": model, "x": x, **arguments})
