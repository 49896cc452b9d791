import dataclasses
import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from options.kinds import Count, File, Natural, Number, Positive
from options.run_config import RunConfig
from running.errors import RecipeError


@dataclasses.dataclass
class LinearizationConfig(RunConfig):
    """The options of recipes that train a network, and press its units to linear meanwhile."""

    # Start from the network of this run directory, as it was when its linearization started. All is
    # as in that run, but for --epochs (with --schedule two), what the pressure is like, targets,
    # --evaluate-every and --save-every.
    trained: File = None
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
    # Number of devices that share each step; a run may go on with another.
    devices: Positive = 1

    momentary: ClassVar[tuple[str, ...]] = (*RunConfig.momentary, "devices")
    # What may differ from the run of `trained`, since it counts only later.
    later: ClassVar[tuple[str, ...]] = (
        *("trained", "epochs", "pressure", "ramp_epochs", "reach_within"),
        *("strength", "target_path_length", "target_nonlinear_units"),
        *("evaluate_every", "save_every"),
    )

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

    def choose_strength(self, gradual: float, epochs: int, steps: int) -> None:
        """Chooses the pressure, if the command line left it open.

        Args:
            gradual: What it is with `--pressure gradual`.
            epochs: Number of epochs.
            steps: Number of steps of an epoch.
        """
        fast = self.pressure == "fast"
        self.default(strength=self.fast_strength(epochs, steps) if fast else gradual)

    def complete(self, epochs: int) -> None:
        """Chooses what the command line left open."""
        self.default(start_epoch=epochs * 2 // 5)
        if self.pressure == "fast":
            self.default(ramp_epochs=0, reach_within=2)
        self.default(ramp_epochs=max(epochs - self.start_epoch, 0) // 4)
        if self.target_path_length is None:
            self.default(target_nonlinear_units=0.3)
        if self.trained is not None and epochs <= self.start_epoch:
            raise RecipeError(
                f"--epochs must be more than the {self.start_epoch} that the network of --trained "
                f"has gone through. Received: {epochs}"
            )
