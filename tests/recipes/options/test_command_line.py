import dataclasses
import importlib.util
import json
import math
import os
import subprocess
import sys
from typing import Annotated

import keras
import pytest
from pydantic import AfterValidator, Field

from options.backends import choose_backend
from options.command_line import begin, read_config
from options.kinds import Count, Number, once
from options.linearization_config import LinearizationConfig
from options.run_config import RunConfig
from running.errors import RecipeError, plain_errors
from running.run_directory import checkpoint_file, release

from ..conftest import RECIPES

pytestmark = pytest.mark.once


@dataclasses.dataclass
class Config(RunConfig):
    """A recipe."""

    dataset: str = "auto"
    # Number of epochs.
    epochs: Annotated[Count, Field(ge=1)] = None
    rate: Number = None
    densities: Annotated[list[Annotated[float, Field(gt=0, le=1)]], AfterValidator(once)] = (
        dataclasses.field(default_factory=lambda: [0.5])
    )
    forget: bool = False
    augment: bool = True


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
    stored |= {"dataset": "digits", "epochs": 3, "rate": 0.5, "densities": [0.25]}
    stored |= {"forget": True, "augment": False}
    (tmp_path / "config.json").write_text(json.dumps(stored))

    def read(arguments):
        monkeypatch.setattr("sys.argv", ["recipe.py", *arguments.split()])
        return read_config(Config)

    monkeypatch.chdir(tmp_path)
    return read


@pytest.mark.parametrize(
    "arguments",
    ["", "--dataset auto", "--epochs 3 --seed 5", "--forget", "--no-augment --forget", "--check"],
)
def test_resume_takes_what_is_not_said_from_the_run(read, arguments):
    config = read(f"--resume --run-dir . {arguments}")
    assert (config.epochs, config.seed, config.dataset) == (3, 5, "digits")
    assert (config.rate, config.densities) == (0.5, [0.25])
    assert (config.forget, config.augment) == (True, False)
    assert (config.resume, config.run_dir) == (True, ".")
    assert config.check == ("--check" in arguments)


def test_resume_refuses_another_configuration(read):
    with pytest.raises(RecipeError, match=r"epochs \(there 3, now 4\)") as error:
        read("--resume --run-dir . --epochs 4 --seed 5 --precision float16 --no-forget --augment")
    assert "precision (there 'float32', now 'float16')" in str(error.value)
    assert "forget (there True, now False), augment (there False, now True)" in str(error.value)
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (b"[" * 100_000, "recursion limit"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "number out of range"),
        (b'{"dataset": "\xff"}', "invalid unicode"),
        ([1], "must be "),
        ({"epochs": -1}, "epochs must be greater than or equal to 1. Received: -1"),
        ({"epochs": "3"}, "epochs must be a valid integer. Received: '3'"),
        ({"epochs": True}, "epochs must be a valid integer. Received: True"),
        ({"epochs": 10**4000}, "epochs must be less than or equal to 2147483647. Received: 1000"),
        ({"rate": math.nan}, "rate must be a finite number. Received: nan"),
        ({"densities": [0.5, [0.5]]}, r"densities\[1\] must be a valid number"),
        ({"forget": 1}, "forget must be a valid boolean. Received: 1"),
        ({"backend": "caffe"}, "backend must be 'tensorflow', 'jax' or 'torch'"),
        ({"dataset": {"a": 1}}, "dataset must be a valid string"),
    ],
)
def test_configurations_that_are_nonsense(read, tmp_path, change, message):
    file = tmp_path / "config.json"
    if isinstance(change, dict):
        change = {**json.loads(file.read_text()), **change}
    file.write_bytes(change if isinstance(change, bytes) else json.dumps(change).encode())
    with pytest.raises(RecipeError, match=message) as error:
        read("--resume --run-dir .")
    assert str(error.value).startswith("`config.json` is damaged: ")
    assert len(str(error.value)) < 400
    assert "\n" not in str(error.value)


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


def test_pressure(read_trained):
    config = read_trained("--start-epoch 2 --epochs 10 --run-dir new")
    assert (config.pressure, config.ramp_epochs, config.reach_within) == ("gradual", 2, None)
    config = read_trained("--start-epoch 2 --epochs 10 --pressure fast --evaluate-every 3")
    assert (config.ramp_epochs, config.reach_within) == (0, 2)
    assert config.evaluated(10) == [2, 3, 6, 9, 10]
    assert config.fast_strength(10, 30) == 0.1
    config = read_trained("--start-epoch 5 --pressure fast --reach-within 3 --schedule one")
    assert config.reach_within == 3
    # Half of the learning rate.
    assert config.fast_strength(10, 30) == 0.2
    assert config.evaluated(4) == [1, 2, 3, 4]


