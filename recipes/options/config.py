"""What every recipe does with its arguments before Keras is imported."""

import dataclasses
import importlib.util
import json
import math
import os
import re
import sys
import time
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

import tyro
from pydantic import AfterValidator, Field, JsonValue

from running.errors import RecipeError
from running.files import PARTIAL
from running.run_directory import LOCK, claim
from running.values import EXACT, parsed, read_json

BACKENDS = ("tensorflow", "jax", "torch")
# What to do where files of a run are damaged.
ANEW = "Start again in a new --run-dir."


# The integers of every backend.
LARGEST = 2**31 - 1
Natural = Annotated[int, Field(ge=0, le=LARGEST)]
Positive = Annotated[int, Field(ge=1, le=LARGEST)]
Amount = Annotated[float, Field(ge=0)]
# Options whose default is told by their description; `None` would tell nothing.
Count = Annotated[
    int | None, Field(ge=0, le=LARGEST), tyro.conf.arg(metavar="INT", help_behavior_hint="")
]
Number = Annotated[float | None, Field(ge=0), tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
Text = Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="")]
Backend = Annotated[
    Literal["tensorflow", "jax", "torch"] | None,
    tyro.conf.arg(metavar="{tensorflow,jax,torch}", help_behavior_hint=""),
]


def once(values: list) -> list:
    """Raises a `ValueError` if a list is empty, or names something twice."""
    if not values or len(set(values)) < len(values):
        raise ValueError(f"must name each value once. Received: {values}")
    return values


def directory(path: str) -> str:
    """Raises a `ValueError` if this is not the path of a directory of this machine."""
    if not path or "\0" in path or re.match(r"[a-z][a-z0-9+.-]+:/", path, re.IGNORECASE):
        raise ValueError(f"must be the path of a directory of this machine. Received: {path!r}")
    return path


Directory = Annotated[str, AfterValidator(directory)]


@dataclasses.dataclass
class RunConfig:
    """The options that all recipes have."""

    # Backend of Keras. Default: KERAS_BACKEND, or the first of these that is installed.
    backend: Backend = None
    # Dtype policy of Keras.
    precision: Literal[
        "float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"
    ] = "float32"
    # Seed of the weights, of the order of the data and of augmentation.
    seed: Natural = 0
    # Directory for everything that is written. Default: runs/ and the time.
    run_dir: Annotated[Directory | None, tyro.conf.arg(metavar="STR", help_behavior_hint="")] = None
    # Go on with the run in --run-dir, which was stopped or killed. Other options need not be
    # repeated.
    resume: bool = False
    # Read the arguments, say what is wrong with them, and do nothing.
    check: bool = False

    __pydantic_config__: ClassVar = EXACT
    # What a run does not keep: how it is gone on with.
    momentary: ClassVar[tuple[str, ...]] = ("run_dir", "resume", "check")

    @property
    def needs_run(self) -> str | None:
        """The option that wants a run in the run directory, if there is one."""
        return "--resume" if self.resume else None

    def require_packages(self) -> None:
        """Raises a `RecipeError` if a package is not installed that only this run needs."""


