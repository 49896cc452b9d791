import pytest

from keras_nladv import path_length
from networks.dense_networks import dense_network

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("name", "shape", "parameters", "length"),
    [
        # The numbers that papers give.
        ("mlp", (28, 28, 1), 266_610, 2),
        ("lenet", (28, 28, 1), 431_080, 3),
        ("conv4", (32, 32, 3), 2_425_930, 6),
        # Kernels of 3 x 3 and the last layer, two projections, four numbers to normalize a channel.
        ("resnet20", (32, 32, 3), 268_346 + 2_560 + 4 * 784, 14.5),
    ],
)
def test_networks(name, shape, parameters, length):
    model = dense_network(name, shape, 10)
    assert model.count_params() == parameters
    assert path_length(model) == pytest.approx(length)


def test_digits_are_large_enough():
    assert dense_network("lenet", (8, 8, 1), 10).output_shape == (None, 10)
