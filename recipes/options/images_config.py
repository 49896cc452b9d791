import dataclasses
from typing import Annotated, ClassVar

from pydantic import Field

from data.images import Images, load
from options.kinds import Count, Dataset, Positive
from options.run_config import RunConfig


@dataclasses.dataclass
class ImagesConfig(RunConfig):
    """The options of recipes that train on images."""

    # cifar10, cifar100, fashion_mnist, mnist, digits (of scikit-learn, no download), or the path of
    # an .npz file with x_train, y_train, x_test and y_test.
    dataset: Dataset = "digits"
    # Number of images to train on, drawn at random, always the same. Default: all.
    train_images: Annotated[Count, Field(ge=1)] = None
    # The mean over so many by so many pixels makes one.
    shrink: Positive = 1

    # An option of some.
    label_noise: ClassVar[float] = 0.0

    def images(self) -> Images:
        """Loads the images, and chooses by them what the command line left open.

        Raises:
            RecipeError: If they cannot be had, or do not go with an option.
        """
        data = load(self.dataset, self.check)
        data = data.reduced(self.train_images, self.shrink, self.label_noise)
        self.choose(data)
        return data

    def choose(self, data: Images) -> None:
        """Chooses what the command line left open.

        Raises:
            RecipeError: If options do not go together, or if there are fewer images than one asks
                for.
        """
        raise NotImplementedError  # Each recipe has its own.
