import keras
import numpy as np
import pytest

from keras_nladv import (
    LinearizationSchedule,
    NonlinearitySparsity,
    PathLengthCallback,
    SparsePReLU,
    path_length,
)
from tests.cases import once

RATE = 0.1


def pressed():
    return SparsePReLU(alpha_regularizer=NonlinearitySparsity(0.0))


def make_model(*layers, units=3):
    """A model whose data give slopes no gradient: only the regularizer moves them."""
    model = keras.Sequential([keras.Input((units,)), *layers])
    model.compile(keras.optimizers.SGD(RATE), "mse")
    return model


def fit(model, *callbacks, units=3, batch_size=8, **kwargs):
    """Trains with one batch an epoch, by default."""
    data = np.ones((8, units))
    history = model.fit(
        data, data, batch_size=batch_size, verbose=0, callbacks=list(callbacks), **kwargs
    )
    return history.history


def pressed_slope(strengths, slope=0.0):
    """What SGD makes of a slope, one step for each strength."""
    for strength in strengths:
        if slope < 1:
            slope += RATE * strength * 0.5 / np.sqrt(1 - slope)
        if slope > 0.99:
            slope = 1.0
    return slope


@pytest.mark.parametrize(
    ("start_epoch", "ramp_epochs", "strengths"),
    [
        once(0, 0, [0.6, 0.6, 0.6, 0.6, 0.6, 0.6]),
        once(2, 0, [0, 0, 0.6, 0.6, 0.6, 0.6]),
        (1, 2, [0, 0.2, 0.4, 0.6, 0.6, 0.6]),
        once(0, 11, [0.05, 0.1, 0.15, 0.2, 0.25, 0.3]),
        once(9, 2, [0, 0, 0, 0, 0, 0]),
    ],
)
def test_strengths(start_epoch, ramp_epochs, strengths):
    layer = pressed()
    schedule = LinearizationSchedule(0.6, start_epoch, ramp_epochs)
    history = fit(make_model(layer), schedule, epochs=6)
    np.testing.assert_allclose(history["omega"], strengths, rtol=1e-6)
    np.testing.assert_allclose(layer.slopes, pressed_slope(strengths), rtol=1e-5)


def test_strength_of_the_constructor_is_replaced():
    layer = SparsePReLU(alpha_regularizer=NonlinearitySparsity(5.0))
    fit(make_model(layer), LinearizationSchedule(0.6, start_epoch=2), epochs=2)
    np.testing.assert_array_equal(layer.slopes, 0)
    assert layer.alpha_regularizer.strength == 0


def test_resumed_training_goes_on_where_it_was():
    whole, resumed = pressed(), pressed()
    history = fit(make_model(whole), LinearizationSchedule(0.6, 1, 3), epochs=6)
    model = make_model(resumed)
    first = fit(model, LinearizationSchedule(0.6, 1, 3), epochs=3)
    second = fit(model, LinearizationSchedule(0.6, 1, 3), initial_epoch=3, epochs=6)
    assert history["omega"] == first["omega"] + second["omega"]
    np.testing.assert_array_equal(whole.slopes, resumed.slopes)


@pytest.mark.parametrize(
    "target", [{"target_path_length": 0.5}, once({"target_nonlinear_units": 1 / 3 + 1e-9})]
)
def test_pressure_stops_for_good_at_a_target(target):
    # Of the slopes 0.9, 0.5, 0.0 the first two become linear, one after the other.
    slopes = [0.9, 0.5, 0.0]
    layer = SparsePReLU(
        alpha_initializer=lambda shape, dtype: keras.ops.cast(slopes, dtype),
        alpha_regularizer=NonlinearitySparsity(0.0),
    )
    model = make_model(layer)
    schedule = LinearizationSchedule(0.6, **target)
    history = fit(model, schedule, PathLengthCallback(), epochs=20)
    reached = np.array(history["path_length"]) < 0.4
    assert 1 < np.sum(reached) < 18
    stopped = np.concatenate([[False], reached[:-1]])
    np.testing.assert_allclose(history["omega"], np.where(stopped, 0, 0.6), rtol=1e-6)
    assert layer.alpha_regularizer.strength == 0
    assert layer.nonlinear.tolist() == [False, False, True]
    # Resumed after the target was reached, without knowing that.
    history = fit(model, LinearizationSchedule(0.6, **target), initial_epoch=20, epochs=22)
    assert history["omega"] == [0, 0]


