import dataclasses
import importlib.util
import json
import math
import os

import keras
import pytest
from common.config import (
    LinearizationConfig,
    RecipeError,
    RunConfig,
    checkpoint_file,
    choose_backend,
    plain_errors,
    read_config,
    require,
)

pytestmark = pytest.mark.once


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


@dataclasses.dataclass
class Pressed(LinearizationConfig):
    """A recipe that presses units to linear."""

    epochs: int = 8
    strength: float = 0.1


@pytest.fixture
def read_trained(monkeypatch, tmp_path):
    """Reads arguments, in the presence of a run that went through 3 epochs before the start."""
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())
    monkeypatch.chdir(tmp_path)
    base = Pressed(seed=5, start_epoch=3, epochs=4, strength=0.7, ramp_epochs=1)
    base.backend = keras.backend.backend()
    stored = {name: x for name, x in vars(base).items() if name not in base.momentary}
    (tmp_path / "base" / "checkpoints").mkdir(parents=True)
    (tmp_path / "base" / "config.json").write_text(json.dumps(stored))
    (tmp_path / "base" / checkpoint_file(3)).touch()

    def read(arguments):
        monkeypatch.setattr("sys.argv", ["recipe.py", *arguments.split()])
        config = read_config(Pressed)
        config.complete(config.epochs)
        return config

    return read


def test_a_network_that_is_trained_brings_its_options(read_trained, tmp_path):
    config = read_trained("--trained base --strength 0.2 --run-dir new")
    assert (config.seed, config.start_epoch) == (5, 3)
    # What counts only later is not taken from there.
    assert (config.epochs, config.strength, config.ramp_epochs) == (8, 0.2, 1)
    assert (config.target_nonlinear_units, config.run_dir) == (0.3, "new")
    assert config.trained == str(tmp_path / "base")
    with pytest.raises(RecipeError, match=r"another configuration: seed \(there 5, now 6\)"):
        read_trained("--trained base --seed 6")


def test_networks_that_are_not_trained(read_trained, tmp_path):
    with pytest.raises(RecipeError, match=r"--trained needs the directory of a run"):
        read_trained("--trained elsewhere")
    with pytest.raises(RecipeError, match=r"--epochs must be more than the 3 .* Received: 3"):
        read_trained("--trained base --epochs 3")
    (tmp_path / "base" / checkpoint_file(3)).unlink()
    with pytest.raises(RecipeError, match=r"has not gone through the 3 epochs before"):
        read_trained("--trained base")


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
