import io
import itertools
import os

import keras
import numpy as np
import pytest
from keras import layers

from keras_nladv import PathLengthCallback, SparsePReLU
from keras_nladv.events.pictures import BRIGHT, DARK, LINE, MARGIN
from keras_nladv.tangent import NTKCallback, empirical_ntk, kernel_distance
from keras_nladv.tangent.gram_drawing import BLUE, SIDE, draw_gram
from tests import processes
from tests.cases import once

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(16, 4)).astype("float32"), RNG.normal(size=(16, 1)).astype("float32")


def make_model(rate=0.1):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8), SparsePReLU(activation="silu"), layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def fit(model, *callbacks, **kwargs):
    arguments = {"batch_size": 16, "shuffle": False, "verbose": 0, **kwargs}
    return model.fit(X, Y, callbacks=list(callbacks), **arguments).history


def kernels(epochs, **how):
    """The kernels at the start, and after each epoch of a training."""
    model = make_model()
    found = [empirical_ntk(model, X[:5], **how)]
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: found.append(empirical_ntk(model, X[:5], **how))
    )
    fit(model, note, epochs=epochs)
    return found


@pytest.mark.parametrize("trace", [False, once(True)])
def test_logs(trace):
    start, *expected = kernels(4, trace=trace)
    history = fit(make_model(), NTKCallback(X[:5], trace=trace), epochs=4)
    distances = [kernel_distance(start, each) for each in expected]
    np.testing.assert_allclose(history["ntk_distance"], distances, rtol=1e-3, atol=1e-9)
    steps = [kernel_distance(*pair) for pair in itertools.pairwise([start, *expected])]
    np.testing.assert_allclose(history["ntk_velocity"], steps, rtol=1e-3, atol=1e-9)
    # It moves away, and less and less.
    assert np.all(np.diff(distances) > 0)
    assert distances[0] > 1e-5


@pytest.mark.once
def test_every():
    start, *expected = kernels(7)
    history = fit(make_model(), NTKCallback(X[:5], every=3), epochs=7)
    measured = [start, expected[0], expected[2], expected[5]]
    distances = [kernel_distance(start, each) for each in measured[1:]]
    np.testing.assert_allclose(history["ntk_distance"], distances, rtol=1e-3)
    steps = [kernel_distance(*pair) for pair in itertools.pairwise(measured)]
    np.testing.assert_allclose(history["ntk_velocity"], np.array(steps) / [1, 2, 3], rtol=1e-3)


@pytest.mark.once
def test_nothing_moves():
    history = fit(make_model(0.0), NTKCallback(X[:5]), epochs=2)
    assert history["ntk_distance"] == history["ntk_velocity"] == [0.0, 0.0]


def test_chosen_variables():
    model = make_model()
    model.layers[0].trainable = False
    callback = NTKCallback(X[:5], variables=[model.layers[0].bias])
    history = fit(model, callback, epochs=2)
    # The kernel of what is frozen moves, too, while the layers after it do.
    assert history["ntk_distance"][0] > 0


def test_model_that_training_would_build():
    model = keras.Sequential([layers.Dense(8, "silu"), layers.Dense(1)])
    model.compile("sgd", "mse")
    assert fit(model, NTKCallback(X[:5]), epochs=2)["ntk_distance"][0] > 0


@pytest.mark.once
def test_training_that_diverges(tmp_path):
    history = fit(make_model(1e30), NTKCallback(X[:5], log_dir=tmp_path), epochs=3)
    assert np.isnan(history["ntk_distance"][-1])


@pytest.mark.once
def test_callbacks_that_come_after_see_the_logs(tmp_path):
    history = fit(
        make_model(),
        NTKCallback(X[:5], every=2),
        keras.callbacks.EarlyStopping("ntk_distance", mode="min", patience=0),
        keras.callbacks.CSVLogger(str(tmp_path / "log.csv")),
        epochs=9,
    )
    assert len(history["loss"]) == 2
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert rows[0].startswith("epoch,loss,ntk_distance,ntk_velocity")
    assert float(rows[2].split(",")[2]) == pytest.approx(history["ntk_distance"][-1])


