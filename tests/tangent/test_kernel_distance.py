import numpy as np
import pytest

from keras_nladv.tangent import kernel_distance, kernel_velocity


def kernel(seed, shape=(4, 4, 3, 3)):
    return np.random.default_rng(seed).normal(size=shape)


def test_definition():
    first, second = kernel(0), kernel(1)
    norms = np.sqrt((first**2).sum() * (second**2).sum())
    expected = 1 - (first * second).sum() / norms
    assert kernel_distance(first, second) == pytest.approx(expected)
    assert kernel_distance(second, first) == pytest.approx(expected)
    assert kernel_velocity(first, second, 0.5) == pytest.approx(2 * expected)


def test_scale_does_not_matter():
    first = kernel(0)
    assert kernel_distance(first, 1e-30 * first) == pytest.approx(0, abs=1e-15)
    for scale in (1e-200, 1e200):
        far = kernel_distance(scale * first, scale * kernel(1))
        assert far == pytest.approx(kernel_distance(first, kernel(1)))
    assert kernel_distance(first, -first) == pytest.approx(2)
    assert kernel_distance(first.astype("float32"), 1e30 * kernel(1)) == pytest.approx(
        kernel_distance(first, kernel(1)), rel=1e-6
    )


@pytest.mark.parametrize("angle", [1e-3, 1e-6, 1e-9])
def test_small_distances(angle):
    first, second = np.array([1.0, 0.0]), np.array([np.cos(angle), np.sin(angle)])
    assert kernel_distance(first, second) == pytest.approx(2 * np.sin(angle / 2) ** 2, rel=1e-6)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_undefined(bad):
    assert np.isnan(kernel_distance(kernel(0), np.full((4, 4, 3, 3), bad)))


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"same shape. Received: \(4, 4, 3, 3\) and \(4, 4\)"):
        kernel_distance(kernel(0), kernel(0, (4, 4)))
    for time in (0, -1, np.nan):
        with pytest.raises(ValueError, match=r"`time` must be greater than 0. Received: time="):
            kernel_velocity(kernel(0), kernel(1), time)
