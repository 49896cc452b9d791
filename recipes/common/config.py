"""What every recipe does with its arguments before Keras is imported."""

import contextlib
import dataclasses
import importlib.util
import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

import tyro

BACKENDS = ("tensorflow", "jax", "torch")


class RecipeError(ValueError):
    """What the user can mend, wrong arguments and files first of all."""


def show_errors_plainly() -> None:
    """Shows a `RecipeError` without a traceback, and says what to do after Ctrl-C."""

    def hook(kind, error, traceback):
        if issubclass(kind, RecipeError):
            print(f"Error: {error}", file=sys.stderr)
        elif issubclass(kind, KeyboardInterrupt):
            print("Interrupted. --resume goes on after what is finished.", file=sys.stderr)
        else:
            sys.__excepthook__(kind, error, traceback)

    sys.excepthook = hook


@contextlib.contextmanager
def plain_errors(option: str) -> Iterator[None]:
    """Takes what Keras says of an option for what it is: the user's to mend."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{option}: {error}") from error


# Options whose default is told by their description; `None` would tell nothing.
Count = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
Number = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
Text = Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="")]
Backend = Annotated[
    Literal["tensorflow", "jax", "torch"] | None,
    tyro.conf.arg(metavar="{tensorflow,jax,torch}", help_behavior_hint=""),
]


@dataclasses.dataclass
class RunConfig:
    """The options that all recipes have."""

    # Backend of Keras. Default: KERAS_BACKEND, or the first of these that is installed.
    backend: Backend = None
    # Dtype policy of Keras: float32, mixed_float16, mixed_bfloat16, ...
    precision: str = "float32"
    # Seed of the weights, of the order of the data and of augmentation.
    seed: int = 0
    # Directory for everything that is written. Default: runs/ and the time.
    run_dir: Text = None
    # Go on with the run in --run-dir, which was stopped or killed. Other options need not be
    # repeated.
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    # Read the arguments, say what is wrong with them, and do nothing.
    check: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False

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
    # as in that run, but for --epochs, --ramp-epochs, --strength and targets.
    trained: Text = None
    # What has a slope of its own.
    granularity: Literal["channel", "layer", "element"] = "channel"
    # Number of epochs before linearization starts. Default: 2/5 of all.
    start_epoch: Count = None
    # Number of epochs in which the pressure grows to --strength. Default: a quarter of those that
    # are left.
    ramp_epochs: Count = None
    # The pressure stops when the average path length falls to this.
    target_path_length: Number = None
    # The pressure stops when the share of nonlinear units falls to this. Default: 0.3, or no such
    # target with --target-path-length.
    target_nonlinear_units: Number = None

    # What may differ from the run of `trained`, since it counts only later.
    later: ClassVar[tuple[str, ...]] = (
        *("trained", "epochs", "ramp_epochs"),
        *("strength", "target_path_length", "target_nonlinear_units"),
    )

    def __post_init__(self):
        if self.trained is not None:
            self.trained = os.path.abspath(self.trained)

    def complete(self, epochs: int) -> None:
        """Chooses what the command line left open."""
        if self.start_epoch is None:
            self.start_epoch = epochs * 2 // 5
        if self.ramp_epochs is None:
            self.ramp_epochs = max(epochs - self.start_epoch, 0) // 4
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
    train_images: Count = None
    # The mean over so many by so many pixels makes one.
    shrink: int = 1

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
        RecipeError: If the backend or a package cannot be had, if a run directory holds something
            else, or if the run that is to be gone on with has another configuration.
        SystemExit: If the arguments were only to be checked.
    """
    config = _read(kind)
    config.backend = choose_backend(config.backend)
    config.require_packages()
    if config.check:
        sys.exit()
    return config


def _read(kind):
    """The configuration, but for the backend."""
    config = tyro.cli(kind)
    if config.run_dir is not None:
        path = Path(config.run_dir)
        file = path / "config.json"
        if file.exists():
            if not config.needs_run:
                raise RecipeError(
                    f"--run-dir {path} holds a run already. Add --resume to go on with it, or "
                    "choose another directory."
                )
            return _as_in(file, kind, config, kind.momentary)
        # A run that was killed early may have left parts of files.
        if path.exists() and not (
            path.is_dir() and all(p.name.startswith("partial-") for p in path.iterdir())
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
        if not file.exists():
            raise RecipeError(f"--trained needs the directory of a run. {trained} holds none.")
        config = _as_in(file, kind, config, (*kind.momentary, *kind.later))
        if not (file.parent / checkpoint_file(config.start_epoch)).exists():
            raise RecipeError(
                f"--trained {trained} holds no network to start from: it has not gone through the "
                f"{config.start_epoch} epochs before its linearization."
            )
    return config


def checkpoint_file(epochs: int) -> str:
    """The name of the file in a run directory that holds the state after so many epochs."""
    return f"checkpoints/epoch-{epochs:04}.weights.h5"


def show_if_finished(config: RunConfig) -> None:
    """Prints the report of a run that is to be resumed but has ended, and exits."""
    if config.resume and Path(config.run_dir, "summary.json").exists():
        print(f"The run is finished already.\n\n{Path(config.run_dir, 'report.txt').read_text()}")
        sys.exit()


def require(config: RunConfig, **least: float) -> None:
    """Checks numbers of the configuration; those that are `None` are right.

    Args:
        config: The configuration.
        **least: The least value that each of them may have.

    Raises:
        RecipeError: If one is less, NaN or infinite.
    """
    for name, smallest in least.items():
        value = getattr(config, name)
        if value is not None and not smallest <= value < math.inf:
            raise RecipeError(
                f"--{name.replace('_', '-')} must be a finite number of at least {smallest}. "
                f"Received: {value}"
            )


def require_once(config: RunConfig, *names: str) -> None:
    """Raises a `RecipeError` if one of these lists is empty, or names something twice."""
    for name in names:
        values = getattr(config, name)
        if not values or len(set(values)) < len(values):
            raise RecipeError(
                f"--{name.replace('_', '-')} must name each value once. Received: {values}"
            )


def _as_in(file, kind, config, free):
    """Reads the arguments once more: what they do not say is as in the configuration in a file.

    Options that are `free` may differ from it.
    """
    fields = {field.name for field in dataclasses.fields(kind)}
    try:
        stored = json.loads(file.read_text())
    except ValueError as error:
        raise RecipeError(
            f"`{file}` is damaged: {error}. Start again in a new --run-dir."
        ) from error
    if not isinstance(stored, dict) or stored.keys() | {*kind.momentary} != fields:
        raise RecipeError(
            f"`{file}` is that of another recipe or version. Start again in a new --run-dir."
        )
    stored |= {name: getattr(config, name) for name in free} | {"resume": False}
    config = tyro.cli(kind, default=kind(**stored))
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
