import dataclasses
from typing import Annotated, Any, ClassVar, Literal

import tyro

from options.kinds import Backend, Directory, Natural
from running.values import EXACT


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
    # An option of some.
    devices: ClassVar[int] = 1
    # What a run does not keep: how it is gone on with.
    momentary: ClassVar[tuple[str, ...]] = ("run_dir", "resume", "check")

    @property
    def needs_run(self) -> str | None:
        """The option that wants a run in the run directory, if there is one."""
        return "--resume" if self.resume else None

    def default(self, **values: Any) -> None:
        """Sets those of the options that the command line left open."""
        for name, value in values.items():
            if getattr(self, name) is None:
                setattr(self, name, value)

    def require_packages(self) -> None:
        """Raises a `RecipeError` if a package is not installed that only this run needs."""