@dataclasses.dataclass
class LinearizationConfig(RunConfig):
    """The options of recipes that train a network, and press its units to linear meanwhile."""

    # Start from the network of this run directory, as it was when its linearization started. All is
    # as in that run, but for --epochs (with --schedule two), what the pressure is like, targets,
    # --evaluate-every and --save-every.
    trained: Text = None
    # What has a slope of its own.
    granularity: Literal["channel", "layer", "element"] = "channel"
    # Number of epochs before linearization starts. Default: 2/5 of all.
    start_epoch: Count = None
    # gradual: the pressure grows, and may last to the end; fast: it is strong from the start and
    # meets the target within a few epochs, exactly, and the network trains on at that target.
    pressure: Literal["gradual", "fast"] = "gradual"
    # Number of epochs in which the pressure grows to --strength. Default: a quarter of those that
    # are left; 0 with --pressure fast.
    ramp_epochs: Count = None
    # Number of epochs from the start within which the target is met, to a unit; units that are
    # missing then are made linear at once, those nearest to it. Default: 2 with --pressure fast,
    # else the target is met as the pressure goes, or not at all.
    reach_within: Annotated[Count, Field(ge=1)] = None
    # How the learning rate falls: two: until linearization starts, and again from there to the end;
    # one: once, from the first epoch to the last.
    schedule: Literal["two", "one"] = "two"
    # The pressure stops when the average path length falls to this.
    target_path_length: Number = None
    # The pressure stops when the share of nonlinear units falls to this. Default: 0.3, or no such
    # target with --target-path-length.
    target_nonlinear_units: Annotated[Number, Field(le=1)] = None
    # Number of epochs from one evaluation to the next. The last epoch is evaluated, and the last
    # one before linearization starts.
    evaluate_every: Positive = 1
    # Number of epochs from one checkpoint to the next; where linearization starts there is one,
    # too. With 0 there is none: such a run cannot be gone on with.
    save_every: Natural = 1

    # What may differ from the run of `trained`, since it counts only later.
    later: ClassVar[tuple[str, ...]] = (
        *("trained", "epochs", "pressure", "ramp_epochs", "reach_within"),
        *("strength", "target_path_length", "target_nonlinear_units"),
        *("evaluate_every", "save_every"),
    )

    def __post_init__(self):
        if self.trained is not None:
            self.trained = os.path.abspath(self.trained)

    def evaluated(self, epochs: int) -> list[int]:
        """The epochs that are evaluated, counted from 1."""
        every = range(self.evaluate_every, epochs + 1, self.evaluate_every)
        # `complete` has chosen the start.
        return sorted({*every, min(self.start_epoch or epochs, epochs), epochs})

    def fast_strength(self, epochs: int, steps: int) -> float:
        """A pressure that brings most slopes from 0 to 1 within an epoch of so many steps.

        It takes 4 / 3 divided by the pressure, where nothing else moves them, by SGD with a
        learning rate of 0.1 and a momentum of 0.9; the more, the lower the rate is at the start.
        """
        rate = 1.0
        if self.schedule == "one":
            rate = 0.5 * (1 + math.cos(math.pi * min((self.start_epoch or 0) / epochs, 0.9)))
        return float(f"{3 / (steps * rate):.3g}")

    def complete(self, epochs: int) -> None:
        """Chooses what the command line left open."""
        if self.start_epoch is None:
            self.start_epoch = epochs * 2 // 5
        fast = self.pressure == "fast"
        if self.ramp_epochs is None:
            self.ramp_epochs = 0 if fast else max(epochs - self.start_epoch, 0) // 4
        if self.reach_within is None and fast:
            self.reach_within = 2
        if self.target_nonlinear_units is None and self.target_path_length is None:
            self.target_nonlinear_units = 0.3
        if self.trained is not None and epochs <= self.start_epoch:
            raise RecipeError(
                f"--epochs must be more than the {self.start_epoch} that the network of --trained "
                f"has gone through. Received: {epochs}"
            )


@dataclasses.dataclass
class ImagesConfig(RunConfig):
    """The options of recipes that compare networks on images."""

    # cifar10, cifar100, fashion_mnist, mnist, digits (of scikit-learn, no download), or the path of
    # an .npz file with x_train, y_train, x_test and y_test.
    dataset: str = "digits"
    # Number of images to train on, drawn at random, always the same. Default: all.
    train_images: Annotated[Count, Field(ge=1)] = None
    # The mean over so many by so many pixels makes one.
    shrink: Positive = 1

    def __post_init__(self):
        if self.dataset.endswith(".npz"):
            self.dataset = os.path.abspath(self.dataset)


Config = TypeVar("Config", bound=RunConfig)


def read_config(kind: type[Config]) -> Config:
    """Reads the arguments of the command line, and those of the run that is to be gone on with.

    Args:
        kind: The dataclass of the recipe.

    Returns:
        The configuration. Its backend is known, and is what `import keras` will give.

    Raises:
        RecipeError: If values are out of their limits, if the backend or a package cannot be had,
            if a run directory holds something else, or if the run that is to be gone on with has
            another configuration.
    """
    config = _read(kind)
    config.backend = choose_backend(config.backend)
    config.require_packages()
    return config


def begin(config: RunConfig, name: str) -> None:
    """Makes the run directory, which no other process then uses; or ends, if this is a check.

    It comes when all is known to be right, and before Keras is imported.

    Args:
        config: The configuration.
        name: That of the recipe.

    Raises:
        RecipeError: If the directory cannot be made, or if another process uses it.
        SystemExit: If the arguments were only to be checked.
    """
    if config.check:
        sys.exit()
    if config.run_dir is None:
        config.run_dir = time.strftime(f"runs/{name}-%Y%m%d-%H%M%S")
    claim(Path(config.run_dir), "--run-dir")


def _command_line(kind, default=None):
    config = tyro.cli(kind, default=default)
    return parsed(kind, json.dumps(vars(config)), options=True)