def steps(events):
    return [event.step for event in events]


@pytest.mark.once
@pytest.mark.parametrize("order", [1, -1])
def test_events_beside_path_length(order, tmp_path, read_events):
    model = make_model()
    callbacks = [PathLengthCallback(tmp_path), NTKCallback(X[:5], every=2, log_dir=tmp_path)]
    history = fit(model, *callbacks[::order], epochs=4, validation_data=(X, Y))
    events = read_events(tmp_path)
    ntk = {"ntk_distance", "ntk_velocity"}
    assert (
        set(events.Tags()["scalars"])
        == {"path_length", "nonlinear_units", "loss", "val_loss"} | ntk
    )
    for tag in events.Tags()["scalars"]:
        scalars = events.Scalars(tag)
        assert steps(scalars) == ([0, 1, 3] if tag in ntk else [0, 1, 2, 3])
        np.testing.assert_allclose([each.value for each in scalars], history[tag], rtol=1e-6)
    assert sorted(events.Tags()["images"]) == ["core", "ntk"]
    assert steps(events.Images("core")) == [0, 1, 2, 3]
    assert steps(events.Images("ntk")) == [0, 1, 3]


@pytest.mark.once
def test_image_of_the_kernel(tmp_path, read_events):
    from PIL import Image

    model = make_model()
    fit(model, NTKCallback(X[:5], log_dir=tmp_path), epochs=2)
    expected = draw_gram(empirical_ntk(model, X[:5], trace=True)).convert("RGB")
    encoded = read_events(tmp_path).Images("ntk")[-1].encoded_image_string
    drawn = Image.open(io.BytesIO(encoded)).convert("RGB")
    assert drawn.size == expected.size
    difference = np.asarray(drawn).astype(int) - np.asarray(expected)
    # The last digits of the numbers in the title may differ.
    assert np.abs(difference[MARGIN + LINE :]).max() <= 3


