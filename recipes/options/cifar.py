import dataclasses
from typing import Annotated, Literal

import tyro
from pydantic import Field

from data.images import Images
from networks.names import Network
from options.devices import require_divisible
from options.images_config import ImagesConfig
from options.kinds import Amount, Count, Dataset, Natural, Number
from options.linearization_config import LinearizationConfig


@dataclasses.dataclass
class Config(LinearizationConfig, ImagesConfig):
    """Train a network, press its units to linear, and report the core that stays nonlinear.

    Small data sets are those with less than 10,000 images to train on. config.json in the run
    directory holds every option as it was used.
    """

    # cifar10, cifar100, fashion_mnist, mnist, digits (of scikit-learn, no download), the path of
    # an .npz file with x_train, y_train, x_test and y_test, or auto: cifar10 if it can be had,
    # else the digits.
    dataset: Dataset = "auto"
    # Share of the images to train on that get the label of another class, always the same.
    label_noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    # resnet20, resnet32, resnet56, resnet110, or another depth 6n + 2; plain20, or any depth: the
    # same without shortcuts; mobilenet: a small network of inverted residuals; vit: a small vision
    # transformer; mixer: an MLP-Mixer.
    model: Network = "resnet20"
    # Factor of all numbers of channels.
    width: Amount = 1.0
    # Number of epochs, before and after the start of linearization. Default: 100; 25 for small
    # data.
    epochs: Annotated[Count, Field(ge=1)] = None
    # The pressure, omega. Default: 0.0015; 0.015 for small data; with --pressure fast, 3 divided by
    # the number of steps of an epoch, and more where the learning rate is lower at the start.
    strength: Number = None
    # Number of images in a step, on all devices together. Default: 128; 64 for small data.
    batch_size: Annotated[Count, Field(ge=1)] = None
    # sgd has Nesterov momentum 0.9 and weight decay 5e-4, adamw weight decay 0.05.
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    # The highest learning rate, which falls to 0 on a cosine. Default: 0.1 for sgd, else 0.001.
    learning_rate: Number = None
    # Number of test images on which dead and always-on units are counted after each epoch.
    watch_images: Natural = 0
    # Number of test images whose tangent kernel is followed; it has (images * classes)^2 entries.
    kernel_images: Natural = 0
    # Shift the images at random, and mirror those of cifar10, cifar100 and fashion_mnist.
    augment: Annotated[bool, tyro.conf.arg(help_behavior_hint="(default: --augment)")] = True
    # Why `dataset` is not what was asked for.
    dataset_note: tyro.conf.Suppress[str | None] = None

    def choose(self, data: Images) -> None:
        """Chooses what the command line left open.

        Raises:
            RecipeError: If there are fewer images than an option asks for, or if devices cannot
                share them.
        """
        # What `auto` came to; a run that is gone on with is told the name, and remembers why.
        self.dataset, self.dataset_note = data.name, data.note or self.dataset_note
        self.default(epochs=25 if data.small else 100, batch_size=64 if data.small else 128)
        self.complete(self.epochs)
        steps = max(len(data.x_train) // self.batch_size, 1)
        self.choose_strength(0.015 if data.small else 0.0015, self.epochs, steps)
        self.default(learning_rate=0.1 if self.optimizer == "sgd" else 0.001)
        data.require_batches(batch_size=self.batch_size)
        require_divisible(self.devices, self.backend, self.batch_size, len(data.x_test))
