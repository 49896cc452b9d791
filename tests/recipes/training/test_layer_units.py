import keras
import numpy as np
import pytest

from keras_nladv import SparsePReLU
from training.layer_units import LayerUnits

pytestmark = pytest.mark.once


@pytest.mark.parametrize("watched", [0, 8])
def test_what_is_counted(watched):
    first, second = SparsePReLU(name="first"), SparsePReLU(name="second")
    model = keras.Sequential(
        [keras.Input((4,)), first, keras.layers.Dense(2, name="dense"), second]
    )
    model.compile(keras.optimizers.SGD(0.0), "mse")
    first.alpha.assign([1.0, 0.0, 0.0, 1.0])
    model.get_layer("dense").bias.assign([100.0, -100.0])
    # Of its inputs the first is always positive, the second never, and two change.
    x = np.array([[1, -1, i % 2 - 0.5, 0.5 - i % 2] for i in range(8)], "float32")
    history = model.fit(
        *(x, np.zeros((8, 2), "float32")),
        epochs=2,
        callbacks=[LayerUnits(x[:watched])],
        verbose=0,
    ).history
    expected = {"nonlinear/first": 2, "nonlinear/second": 2}
    if watched:
        expected |= {"dead/first": 0.25, "always_on/first": 0.25}
        expected |= {"dead/second": 0.5, "always_on/second": 0.5}
    counted = {key: values for key, values in history.items() if "/" in key}
    assert counted == {key: [value] * 2 for key, value in expected.items()}
