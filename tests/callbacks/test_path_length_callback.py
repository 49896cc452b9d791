import csv
import io
import sys

import keras
import numpy as np
import pytest

from keras_nladv import (
    LinearizationSchedule,
    NonlinearitySparsity,
    PathLengthCallback,
    SparsePReLU,
    core_image,
    nonlinearity_report,
    path_length,
)
from tests import processes

X, Y = np.ones((8, 4), "float32"), np.ones((8, 1), "float32")
SLOPES = [[1.0, 0.25, 0.5, 0.0], [1.0, 1.0, 1.0, -0.5]]


def make_model():
    """A model with 4 of 8 units nonlinear: 3 of 4, then 1 of 4."""
    first, second = (
        SparsePReLU(name=name, alpha_regularizer=NonlinearitySparsity(0.0))
        for name in ["first", "second"]
    )
    inputs = keras.Input((4,))
    x = first(keras.layers.Dense(4)(inputs))
    x = second(keras.layers.Dense(4)(x))
    x = keras.layers.Concatenate()([x, inputs])
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    first.alpha.assign(SLOPES[0])
    second.alpha.assign(SLOPES[1])
    # Nothing moves.
    model.compile(keras.optimizers.SGD(0.0), "mse", metrics=["mae"])
    return model


def fit(model, *callbacks, **kwargs):
    return model.fit(X, Y, verbose=0, callbacks=list(callbacks), **kwargs).history


@pytest.fixture(scope="module")
def written(tmp_path_factory, read_events):
    """The model, logs and events of one training."""
    log_dir = tmp_path_factory.mktemp("run") / "new" / "logs"
    model = make_model()
    history = fit(
        model,
        LinearizationSchedule(0.5, start_epoch=1),
        PathLengthCallback(log_dir, unnormalized=True),
        epochs=3,
        validation_data=(X, Y),
    )
    return model, history, read_events(log_dir)


def steps(events):
    return [event.step for event in events]


def test_logs(written):
    _, history, _ = written
    # The average over 8 inputs of the last layer, of which 4 have 3/4 + 1/4 units behind them.
    assert history["path_length"] == pytest.approx([0.5] * 3)
    assert history["nonlinear_units"] == pytest.approx([0.5] * 3)
    # 4*4*4 paths with one nonlinear unit on average, and 4 without.
    assert history["path_length_unnormalized"] == pytest.approx([64 / 68] * 3)


def test_values_are_those_after_the_epoch():
    model = make_model()
    set_slopes = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, _: model.get_layer("first").alpha.assign([epoch] * 4)
    )
    history = fit(model, set_slopes, PathLengthCallback(), epochs=2)
    assert history["path_length"] == pytest.approx([5 / 8, 1 / 8])
    assert history["nonlinear_units"] == pytest.approx([5 / 8, 1 / 8])
    assert path_length(model) == history["path_length"][-1]
    assert nonlinearity_report(model).nonlinear_units == history["nonlinear_units"][-1]


def test_edges_of_zeros_are_left_out():
    model = make_model()
    kernel = np.ones((4, 4))
    kernel[3] = 0  # The one nonlinear unit of the second activation gets three of four units.
    model.layers[3].kernel.assign(kernel)
    history = fit(model, PathLengthCallback(weights=True, unnormalized=True))
    assert history["path_length"] == [path_length(model, weights=True)]
    assert history["path_length_unnormalized"] == [path_length(model, False, weights=True)]
    assert history["path_length"] != [path_length(model)]


def test_callbacks_that_come_after_see_the_logs(tmp_path):
    history = fit(
        make_model(),
        LinearizationSchedule(0.0),
        PathLengthCallback(),
        keras.callbacks.EarlyStopping("path_length", mode="min", patience=2),
        keras.callbacks.ModelCheckpoint(
            str(tmp_path / "{path_length:.2f}-{nonlinear_units:.2f}.keras"),
            monitor="path_length",
            mode="min",
        ),
        keras.callbacks.CSVLogger(str(tmp_path / "log.csv")),
        epochs=9,
        validation_data=(X, Y),
    )
    assert len(history["loss"]) == 3
    assert (tmp_path / "0.50-0.50.keras").exists()
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for key in ("path_length", "nonlinear_units", "omega"):
        assert [float(row[key]) for row in rows] == history[key]


def test_model_built_by_training():
    model = keras.Sequential([keras.layers.Dense(1, activation=SparsePReLU()), SparsePReLU()])
    model.compile("sgd", "mse")
    history = fit(model, PathLengthCallback(), epochs=2)
    assert history["path_length"] == [2.0, 2.0]


def test_scalars(written):
    _, history, events = written
    assert set(events.Tags()["scalars"]) == {
        *("loss", "mae", "val_loss", "val_mae", "omega"),
        *("path_length", "nonlinear_units", "path_length_unnormalized"),
    }
    for tag in events.Tags()["scalars"]:
        scalars = events.Scalars(tag)
        assert steps(scalars) == [0, 1, 2]
        np.testing.assert_allclose([each.value for each in scalars], history[tag], rtol=1e-6)


def test_histograms(written):
    events = written[2]
    assert events.Tags()["histograms"] == ["alpha/first", "alpha/second"]
    for name, slopes in zip(["first", "second"], SLOPES, strict=True):
        histograms = events.Histograms(f"alpha/{name}")
        assert steps(histograms) == [0, 1, 2]
        histogram = histograms[-1].histogram_value
        assert (histogram.min, histogram.max) == (min(slopes), max(slopes))
        assert histogram.num == 4
        assert histogram.sum == sum(slopes)
        assert histogram.sum_squares == np.square(slopes).sum()
        edges = [histogram.min, *histogram.bucket_limit]
        np.testing.assert_array_equal(histogram.bucket, np.histogram(slopes, edges)[0])


