import keras
import numpy as np
import pytest

from keras_nladv import SparsePReLU, sparsify


def outputs(model, *inputs):
    return keras.ops.convert_to_numpy(model(inputs[0] if len(inputs) == 1 else list(inputs)))


def test_fused_separate_and_operations():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    x = keras.layers.ReLU(max_value=6.0)(keras.layers.BatchNormalization()(x))
    x = keras.activations.gelu(keras.layers.Conv2D(4, 1)(x))
    x = keras.layers.Dense(5, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, x)
    sparse, report = sparsify(model, return_report=True)
    data = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(outputs(sparse, data), outputs(model, data), rtol=1e-6)
    assert [row["function"] for row in report.rows] == ["relu", "relu", "gelu", "softmax"]
    assert report.left == ["dense"]
    assert sum(isinstance(layer, SparsePReLU) for layer in sparse.layers) == 3
    with pytest.raises(ValueError, match="nothing to convert"):
        sparsify(model, "no such name")