def _read(kind):
    """The configuration, but for the backend."""
    config = _command_line(kind)
    if config.run_dir is not None:
        path = Path(config.run_dir)
        file = path / "config.json"
        # Names that the system does not take are said later, when the directory cannot be made.
        if os.path.exists(file):
            if not config.needs_run:
                raise RecipeError(
                    f"--run-dir {path} holds a run already. Add --resume to go on with it, or "
                    "choose another directory."
                )
            return _as_in(file, kind, config, kind.momentary)
        # A run that was killed early may have left parts of files.
        if os.path.exists(path) and not (
            path.is_dir() and all(p.name.startswith((LOCK, PARTIAL)) for p in path.iterdir())
        ):
            raise RecipeError(
                f"--run-dir {path} is neither empty nor the directory of a run. Choose another."
            )
        if config.resume:
            print(f"{path} holds no run yet: starting from the beginning.")
    elif config.needs_run:
        raise RecipeError(f"{config.needs_run} needs the directory of the run: add --run-dir DIR.")
    trained = getattr(config, "trained", None)
    if trained is not None:
        file = Path(trained, "config.json")
        if not os.path.exists(file):
            raise RecipeError(f"--trained needs the directory of a run. {trained} holds none.")
        free = [*kind.momentary, *kind.later]
        wanted = config
        config = _as_in(file, kind, wanted, free)
        if config.schedule == "one":
            # There the learning rate has been what it is with so many epochs.
            free.remove("epochs")
            config = _as_in(file, kind, wanted, free)
        if not (file.parent / checkpoint_file(config.start_epoch or 0)).exists():
            raise RecipeError(
                f"--trained {trained} holds no network to start from: it has not gone through the "
                f"{config.start_epoch} epochs before its linearization, or has kept no checkpoints "
                "(--save-every 0)."
            )
    return config


def checkpoint_file(epochs: int) -> str:
    """The name of the file in a run directory that holds the state after so many epochs."""
    return f"checkpoints/epoch-{epochs:04}.weights.h5"


def show_if_finished(config: RunConfig) -> None:
    """Prints the report of a run that is to be resumed but has ended, and exits."""
    if config.resume and not config.check and Path(config.run_dir, "summary.json").exists():
        report = Path(config.run_dir, "report.txt").read_text(encoding="utf-8", errors="replace")
        print(f"The run is finished already.\n\n{report}")
        sys.exit()


def _as_in(file, kind, config, free):
    """Reads the arguments once more: what they do not say is as in the configuration in a file.

    Options that are `free` may differ from it.
    """
    fields = {field.name for field in dataclasses.fields(kind)}
    stored = read_json(dict[str, JsonValue], file, ANEW)
    if stored.keys() | {*kind.momentary} != fields:
        raise RecipeError(f"`{file}` is that of another recipe or version. {ANEW}")
    stored = vars(parsed(kind, json.dumps(stored), f"`{file}` is damaged: "))
    stored |= {name: getattr(config, name) for name in free}
    config = _command_line(kind, default=kind(**stored))
    differing = []
    for name, value in stored.items():
        given = getattr(config, name)
        if given in (None, "auto"):
            setattr(config, name, value)
        elif given != value and name not in free:
            differing.append(f"{name} (there {value!r}, now {given!r})")
    if differing:
        raise RecipeError(
            f"{file.parent} is the directory of a run with another configuration: "
            f"{', '.join(differing)}. Leave these options out to go on with that run, or choose "
            "another directory."
        )
    return config


def not_installed(*packages: str) -> list[str]:
    """Those of the packages that cannot be imported; none of them is imported to find out."""
    return [package for package in packages if not importlib.util.find_spec(package)]


def choose_backend(name: str | None) -> str:
    """Makes `import keras` use the backend.

    Args:
        name: Its name, or `None` for what KERAS_BACKEND says, or else the first that is installed.

    Returns:
        Its name.

    Raises:
        RecipeError: If it is unknown or not installed.
    """
    installed = [backend for backend in BACKENDS if importlib.util.find_spec(backend)]
    name = name or os.environ.get("KERAS_BACKEND") or next(iter(installed), None)
    if name is None:
        raise RecipeError(
            "No backend is installed. Install one of them with "
            + " or ".join(f"`pip install 'keras-nladv[{backend}]'`" for backend in BACKENDS)
            + "."
        )
    if name not in BACKENDS:
        raise RecipeError(f"The backend must be one of {BACKENDS}. Received: {name!r}")
    if name not in installed:
        raise RecipeError(
            f"The backend {name} is not installed. Install it with "
            f"`pip install 'keras-nladv[{name}]'`, or choose another --backend "
            f"({', '.join(installed) or 'none'} installed)."
        )
    os.environ["KERAS_BACKEND"] = name
    # TensorFlow tells much about the machine.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # The threads of PyTorch wait for each other many times a step. If they spin meanwhile, a step
    # takes several times as long as soon as another process shares the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return name
