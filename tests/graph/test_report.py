import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_nladv import SparsePReLU, nonlinearity_report

pytestmark = pytest.mark.once


def test_report_counts_and_watches():
    """Positions, operations and shares against NumPy, for separate, fused and shared layers."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(32, 6, 6, 2)).astype("float32")
    shared = SparsePReLU(name="shared")
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(3, 3, name="conv", activation="relu")(inputs)
    y = shared(layers.Conv2D(4, 1, name="first")(x))
    y = shared(layers.Conv2D(4, 1, strides=2, name="second")(y))
    x = ops.relu(layers.Dense(5, name="dense")(layers.GlobalAveragePooling2D()(y)))
    model = keras.Model(inputs, x)
    shared.alpha.assign([1.0, 0.0, 0.3, 1.0])
    # Units that are dead and always on by their biases.
    model.get_layer("conv").bias.assign([-1e3, 1e3, 0.0])
    model.get_layer("dense").bias.assign([-1e6, -1e6, 1e6, 0.0, 0.0])
    report = nonlinearity_report(model, data, batch_size=10)
    conv, sparse, dense = report.rows
    assert (conv["name"], conv["function"], conv["units"], conv["nonlinear"]) == (
        "conv",
        "relu",
        3,
        3,
    )
    assert (conv["positions"], conv["operations"]) == (16, 48)
    assert (conv["dead"], conv["always_on"]) == (1 / 3, 1 / 3)
    assert (sparse["name"], sparse["function"]) == ("shared", "SparsePReLU(relu)")
    assert (sparse["units"], sparse["nonlinear"], sparse["positions"]) == (4, 2, 16 + 4)
    before = keras.Function(
        inputs, [model.get_layer(name).output for name in ("first", "second", "dense")]
    )
    *seen, last = (ops.convert_to_numpy(x) for x in before(ops.convert_to_tensor(data)))
    seen = np.concatenate([x.reshape(-1, 4) for x in seen])
    assert sparse["dead"] == (seen.max(axis=0) <= 0).mean()
    assert sparse["always_on"] == (seen.min(axis=0) > 0).mean()
    assert dense["dead"] == (last.max(axis=0) <= 0).mean() >= 2 / 5
    assert dense["always_on"] == (last.min(axis=0) > 0).mean() >= 1 / 5
    assert (report.units, report.nonlinear, report.operations) == (12, 10, 48 + 40 + 5)
    assert report.nonlinear_units == 10 / 12
    assert report.to_dict()["activations"] == report.rows
    assert "33.3%" in str(report)
    assert [line.split()[0] for line in str(report).splitlines() if line[0] != "-"] == [
        *("activation", "conv", "shared", dense["name"], "total"),
    ]


def test_report_beside_recurrent_layers():
    inputs = keras.Input((5, 3))
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True, name="lstm"))(inputs)
    x = layers.GRU(3)(layers.Dense(3, "relu", name="dense")(x))
    report = nonlinearity_report(keras.Model(inputs, x), np.ones((2, 5, 3), "float32"))
    rows = [(row["function"], row["units"], row["positions"]) for row in report.rows]
    assert rows == [("lstmcell", 3, 5), ("lstmcell", 3, 5), ("relu", 3, 5), ("grucell", 3, 5)]
    assert [row["dead"] is None for row in report.rows] == [True, True, False, True]


def test_report_of_a_layer_on_tensors_of_two_sizes():
    """Each is watched by itself, as where the model predicts; 0 is not positive."""
    shared = layers.ReLU()
    inputs = keras.Input((4,))
    x = layers.Dropout(0.9)(inputs)
    model = keras.Model(inputs, [shared(x), shared(layers.Concatenate()([x, -x]))])
    data = np.array([[1.0, -0.5, 0.5, 0.0], [-1.0, -0.5, 0.5, 0.0]], "float32")
    report = nonlinearity_report(model, data, batch_size=1)
    shares = [(row["units"], row["dead"], row["always_on"]) for row in report.rows]
    assert shares == [(4, 1 / 2, 1 / 4), (8, 1 / 2, 1 / 4)]


def test_report_leaves_the_model_as_it_was():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="relu"), SparsePReLU()])
    before = model.get_config()
    nonlinearity_report(model, np.ones((2, 4), "float32"))
    assert model.get_config() == before
    assert "call" not in model.layers[1].__dict__
    assert model.layers[0].activation is keras.activations.relu


def test_report_without_units():
    report = nonlinearity_report(keras.Sequential([keras.Input((4,)), layers.Dense(3)]))
    assert (report.rows, report.units, report.nonlinear_units, report.operations) == ([], 0, 0.0, 0)
    assert str(report).startswith("activation")


@pytest.mark.parametrize("data", [np.zeros((0, 4)), 3.0])
def test_report_refuses_data_without_samples(data):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="relu")])
    with pytest.raises(ValueError, match="`data` must be an array"):
        nonlinearity_report(model, data)
