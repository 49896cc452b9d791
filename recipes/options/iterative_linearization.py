import dataclasses
import re
from typing import Annotated, Literal

import tyro
from pydantic import AfterValidator, Field

from data.images import Images
from options.images_config import ImagesConfig
from options.kinds import Amount, Count, Positive, once
from running.errors import RecipeError


def is_period(period: str) -> str:
    # The number of digits is limited, too.
    if not re.fullmatch(r"never|[1-9][0-9]{0,8}", period):
        raise ValueError(f"must be integers of at least 1, or never. Received: {period!r:.60}")
    return period


@dataclasses.dataclass
class Config(ImagesConfig):
    """Train a network with features that are updated every so many steps, or never.

    config.json in the run directory holds every option as it was used.
    """

    # conv: four convolutions and a pooling; or lenet (LeNet-5-Caffe), conv4 or mlp, as in
    # neural_tangent_transfer.py.
    network: Literal["conv", "lenet", "conv4", "mlp"] = "conv"
    # Numbers of steps between two updates of the features, or never. Default: 1 and never, and
    # those with which there are 100, 30, 10, 4 and 1 updates.
    periods: Annotated[
        list[Annotated[str, AfterValidator(is_period)]],
        AfterValidator(lambda periods: periods and once(periods)),
        tyro.conf.arg(metavar="INT|never...", help_behavior_hint=""),
    ] = dataclasses.field(default_factory=list)
    # Learning rates, each with each period. They are constant.
    learning_rates: Annotated[list[Annotated[float, Field(gt=0)]], AfterValidator(once)] = (
        dataclasses.field(default_factory=lambda: [0.005, 0.01, 0.02, 0.1])
    )
    # Number of runs with each period and learning rate, with the seeds from --seed on.
    repeats: Positive = 3
    # Number of epochs of each.
    epochs: Positive = 20
    # Number of images in a step. Default: 128; 64 with less than 10,000 images to train on.
    batch_size: Annotated[Count, Field(ge=1)] = None
    # Momentum of SGD.
    momentum: Annotated[float, Field(ge=0, le=1)] = 0.0
    # Factor of all numbers of channels, of conv.
    width: Amount = 1.0
    # Hold the Jacobian only: outputs are those of the network itself, not of its tangent.
    jacobian_only: bool = False
    # Forget the momentum when features are updated.
    reset_optimizer: bool = False

    def steps(self, data: Images) -> int:
        """The number of steps of a training."""
        return self.epochs * (len(data.x_train) // self.batch_size)

    def choose(self, data: Images) -> None:
        """Chooses what the command line left open.

        Raises:
            RecipeError: If there are fewer images than an option asks for, or if `width` has
                nothing to say.
        """
        if self.width != 1 and self.network != "conv":
            raise RecipeError(
                f"--width is for --network conv alone. Received: {self.width} with {self.network}"
            )
        self.default(batch_size=64 if data.small else 128)
        data.require_batches(batch_size=self.batch_size)
        if not self.periods:
            steps = self.steps(data)
            # None but 1 ends with the last step, where the tangent would be given up for the
            # network.
            spread = {steps // (updates + 1) + 1 for updates in (100, 30, 10, 4, 1)}
            self.periods = [*map(str, sorted({1, *spread})), "never"]
