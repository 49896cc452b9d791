import fractions
import os
import pathlib
import shutil

import keras
import numpy as np
import pytest

from keras_nladv import PathLengthCallback
from keras_nladv.events import EventLog
from keras_nladv.events.event_writer import EventWriter


def fit(*callbacks, epochs):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((2, 2), "float32"), np.ones((2, 1), "float32")
    return model.fit(x, y, verbose=0, epochs=epochs, callbacks=list(callbacks)).history


def steps(events):
    return [event.step for event in events]


@pytest.mark.once
@pytest.mark.parametrize(
    "slopes", [[1e30], [-1e30, 1e30], np.nextafter(np.float32(0.5), [0.0, 1.0], dtype="float32")]
)
def test_histogram_of_any_slopes(slopes, tmp_path, read_events):
    writer = EventWriter(tmp_path, 0)
    writer.write(0, {}, {"slopes": np.array(slopes, "float32")}, {})
    writer.close()
    (histogram,) = read_events(tmp_path).Histograms("slopes")
    assert sum(histogram.histogram_value.bucket) == len(slopes)


@pytest.mark.once
def test_events_of_a_killed_process_are_there(tmp_path, read_events):
    class Killed(Exception):
        pass

    def kill(epoch, logs):
        if epoch == 2:
            raise Killed

    callback = EventLog(tmp_path)
    with pytest.raises(Killed):
        fit(
            callback,
            keras.callbacks.LambdaCallback(on_epoch_begin=kill),
            epochs=4,
        )
    assert steps(read_events(tmp_path).Scalars("loss")) == [0, 1]
    callback.on_train_end()


@pytest.mark.once
def test_log_dir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    callback = EventLog(tmp_path / "file" / "logs")
    with pytest.warns(UserWarning, match="Not a directory") as warned:
        history = fit(callback, epochs=3)
    (warning,) = [each for each in warned if each.category is UserWarning]
    assert repr(str(tmp_path / "file" / "logs")) in str(warning.message)
    assert "Training goes on" in str(warning.message)
    assert len(history["loss"]) == 3


@pytest.mark.once
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="simulates a full disk with /dev/full")
def test_disk_that_becomes_full(tmp_path, read_events):
    callback = EventLog(tmp_path)

    def fill(epoch, logs):
        if epoch == 1:
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, callback._writer._file.fileno())
            os.close(full)

    disk = keras.callbacks.LambdaCallback(on_epoch_begin=fill)
    with pytest.warns(UserWarning, match="No space left on device") as warned:
        history = fit(callback, disk, epochs=4)
    assert len([each for each in warned if each.category is UserWarning]) == 1
    assert len(history["loss"]) == 4
    assert steps(read_events(tmp_path).Scalars("loss")) == [0]


@pytest.mark.once
@pytest.mark.skipif(os.name == "nt", reason="Windows does not remove files that are open")
def test_directory_that_is_removed(tmp_path, monkeypatch):
    """Writing to a file that was removed is no error for the system."""
    monkeypatch.chdir(tmp_path)

    def remove(epoch, logs):
        if epoch == 1:
            os.chdir("/")  # The path that was given means another place now.
        if epoch == 2:
            shutil.rmtree(tmp_path / "logs")

    with pytest.warns(UserWarning, match="cannot write .* The file was removed") as warned:
        history = fit(
            keras.callbacks.LambdaCallback(on_epoch_begin=remove),
            EventLog("logs"),
            epochs=4,
        )
    assert len([each for each in warned if each.category is UserWarning]) == 1
    assert len(history["loss"]) == 4
    assert not (tmp_path / "logs").exists()


@pytest.mark.once
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="simulates a full disk with /dev/full")
def test_file_that_cannot_be_closed(tmp_path):
    """As on network disks, which write when a file is closed."""
    callback = EventLog(tmp_path)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, callback._writer._file.fileno())
    os.close(full)
    callback._writer._file.write(b"late")
    with pytest.warns(UserWarning, match="No space left on device") as warned:
        callback.on_train_end()
    assert len(warned) == 1
    callback.on_train_end()


def test_all_forms_of_numbers(tmp_path, read_events):
    optimizer = keras.optimizers.SGD(0.25)
    numbers = {
        "python": 0.25,
        "integer": 10**30,
        "bool": True,
        "fraction": fractions.Fraction(1, 4),
        "numpy scalar": np.float32(0.25),
        "array": np.array(0.25),
        "array of one": np.array([[0.25]], "float16"),
        "tensor": keras.ops.convert_to_tensor(0.25),
        "bfloat16": keras.ops.cast(0.25, "bfloat16"),
        "integer tensor": keras.ops.convert_to_tensor(3),
        "variable": keras.Variable(0.25),
        "rate": optimizer.learning_rate,
        "nan": np.array(np.nan),
    }
    others = {"text": "0.25", "none": None, "array of two": np.ones(2), "dict": {"a": 0.25}}
    others |= {"bytes": np.array(b"3"), "date": np.datetime64("2020-01-01"), "empty": np.ones(0)}
    callback = EventLog(tmp_path)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    callback.on_epoch_end(0, numbers | others)
    callback.on_train_end()
    events = read_events(tmp_path)
    found = {tag: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"]}
    expected = dict.fromkeys(numbers, 0.25)
    expected |= {"integer": 1e30, "bool": 1.0, "integer tensor": 3.0, "nan": np.nan}
    assert found == pytest.approx(expected, nan_ok=True)


@pytest.mark.once
@pytest.mark.parametrize("log_dir", ["gs://bucket/run", "s3://b", pathlib.Path("gs://b/run")])
def test_directories_of_other_machines(log_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for make in (PathLengthCallback, EventLog, lambda path: EventWriter(path, 0)):
        with pytest.raises(ValueError, match=r"must be a directory of this machine.*Received: "):
            make(log_dir)
    assert not list(tmp_path.iterdir())


@pytest.mark.once
@pytest.mark.parametrize("log_dir", ["", 3, True, ["logs"]])
def test_bad_log_dir(log_dir):
    with pytest.raises(ValueError, match=r"`log_dir` must be .* Received: log_dir="):
        EventLog(log_dir)