def test_one_fall_of_the_learning_rate_keeps_the_number_of_epochs(read_trained, tmp_path):
    file = tmp_path / "base" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schedule": "one"}))
    with pytest.raises(RecipeError, match=r"another configuration: epochs \(there 4, now 8\)"):
        read_trained("--trained base --epochs 8")
    config = read_trained("--trained base --epochs 4 --pressure fast --save-every 0")
    assert (config.schedule, config.pressure, config.save_every) == ("one", "fast", 0)


def test_networks_that_are_not_trained(read_trained, tmp_path):
    with pytest.raises(RecipeError, match=r"--trained needs the directory of a run"):
        read_trained("--trained elsewhere")
    with pytest.raises(RecipeError, match=r"--epochs must be more than the 3 .* Received: 3"):
        read_trained("--trained base --epochs 3")
    (tmp_path / "base" / checkpoint_file(3)).unlink()
    with pytest.raises(RecipeError, match=r"has not gone through the 3 epochs .*--save-every 0"):
        read_trained("--trained base")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--epochs -1", "--epochs must be greater than or equal to 1. Received: -1"),
        ("--seed 4294967296", "--seed must be less than or equal to"),
        (
            "--rate nan --epochs 0",
            "--epochs must .*; --rate must be a finite number",
        ),
        ("--rate inf", "--rate must be a finite number"),
        ("--densities 0.5 2", "--densities must be less than or equal to 1. Received: 2.0"),
        ("--densities 0.5 0.5", r"--densities must name each value once. Received: \[0.5, 0.5\]"),
        ("--densities", r"--densities must name each value once. Received: \[\]"),
        ("--run-dir gs://bucket/run", "--run-dir must be the path of a directory of this machine"),
    ],
)
def test_values_that_are_refused(read, arguments, message):
    for more in ("", " --check"):
        with pytest.raises(RecipeError, match=message) as error:
            read(arguments + more)
        assert "\n" not in str(error.value)


def test_what_keras_says_of_an_option():
    with (
        pytest.raises(RecipeError, match=r"--precision: .*float99"),
        plain_errors("--precision"),
    ):
        keras.config.set_dtype_policy("float99")


def test_check_reads_and_does_nothing(read, tmp_path):
    for arguments in ("--epochs 2 --check", "--run-dir . --resume --check"):
        config = read(arguments)
        with pytest.raises(SystemExit) as end:
            begin(config, "recipe")
        assert end.value.code is None
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    with pytest.raises(SystemExit) as end:
        read("--epoch 2 --check")
    assert end.value.code == 2


def test_directories_that_cannot_be_made(read, tmp_path):
    for path in (tmp_path / "config.json" / "run", tmp_path / ("long" * 99), tmp_path / "new/a"):
        config = read(f"--run-dir {path}")
        if "new" in path.parts:
            (tmp_path / "new").write_text("in the way, meanwhile")
        with pytest.raises(RecipeError, match="cannot be made or written"):
            begin(config, "recipe")


def test_a_directory_is_for_one_process(read, tmp_path):
    """Also of a process that was killed nothing is left, and of a run that wrote nothing."""
    path = tmp_path / "new" / "run"
    begin(read(f"--run-dir {path}"), "recipe")
    claim = (
        f"import sys; sys.path.insert(0, {str(RECIPES)!r})\n"
        "from running.errors import show_errors_plainly; show_errors_plainly()\n"
        "from pathlib import Path; from running.run_directory import claim\n"
        f"claim(Path({str(path)!r}), '--run-dir'); print('mine', flush=True); input()\n"
    )
    second = subprocess.run([sys.executable, "-c", claim], capture_output=True, text=True)
    assert second.returncode == 1
    assert second.stderr.splitlines() == [
        f"Error: --run-dir {path} is that of another process, which is running. Wait for it, or "
        "choose another directory."
    ]
    # In this process a run comes after another one.
    begin(read(f"--run-dir {path}"), "recipe")
    release()
    assert not (tmp_path / "new").exists()

    third = subprocess.Popen(
        [sys.executable, "-c", claim], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with third:
        assert third.stdout.readline() == "mine\n"
        with pytest.raises(RecipeError, match="is that of another process"):
            begin(read(f"--run-dir {path}"), "recipe")
        third.kill()
    begin(read(f"--run-dir {path}"), "recipe")
    (path / "state.json").touch()
    release()
    assert (path / "state.json").exists()


READ = """
import runpy, sys
sys.path[0] = sys.argv[1]
for file in sys.argv[2:]:
    sys.argv = [file, "--check"]
    try:
        runpy.run_path(file, run_name="__main__")
    except SystemExit as end:
        assert end.code is None, end
    assert "keras" not in sys.modules, file
"""


def test_recipes_read_their_arguments_before_keras_is_imported():
    """Else it would be too late for `--backend`, and what is wrong would be said late."""
    files = [file for file in sorted(RECIPES.glob("*.py")) if file.name != "study.py"]
    command = [sys.executable, "-c", READ, RECIPES, *files]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""