def test_image(written):
    from PIL import Image

    model, _, events = written
    assert events.Tags()["images"] == ["core"]
    assert steps(events.Images("core")) == [0, 1, 2]
    image = events.Images("core")[-1]
    expected = core_image(model).convert("RGB")
    assert (image.width, image.height) == expected.size
    png = Image.open(io.BytesIO(image.encoded_image_string)).convert("RGB")
    np.testing.assert_array_equal(np.asarray(png), np.asarray(expected))


@pytest.mark.once
def test_slopes_all_alike_or_not_finite(tmp_path, read_events):
    def diverge(epoch, logs):
        model.get_layer("second").alpha.assign([[np.nan, np.inf, 0.5, 0.25], [np.nan] * 4][epoch])

    model = make_model()
    model.get_layer("first").alpha.assign([0.25] * 4)
    model.get_layer("second").alpha.assign([0.5] * 4)
    fit(
        model,
        keras.callbacks.LambdaCallback(on_epoch_end=diverge),
        PathLengthCallback(tmp_path),
        epochs=2,
    )
    events = read_events(tmp_path)
    alike = events.Histograms("alpha/first")[0].histogram_value
    # A bucket around them that is wide enough to be drawn.
    assert alike.min < 0.25 < alike.max < alike.min + 0.1
    assert sorted(alike.bucket)[-2:] == [0, 4]
    (finite,) = events.Histograms("alpha/second")
    assert finite.step == 0
    assert finite.histogram_value.num == 2


@pytest.mark.once
def test_epochs_trained_again_replace_the_old_ones(tmp_path, read_events):
    model = make_model()
    schedule, callback = LinearizationSchedule(0.25), PathLengthCallback(tmp_path)
    fit(model, schedule, callback, epochs=4)
    schedule.strength = 0.5
    fit(model, schedule, callback, initial_epoch=2, epochs=5)
    events = read_events(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert [(x.step, x.value) for x in events.Scalars("omega")] == [
        *[(0, 0.25), (1, 0.25), (2, 0.5), (3, 0.5), (4, 0.5)],
    ]
    assert steps(events.Histograms("alpha/first")) == [0, 1, 2, 3, 4]
    assert steps(events.Images("core")) == [0, 1, 2, 3, 4]


@pytest.mark.once
@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="the backend itself imports TensorFlow"
)
def test_tensorflow_is_not_needed(tmp_path):
    script = f"""
import sys
sys.modules["tensorflow"] = None  # Makes an import fail.
import keras, numpy as np
from keras_nladv import PathLengthCallback, SparsePReLU
model = keras.Sequential([keras.Input((4,)), SparsePReLU(), keras.layers.Dense(1)])
model.compile("sgd", "mse")
callbacks = [PathLengthCallback({str(tmp_path)!r})]
model.fit(np.ones((8, 4)), np.ones((8, 1)), callbacks=callbacks, verbose=0)
"""
    assert processes.run(script) == (0, "")
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size > 1000


@pytest.mark.once
@pytest.mark.parametrize(
    ("package", "module", "ours"),
    [
        ("tensorboard", "tensorboard.compat.proto.event_pb2", ["events.event_writer"]),
        ("Pillow", "PIL", ["events.pictures", "callbacks.core_drawing"]),
    ],
)
def test_missing_package(package, module, ours, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    for each in ours:
        monkeypatch.delitem(sys.modules, f"keras_nladv.{each}", raising=False)
    with pytest.raises(ImportError, match=rf"{package}.*'keras-nladv\[tensorboard\]'"):
        PathLengthCallback(tmp_path)
    assert fit(make_model(), PathLengthCallback())["path_length"] == pytest.approx([0.5])


class Unknown(keras.layers.Layer):
    def call(self, inputs):
        return keras.ops.fft((inputs, inputs))[0]


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, inputs):
        return self.dense(inputs)


@pytest.mark.once
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: keras.Sequential([keras.Input((4,)), Unknown(name="odd")]), "register_path_rule"),
        (lambda: keras.Sequential([keras.layers.Dense(3), Unknown()]), "register_path_rule"),
        (Subclassed, "keras.Model"),
    ],
)
def test_model_without_a_path_length(make, message):
    model, batches = make(), []
    model.compile("sgd", "mse")
    count = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: batches.append(batch)
    )
    with pytest.raises(ValueError, match=message):
        fit(model, count, PathLengthCallback(), batch_size=1)
    # Before the epoch ends: with TensorFlow the model may be built only by the first batch.
    assert len(batches) <= 2


@pytest.mark.once
def test_beside_a_recurrent_layer():
    """Its units are counted, and never linear."""
    inputs = keras.Input((3, 2))
    x = SparsePReLU(name="units")(keras.layers.LSTM(4)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    model.compile("sgd", "mse")
    model.get_layer("units").alpha.assign(np.ones(4))
    history = model.fit(
        np.ones((4, 3, 2)), np.ones((4, 1)), verbose=0, callbacks=[PathLengthCallback()]
    ).history
    assert history["path_length"] == [pytest.approx(1.0)]
    assert history["nonlinear_units"] == [pytest.approx(4 / 8)]