def square(kernel):
    pixels = np.asarray(draw_gram(np.array(kernel, "float64")).convert("RGB")).astype(int)
    side = len(kernel) * (SIDE // len(kernel)) or SIDE
    return pixels[MARGIN + LINE :, MARGIN:][:side, :side]


@pytest.mark.once
def test_picture():
    pixels = square([[2.0, 0.0], [-2.0, 1.0]])
    assert pixels.shape == (SIDE, SIDE, 3)
    assert tuple(pixels[80, 80]) == BRIGHT
    assert tuple(pixels[80, 240]) == DARK
    assert tuple(pixels[240, 80]) == BLUE
    half = (np.array(BRIGHT) + DARK) / 2
    np.testing.assert_allclose(pixels[240, 240], half, atol=3)


@pytest.mark.once
def test_picture_of_more_inputs_than_pixels():
    # Two classes, sorted.
    kernel = np.kron(np.eye(2), np.ones((400, 400)))
    pixels = square(kernel)
    assert pixels.shape == (SIDE, SIDE, 3)
    assert tuple(pixels[10, 10]) == tuple(pixels[-10, -10]) == BRIGHT
    assert tuple(pixels[10, -10]) == tuple(pixels[-10, 10]) == DARK


@pytest.mark.once
@pytest.mark.parametrize("kernel", [np.zeros((3, 3)), np.full((3, 3), np.nan), [[np.inf]]])
def test_picture_of_nothing(kernel):
    assert np.all(square(kernel) == DARK)


SCRIPT = """
import os, sys
import keras
from keras_nladv.tangent import NTKCallback
from tests.tangent.test_ntk_callback import X, fit, make_model

class Killed(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.save_weights(sys.argv[2])
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            os._exit(3)

fit(make_model(), NTKCallback(X[:5], log_dir=sys.argv[1]), Killed(), epochs=4)
"""


@pytest.mark.once
def test_resumed_after_a_killed_process(tmp_path, read_events):
    uninterrupted = fit(make_model(), NTKCallback(X[:5]), epochs=4)
    log_dir, weights = str(tmp_path / "logs"), str(tmp_path / "model.weights.h5")
    assert processes.run(SCRIPT, log_dir, weights) == (3, "")
    model = make_model()
    model.load_weights(weights)
    resumed = fit(model, NTKCallback(X[:5], log_dir=log_dir), initial_epoch=2, epochs=4)
    for tag in ("ntk_distance", "ntk_velocity"):
        np.testing.assert_allclose(resumed[tag], uninterrupted[tag][2:], rtol=1e-4)
        scalars = read_events(log_dir).Scalars(tag)
        assert steps(scalars) == [0, 1, 2, 3]
        np.testing.assert_allclose([each.value for each in scalars], uninterrupted[tag], rtol=1e-4)
    assert not [each for each in os.listdir(log_dir) if each.endswith(".new")]


@pytest.mark.once
def test_resumed_with_the_same_callback():
    uninterrupted = fit(make_model(), NTKCallback(X[:5]), epochs=4)
    model, callback = make_model(), NTKCallback(X[:5])
    fit(model, callback, epochs=2)
    resumed = fit(model, callback, initial_epoch=2, epochs=4)
    np.testing.assert_allclose(
        resumed["ntk_distance"], uninterrupted["ntk_distance"][2:], rtol=1e-4
    )
    # From the first epoch on, it is another training.
    again = fit(model, callback, epochs=1)
    assert again["ntk_distance"] == again["ntk_velocity"]


@pytest.mark.once
def test_start_that_is_not_known(tmp_path):
    for log_dir in (None, tmp_path):
        with pytest.warns(UserWarning, match="from there. Give the `log_dir`"):
            history = fit(
                make_model(), NTKCallback(X[:5], log_dir=log_dir), initial_epoch=1, epochs=2
            )
        assert history["ntk_distance"] == history["ntk_velocity"]


@pytest.mark.once
@pytest.mark.parametrize("changed", [{"x": X[5:10]}, {"x": X[:4]}, {"trace": True}])
def test_start_of_something_else(changed, tmp_path):
    fit(make_model(), NTKCallback(X[:5], log_dir=tmp_path), epochs=1)
    callback = NTKCallback(**{"x": X[:5], "log_dir": tmp_path, **changed})
    with pytest.raises(ValueError, match=r"`log_dir` must be new, .* Received: log_dir="):
        fit(make_model(), callback, initial_epoch=1, epochs=2)
    # It may be begun anew.
    fit(make_model(), callback, epochs=1)


@pytest.mark.once
@pytest.mark.parametrize("how", ["text", "other arrays", "objects"])
def test_start_that_is_damaged(how, tmp_path):
    file = tmp_path / "ntk_start.npz"
    if how == "text":
        file.write_text("nothing of numpy")
    else:
        np.savez(file, kernel=np.array([None]), **({} if how == "other arrays" else {"inputs": 1}))
    callback = NTKCallback(X[:5], log_dir=tmp_path)
    with pytest.raises(ValueError, match=r"`log_dir` must be new, .* ntk_start.npz cannot be read"):
        fit(make_model(), callback, initial_epoch=1, epochs=2)


@pytest.mark.once
def test_log_dir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    callback = NTKCallback(X[:5], log_dir=tmp_path / "file" / "logs")
    with pytest.warns(UserWarning, match="`NTKCallback` cannot write .* Not a directory") as warned:
        history = fit(make_model(), callback, epochs=2)
    assert len([each for each in warned if each.category is UserWarning]) == 1
    assert len(history["ntk_distance"]) == 2


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, "`every` must be an integer of at least 1. Received: every=0"),
        ({"every": 1.5}, r"`every` must be an integer .* Received: every=1\.5"),
        ({"log_dir": 3}, "`log_dir` must be"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        NTKCallback(X[:5], **arguments)


@pytest.mark.once
@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (NTKCallback(X[:5, :2]), "`x1` must have examples of shape"),
        (NTKCallback(X[:5].astype(int)), "`x1` must be floats"),
        (NTKCallback(X[:5], method="fast"), "`method` must be"),
    ],
)
def test_bad_inputs_fail_before_training(callback, message):
    model = make_model()
    before = model.get_weights()[0]
    with pytest.raises(ValueError, match=message):
        fit(model, callback)
    np.testing.assert_array_equal(model.get_weights()[0], before)