@pytest.mark.parametrize("check_every", [1, once(4)])
@pytest.mark.parametrize(
    "target",
    [
        once({"target_path_length": 0.5}),
        {"target_nonlinear_units": 0.5},
        once({"stop_when": lambda model: path_length(model) < 0.75}),
    ],
)
def test_pressure_stops_within_an_epoch(target, check_every):
    # Of these the first becomes linear after some steps, in the middle of an epoch.
    slopes = [0.5, 0.0]
    layer = SparsePReLU(
        alpha_initializer=lambda shape, dtype: keras.ops.cast(slopes, dtype),
        alpha_regularizer=NonlinearitySparsity(0.0),
    )
    model = make_model(layer, units=2)
    schedule = LinearizationSchedule(0.6, ramp_epochs=1, check_every=check_every, **target)
    history = fit(model, schedule, units=2, batch_size=1, epochs=4)
    # Epochs have 8 steps; the second has twice the strength of the first.
    strengths = [0.3] * 8 + [0.6] * 8
    steps = next(n for n in range(16) if pressed_slope(strengths[:n], 0.5) == 1.0)
    assert steps % 8 not in (0, 1, 4)
    pressed_for = -(-steps // check_every) * check_every
    np.testing.assert_allclose(
        layer.slopes, [1.0, pressed_slope(strengths[:pressed_for])], rtol=1e-5
    )
    assert history["omega"] == pytest.approx([0.3, 0.6, 0, 0])
    assert layer.alpha_regularizer.strength == 0


def test_a_target_is_looked_for_while_there_is_pressure_only():
    asked = []

    def stop_when(model):
        asked.append(model)
        return len(asked) == 6

    schedule = LinearizationSchedule(0.6, start_epoch=1, stop_when=stop_when, check_every=3)
    history = fit(make_model(pressed()), schedule, batch_size=1, epochs=4)
    # Where epoch 0 begins; epoch 1 and its batches 3 and 6; epoch 2 and its batch 3.
    assert len(asked) == 6
    assert history["omega"] == pytest.approx([0, 0.6, 0.6, 0])


def test_pressure_ends_at_an_epoch():
    layer = pressed()
    schedule = LinearizationSchedule(0.6, start_epoch=1, ramp_epochs=1, end_epoch=3)
    history = fit(make_model(layer), schedule, epochs=5)
    np.testing.assert_allclose(history["omega"], [0, 0.3, 0.6, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(layer.slopes, pressed_slope([0.3, 0.6]), rtol=1e-5)


@pytest.mark.once
def test_target_that_is_met_from_the_start():
    history = fit(make_model(pressed()), LinearizationSchedule(0.6, target_path_length=1), epochs=2)
    assert history["omega"] == [0, 0]


def test_shared_regularizer_and_shared_layer():
    regularizer = NonlinearitySparsity(0.0)
    first, second = SparsePReLU(alpha_regularizer=regularizer), pressed()
    third = SparsePReLU(alpha_regularizer=regularizer)
    history = fit(make_model(first, second, third, second), LinearizationSchedule(0.3), epochs=2)
    np.testing.assert_allclose(history["omega"], [0.3, 0.3])
    assert regularizer.strength == pytest.approx(0.3)
    assert second.alpha_regularizer.strength == pytest.approx(0.3)


def two_layers(inner=None):
    """A layer inside a nested model, and one outside, that by default have the same name."""
    inner = inner or SparsePReLU(alpha_regularizer=NonlinearitySparsity(0.0), name="units")
    outer = SparsePReLU(alpha_regularizer=NonlinearitySparsity(0.0), name="units")
    nested = keras.Sequential([keras.Input((3,)), inner], name="nested")
    return make_model(nested, outer), inner, outer


@pytest.mark.parametrize("by_layer", [False, once(True)])
def test_weights(by_layer):
    model, inner, outer = two_layers()
    other = keras.layers.PReLU(alpha_regularizer=NonlinearitySparsity(0.0), name="other")
    model.add(other)
    model.compile(keras.optimizers.SGD(RATE), "mse")
    keys = [inner, outer] if by_layer else ["nested/units", "units"]
    schedule = LinearizationSchedule(0.3, ramp_epochs=1, weights=dict(zip(keys, [2, 0.0])))
    history = fit(model, schedule, epochs=3)
    # The strength without weights.
    np.testing.assert_allclose(history["omega"], [0.15, 0.3, 0.3], rtol=1e-6)
    np.testing.assert_allclose(inner.slopes, pressed_slope([0.3, 0.6, 0.6]), rtol=1e-5)
    np.testing.assert_array_equal(outer.slopes, 0)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(other.alpha), pressed_slope([0.15, 0.3, 0.3]), rtol=1e-5
    )


@pytest.mark.once
def test_weights_that_do_not_fit_the_model():
    def refused(model, weights):
        fit(model, LinearizationSchedule(0.1, weights=weights), epochs=1)

    model, inner, _ = two_layers()
    for key in ("nested", "unit", pressed()):
        with pytest.raises(ValueError, match=r"'nested/units', 'units' in model .* Received: "):
            refused(model, {key: 1.0})
    with pytest.raises(ValueError, match="each once"):
        refused(model, {inner: 1.0, "nested/units": 1.0})
    regularizer = NonlinearitySparsity(0.0)
    sharing = [SparsePReLU(alpha_regularizer=regularizer, name=name) for name in "ab"]
    with pytest.raises(ValueError, match=r"Received: \[1.0, 2.0\] for 'a', 'b'"):
        refused(make_model(*sharing), {"a": 2.0})
    refused(make_model(*sharing), {"a": 2.0, "b": 2.0})
    assert regularizer.strength == pytest.approx(0.2)


@pytest.mark.once
def test_weights_of_units_inside_another_layer():
    layer = SparsePReLU(alpha_regularizer=NonlinearitySparsity(0.0), name="inside")
    model = make_model(keras.layers.Dense(3, activation=layer))
    fit(model, LinearizationSchedule(0.1, weights={"inside": 3.0}), epochs=2)
    assert layer.alpha_regularizer.strength == pytest.approx(0.3)


def test_stock_prelu():
    layer = keras.layers.PReLU(alpha_regularizer=NonlinearitySparsity(0.0))
    fit(make_model(layer), LinearizationSchedule(0.6, start_epoch=1), epochs=3)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(layer.alpha), pressed_slope([0, 0.6, 0.6]), rtol=1e-5
    )


@pytest.mark.parametrize("batch_size", [once(8), 4])
@pytest.mark.parametrize("kind", ["functional", "not built", "subclassed"])
def test_units_inside_another_layer(kind, batch_size):
    # With TensorFlow, these have no weights before the first batch has run.
    layer = pressed()
    dense = keras.layers.Dense(3, activation=layer, kernel_initializer="identity")

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = dense

        def call(self, inputs):
            return self.dense(inputs)

    model = {
        "functional": lambda: keras.Sequential([keras.Input((3,)), dense]),
        "not built": lambda: keras.Sequential([dense]),
        "subclassed": Subclassed,
    }[kind]()
    model.compile(keras.optimizers.SGD(RATE), "mse")
    history = fit(model, LinearizationSchedule(0.6, ramp_epochs=1), epochs=3, batch_size=batch_size)
    np.testing.assert_allclose(history["omega"], [0.3, 0.6, 0.6], rtol=1e-6)
    assert layer.alpha_regularizer.strength == pytest.approx(0.6)
    # At most one batch ran before the schedule found the regularizer.
    steps = 8 // batch_size
    strengths = np.repeat([0.3, 0.6, 0.6], steps)
    expected = [pressed_slope(strengths), pressed_slope(strengths[1:])]
    assert np.isclose(layer.slopes[0], expected, rtol=1e-5).any()


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="torch traces nothing, every step runs Python code"
)
def test_nothing_is_traced_again():
    traces, counts = [], []

    def loss(targets, outputs):
        traces.append(1)
        return keras.ops.mean(keras.ops.square(targets - outputs))

    count = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: counts.append(len(traces)))
    model = make_model(pressed())
    model.compile(keras.optimizers.SGD(RATE), loss)
    history = fit(model, LinearizationSchedule(0.6, 2, 2), count, epochs=6, batch_size=2)
    assert len(set(history["omega"])) == 4
    # All traces are made in the first of the epochs, which has four batches.
    assert 0 < counts[0] < 4
    assert len(set(counts)) == 1


