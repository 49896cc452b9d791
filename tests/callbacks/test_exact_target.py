import keras
import numpy as np
import pytest

from keras_nladv import (
    LinearizationSchedule,
    NonlinearitySparsity,
    PathLengthCallback,
    SparsePReLU,
    nonlinearity_report,
    path_length,
)
from tests.cases import once

UNITS = 12


def pressed(start=0.0, kind=SparsePReLU, **kwargs):
    """A layer whose slopes begin at a number, or are drawn with a seed that is given as text."""
    if isinstance(start, str):
        start = keras.initializers.RandomUniform(-0.5, 0.9, seed=int(start))
    else:
        start = keras.initializers.Constant(start)
    return kind(alpha_initializer=start, alpha_regularizer=NonlinearitySparsity(0.0), **kwargs)


def make_model(optimizer, *layers):
    """Fully connected layers, each followed by one of those given."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,))])
    for layer in layers:
        model.add(keras.layers.Dense(UNITS))
        model.add(layer)
    model.add(keras.layers.Dense(1))
    model.compile(optimizer, "mse")
    return model


def fit(model, *callbacks, batch_size=8, **kwargs):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(64, 8)).astype("float32")
    y = np.sin(x.sum(axis=1, keepdims=True))
    return model.fit(
        x, y, batch_size=batch_size, verbose=0, callbacks=list(callbacks), **kwargs
    ).history


def slopes(model):
    layers = dict.fromkeys(layer for layer in model.layers if hasattr(layer, "alpha"))
    return np.concatenate([keras.ops.convert_to_numpy(each.alpha).ravel() for each in layers])


class Recorder(keras.callbacks.Callback):
    """Notes slopes before each batch, and the pressure of the batch before."""

    def on_train_begin(self, logs=None):
        self.slopes, self.strengths = [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.slopes.append(slopes(self.model))
        self.strengths.append(self.model.layers[1].alpha_regularizer.strength)


@pytest.mark.parametrize(
    ("optimizer", "strength"),
    [
        (keras.optimizers.SGD(0.05, momentum=0.9), 1.0),
        once(keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True), 0.2),
        once(keras.optimizers.Adam(0.02), 0.1),
        once(keras.optimizers.AdamW(0.1, weight_decay=0.01), 1.0),
    ],
)
def test_share_is_met_and_kept(optimizer, strength):
    element = pressed(granularity="element")
    shared = pressed(granularity="channel")
    # Two of these have one slope a unit, and one that has one for all, which nothing freezes.
    stock = pressed(kind=keras.layers.PReLU)
    model = make_model(optimizer, element, shared, stock, shared, pressed(granularity="layer"))
    schedule = LinearizationSchedule(strength, target_nonlinear_units=0.4, exact_target=True)
    history = fit(model, schedule, PathLengthCallback(), epochs=16)
    units = 3 * UNITS + 1
    wanted = np.floor(0.4 * units) / units
    shares = np.array(history["nonlinear_units"])
    met = np.array(history["omega"]) == 0
    assert met.sum() > 3
    assert (shares >= wanted - 1e-9).all()
    np.testing.assert_allclose(shares[met], wanted)
    linear = np.abs(1 - slopes(model)) < 0.01
    assert linear.sum() == round(units * (1 - wanted))
    np.testing.assert_array_equal(slopes(model)[linear], 1)


def test_a_number_is_met_as_the_share_that_it_counts():
    """Where all units would be linear in the same steps; beside a target that says when only."""
    found = []
    for target in (
        {"target_nonlinear_units": 0.4},
        {"stop_when": lambda model: nonlinearity_report(model).nonlinear_units - 0.4},
        {"target_nonlinear_units": 0.4, "stop_when": lambda model: False},
    ):
        model = make_model(keras.optimizers.Adam(0.1), pressed(), pressed(kind=keras.layers.PReLU))
        fit(model, LinearizationSchedule(1.0, exact_target=True, **target), epochs=6)
        found.append(slopes(model))
    assert np.sum(found[0] != 1) == 9
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


def test_frozen_as_others_are_and_held_until_the_end(tmp_path):
    model = make_model(keras.optimizers.SGD(0.02, momentum=0.9), pressed("1"), pressed("2"))
    schedule = LinearizationSchedule(1.0, target_nonlinear_units=0.5, exact_target=True)
    fit(model, schedule, epochs=3)
    before = nonlinearity_report(model).rows
    assert sum(row["nonlinear"] for row in before) == UNITS
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    linear = slopes(model) == 1
    # Units that were held follow a pressure once more; those that were set stay.
    weaker = LinearizationSchedule(1.0, target_nonlinear_units=0.25, exact_target=True)
    fit(loaded, weaker, epochs=3)
    assert nonlinearity_report(loaded).nonlinear == UNITS // 2
    assert (slopes(loaded)[linear] == 1).all()
    loaded.layers[1].alpha_regularizer.strength = 1.0
    loaded.layers[3].alpha_regularizer.strength = 1.0
    fit(loaded, epochs=3)
    np.testing.assert_array_equal(slopes(loaded), 1)


@pytest.mark.parametrize(
    "target", [{"target_path_length": 1.11}, once({"target_nonlinear_units": 0.3})]
)
def test_the_nearest_are_set(target):
    layers = [pressed(str(seed)) for seed in range(3)]
    model = make_model(keras.optimizers.SGD(0.05, momentum=0.9), *layers)
    recorder = Recorder()
    schedule = LinearizationSchedule(0.08, exact_target=True, **target)
    history = fit(model, recorder, schedule, epochs=12)
    assert history["omega"][-1] == 0
    # The last batch that began with pressure, from the view of what comes before the schedule.
    last = np.flatnonzero(recorder.strengths)[-1]
    found = recorder.slopes[last]
    assert 0 < np.sum(found == 1) < len(found)
    # Set one by one, nearest first, until the target is met.
    expected = make_model("sgd", *[pressed() for _ in layers])

    def is_met():
        for layer, values in zip(expected.layers[1::2], np.split(found, 3)):
            layer.alpha.assign(values)
        if "target_path_length" in target:
            return path_length(expected) <= target["target_path_length"]
        return nonlinearity_report(expected).nonlinear_units <= target["target_nonlinear_units"]

    missing = 0
    while not is_met():
        found[np.argmin(np.where(found == 1, np.inf, np.abs(1 - found)))] = 1
        missing += 1
    assert missing > 0
    np.testing.assert_array_equal(slopes(model) == 1, found == 1)


def test_those_that_went_too_far_in_a_batch_come_back():
    model = make_model(keras.optimizers.SGD(0.05), pressed("1"), pressed("2"))
    start = slopes(model)
    schedule = LinearizationSchedule(1e3, target_nonlinear_units=0.5, exact_target=True)
    # All cross 1 in the first batch, by far; in the second there is no pressure any more.
    fit(model, schedule, batch_size=32, epochs=1)
    nearest = np.argsort(-start)[:UNITS]
    np.testing.assert_array_equal(np.sort(np.flatnonzero(slopes(model) == 1)), np.sort(nearest))
    others = np.setdiff1d(np.arange(2 * UNITS), nearest)
    np.testing.assert_allclose(slopes(model)[others], start[others], atol=0.3)


def test_the_end_of_training_before_the_target():
    model = make_model(keras.optimizers.SGD(0.05), pressed("1"), pressed("2"))
    schedule = LinearizationSchedule(1e-3, target_path_length=1.0, exact_target=True)
    data = np.ones((8, 8)), np.ones((8, 1))
    seen = keras.callbacks.LambdaCallback(on_test_end=lambda _: lengths.append(path_length(model)))
    lengths = []
    history = fit(model, schedule, seen, epochs=2, validation_data=data)
    # The last validation sees the network that training leaves.
    assert lengths == pytest.approx([2.0, path_length(model)])
    assert lengths[1] == pytest.approx(1.0)
    assert model.evaluate(*data, verbose=0) == pytest.approx(history["val_loss"][-1], rel=1e-5)


@pytest.mark.once
def test_training_that_is_stopped():
    model = make_model(keras.optimizers.SGD(0.05), pressed("1"))
    schedule = LinearizationSchedule(1e-3, target_path_length=0.5, exact_target=True)
    fit(model, schedule, keras.callbacks.EarlyStopping("loss", baseline=0.0, patience=1), epochs=9)
    assert path_length(model) == pytest.approx(0.5)
    # It had not come to the pressure.
    model = make_model(keras.optimizers.SGD(0.05), pressed("1"))
    fit(model, LinearizationSchedule(1e-3, 5, 0, 0.5, exact_target=True), epochs=3)
    assert path_length(model) == 1


def test_end_epoch_and_resumed_training():
    def schedule():
        return LinearizationSchedule(
            1e-3, 1, target_nonlinear_units=0.5, end_epoch=3, exact_target=True
        )

    def model():
        return make_model(keras.optimizers.SGD(0.05, momentum=0.9), pressed("1"), pressed("2"))

    whole, resumed = model(), model()
    history = fit(whole, schedule(), PathLengthCallback(), epochs=5, shuffle=False)
    assert history["nonlinear_units"] == [1, 1, 1, 0.5, 0.5]
    assert history["omega"] == pytest.approx([0, 1e-3, 1e-3, 0, 0])
    for first, last in [(0, 2), (2, 4), (4, 5)]:
        part = fit(
            resumed,
            schedule(),
            PathLengthCallback(),
            initial_epoch=first,
            epochs=last,
            shuffle=False,
        )
        assert part["nonlinear_units"] == history["nonlinear_units"][first:last]
    np.testing.assert_allclose(slopes(whole), slopes(resumed), rtol=1e-6)


def test_units_that_are_not_pressed():
    rectified = keras.layers.ReLU()
    layers = [pressed("1", name="a"), pressed("2", name="b"), rectified]
    model = make_model(keras.optimizers.SGD(0.05, momentum=0.9), *layers)
    schedule = LinearizationSchedule(
        1.0, target_nonlinear_units=0.75, exact_target=True, weights={"a": 0.0}
    )
    fit(model, schedule, epochs=2)
    assert [row["nonlinear"] for row in nonlinearity_report(model).rows] == [UNITS, 3, UNITS]
    model = make_model("sgd", *[pressed(name=name) for name in "ab"], keras.layers.ReLU())
    schedule = LinearizationSchedule(
        1.0, target_nonlinear_units=0.5, exact_target=True, weights={"a": 0.0}
    )
    with pytest.raises(ValueError, match=r"meets with all units linear .* above it by 0\.1667"):
        fit(model, schedule)


def test_units_inside_another_layer():
    # With TensorFlow, these have no weights before the first batch has run.
    keras.utils.set_random_seed(0)
    layer = pressed("1")
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(UNITS, activation=layer)])
    model.add(keras.layers.Dense(1))
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    fit(model, LinearizationSchedule(0.1, target_path_length=0.25, exact_target=True), epochs=6)
    assert layer.nonlinear.sum() == 3


@pytest.mark.once
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.5])
def test_held_units_are_nonlinear_in_every_precision(dtype, threshold):
    model = keras.Sequential([keras.Input((UNITS,), dtype=dtype)])
    model.add(pressed("1", dtype=dtype, linear_threshold=threshold))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    data = np.zeros((8, UNITS), dtype)
    recorded = []
    schedule = LinearizationSchedule(3.0, target_nonlinear_units=0.5, exact_target=True)
    carry = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, _: (
            model.layers[0].alpha.assign(np.linspace(0.9, 1.1, UNITS)) if epoch == 6 else None
        ),
        on_epoch_end=lambda *_: recorded.append(nonlinearity_report(model).nonlinear),
    )
    model.fit(data, data, batch_size=1, epochs=8, verbose=0, callbacks=[schedule, carry])
    assert recorded[-3:] == [UNITS // 2] * 3


@pytest.mark.once
def test_target_that_the_network_is_below_of():
    def target(**target):
        return LinearizationSchedule(0.1, exact_target=True, **target)

    for targets in ({"target_path_length": 1.5}, {"target_nonlinear_units": 0.8}):
        model = make_model("sgd", pressed())
        model.layers[1].alpha.assign([1.0] * 4 + [0.0] * 8)
        with pytest.raises(ValueError, match=r"Received: model '.*', which is below it by 0\.\d+ "):
            fit(model, target(**targets))
    # What another training has met, or is there from the start, is no error.
    for targets in ({"target_path_length": 0.7}, {"target_nonlinear_units": 8 / 12}):
        fit(model, target(**targets))
        assert nonlinearity_report(model).nonlinear == 8
    model = make_model("sgd", pressed())
    assert fit(model, target(target_path_length=1.0))["omega"] == [0]


@pytest.mark.once
def test_bad_arguments():
    for value in (2, "yes", None, [True]):
        with pytest.raises(ValueError, match=r"`exact_target` must be True or False\. Received: e"):
            LinearizationSchedule(0.1, target_path_length=1.0, exact_target=value)
    with pytest.raises(ValueError, match=r"`exact_target` must be False without a target"):
        LinearizationSchedule(0.1, exact_target=True)
    told = LinearizationSchedule(0.1, exact_target=True, stop_when=lambda model: True)
    with pytest.raises(ValueError, match=r"`stop_when` must return by how much .* Received: True"):
        fit(make_model("sgd", pressed()), told)
    with pytest.raises(ValueError, match=r"`end_epoch` must be greater than `start_epoch` with"):
        LinearizationSchedule(0.1, 3, target_path_length=1.0, end_epoch=3, exact_target=True)
    LinearizationSchedule(0.1, target_path_length=1.0, exact_target=np.bool_(True))
