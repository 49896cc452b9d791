import dataclasses
import importlib.util
import json
import math
import os

import keras
import pytest
from common.config import RecipeError, RunConfig, choose_backend, plain_errors, read_config, require


@dataclasses.dataclass
class Config(RunConfig):
    """A recipe."""

    dataset: str = "auto"
    # Number of epochs.
    epochs: int | None = None


@pytest.fixture
def installed(monkeypatch):
    """Sets which backends seem to be installed."""
    # Restored at the end: `choose_backend` writes them.
    for name in ("KERAS_BACKEND", "OMP_WAIT_POLICY", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.setenv(name, "")

    def install(*names):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in names or None)

    return install


def test_backends(installed, monkeypatch):
    installed("jax", "torch")
    assert choose_backend("torch") == "torch"
    assert os.environ["KERAS_BACKEND"] == "torch"
    assert choose_backend(None) == "torch"
    monkeypatch.setenv("KERAS_BACKEND", "")
    assert choose_backend(None) == "jax"


def test_backends_that_cannot_be_had(installed, monkeypatch):
    installed("jax")
    with pytest.raises(RecipeError, match=r"pip install 'keras-nladv\[torch\]'"):
        choose_backend("torch")
    monkeypatch.setenv("KERAS_BACKEND", "caffe")
    with pytest.raises(RecipeError, match=r"must be one of .* 'caffe'"):
        choose_backend(None)
    installed()
    monkeypatch.setenv("KERAS_BACKEND", "")
    with pytest.raises(RecipeError, match="No backend is installed"):
        choose_backend(None)


@pytest.fixture
def read(monkeypatch, tmp_path):
    """Reads arguments, in the presence of a run that was started with 3 epochs of the digits."""
    backend = keras.backend.backend()
    monkeypatch.setenv("KERAS_BACKEND", backend)
    stored = {"backend": backend, "precision": "float32", "seed": 5}
    stored |= {"dataset": "digits", "epochs": 3}
    (tmp_path / "config.json").write_text(json.dumps(stored))

    def read(arguments):
        monkeypatch.setattr("sys.argv", ["recipe.py", *arguments.split()])
        return read_config(Config)

    monkeypatch.chdir(tmp_path)
    return read


@pytest.mark.parametrize("arguments", ["", " --dataset auto", " --epochs 3 --seed 5"])
def test_resume_takes_what_is_not_said_from_the_run(read, arguments):
    config = read("--resume --run-dir ." + arguments)
    assert (config.epochs, config.seed, config.dataset) == (3, 5, "digits")
    assert (config.resume, config.run_dir) == (True, ".")


def test_resume_refuses_another_configuration(read):
    with pytest.raises(RecipeError, match=r"epochs \(there 3, now 4\)") as error:
        read("--resume --run-dir . --epochs 4 --seed 5 --precision float16")
    assert "precision (there 'float32', now 'float16')" in str(error.value)
    assert "seed" not in str(error.value)


def test_directories_that_are_refused(read, tmp_path):
    with pytest.raises(RecipeError, match=r"holds a run already. Add --resume"):
        read("--run-dir .")
    (tmp_path / "config.json").rename(tmp_path / "notes.txt")
    for arguments in ("--run-dir .", "--run-dir . --resume", "--run-dir notes.txt"):
        with pytest.raises(RecipeError, match="neither empty nor the directory of a run"):
            read(arguments)


def test_directories_that_are_as_good_as_empty(read, tmp_path, capsys):
    (tmp_path / "config.json").rename(tmp_path / "partial-config.json")
    assert read("--run-dir .").epochs is None
    assert capsys.readouterr().out == ""
    assert read("--run-dir . --resume --epochs 2").epochs == 2
    assert "holds no run yet: starting from the beginning" in capsys.readouterr().out


def test_resume_without_a_run(read, tmp_path):
    with pytest.raises(RecipeError, match="add --run-dir DIR"):
        read("--resume")
    assert read("--resume --run-dir elsewhere").epochs is None
    (tmp_path / "config.json").write_text('{"epochs": 3')
    with pytest.raises(RecipeError, match="is damaged"):
        read("--resume --run-dir .")
    (tmp_path / "config.json").write_text('{"epochs": 3}')
    with pytest.raises(RecipeError, match="another recipe"):
        read("--resume --run-dir .")


@pytest.mark.parametrize("epochs", [0, -1, math.nan, math.inf])
def test_require(epochs):
    with pytest.raises(RecipeError, match="--epochs must be a finite number of at least 1"):
        require(Config(epochs=epochs), epochs=1)
    require(Config(epochs=1), epochs=1)
    require(Config(epochs=None), epochs=1)


def test_what_keras_says_of_an_option():
    with (
        pytest.raises(RecipeError, match=r"--precision: .*float99"),
        plain_errors("--precision"),
    ):
        keras.config.set_dtype_policy("float99")


def test_check_reads_and_does_nothing(read):
    with pytest.raises(SystemExit) as end:
        read("--epochs 2 --check")
    assert end.value.code is None
    with pytest.raises(SystemExit) as end:
        read("--epoch 2 --check")
    assert end.value.code == 2