@pytest.mark.once
def test_no_units_to_press():
    model = make_model(SparsePReLU(), keras.layers.Dense(3))
    with pytest.raises(ValueError, match=r"alpha_regularizer=NonlinearitySparsity\(0\.0\)"):
        fit(model, LinearizationSchedule(0.1), epochs=3)


@pytest.mark.once
def test_no_units_to_press_in_a_subclassed_model():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3, "relu")

        def call(self, inputs):
            return self.dense(inputs)

    model = Subclassed()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"no trainable weight with a `NonlinearitySparsity`"):
        fit(model, LinearizationSchedule(0.1), epochs=3, batch_size=2)


@pytest.mark.once
def test_weights_that_are_no_slopes():
    kernel = keras.layers.Dense(3, kernel_regularizer=NonlinearitySparsity(0.0), name="wrong")
    with pytest.raises(ValueError, match=r"wrong/kernel\. Move it to the `alpha_regularizer`"):
        fit(make_model(kernel, pressed()), LinearizationSchedule(0.1))


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("strength", value) for value in (-0.1, np.inf, np.nan, "0.1", None, True, [0.1])],
        *[("start_epoch", value) for value in (-1, 1.5, 2.0, "3", None, True)],
        *[("ramp_epochs", value) for value in (-1, 0.5, "3", None, False)],
        *[("target_path_length", value) for value in (-0.1, np.inf, np.nan, "1", True)],
        *[("target_nonlinear_units", value) for value in (-0.1, 1.01, np.nan, "1", True)],
        *[("stop_when", value) for value in (0.3, "path_length")],
        *[("end_epoch", value) for value in (-1, 1.5, True)],
        *[("check_every", value) for value in (0, -1, 2.0, None)],
        *[("weights", value) for value in ([("a", 1.0)], {3: 1.0}, 2.0)],
    ],
)
def test_bad_arguments(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` must be .* Received: {name}="):
        LinearizationSchedule(**{"strength": 0.1, name: value})


@pytest.mark.once
@pytest.mark.parametrize("value", [-1.0, np.nan, "1", None])
def test_bad_weights(value):
    with pytest.raises(ValueError, match=r"`weights\['a'\]` must be a finite number of at least 0"):
        LinearizationSchedule(0.1, weights={"b": 1.0, "a": value})


@pytest.mark.once
def test_numpy_arguments():
    schedule = LinearizationSchedule(np.float32(0.5), np.int64(1), np.int64(2), np.float64(1), 1)
    history = fit(make_model(pressed()), schedule, epochs=1)
    assert history["omega"] == [0]
