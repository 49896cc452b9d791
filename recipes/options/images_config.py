import dataclasses
import os
from typing import Annotated

from pydantic import Field

from options.kinds import Count, Positive
from options.run_config import RunConfig


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
