import dataclasses
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from data.images import Images
from options.images_config import ImagesConfig
from options.kinds import Count, Number, Positive, once

METHODS = ("dense", "transfer", "magnitude", "random", "snip", "synflow")


@dataclasses.dataclass
class Config(ImagesConfig):
    """Find sparse networks without labels, and train them.

    config.json in the run directory holds every option as it was used.
    """

    # mlp (784-300-100-10), lenet (LeNet-5-Caffe), conv4 (four convolutions), or resnet20.
    network: Literal["mlp", "lenet", "conv4", "resnet20"] = "mlp"
    # Shares of the weights that are kept.
    densities: Annotated[list[Annotated[float, Field(gt=0, le=1)]], AfterValidator(once)] = (
        dataclasses.field(default_factory=lambda: [0.03])
    )
    # What is compared.
    methods: Annotated[list[Literal[*METHODS]], AfterValidator(once)] = dataclasses.field(
        default_factory=lambda: [*METHODS]
    )
    # Whether each kernel keeps its share, or all are pooled.
    scope: Literal["layer", "global"] = "layer"
    # Number of runs of each, with the seeds from --seed on.
    repeats: Positive = 3
    # How the kernels are compared.
    estimator: Literal["exact", "stochastic"] = "stochastic"
    # Epochs of transfer. Default: 20, as published; 80 with less than 10,000 images to train on.
    transfer_epochs: Annotated[Count, Field(ge=1)] = None
    # Number of images in an iteration of transfer. Default: 64, as published; 32 with less than
    # 10,000 images to train on.
    transfer_batch_size: Annotated[Count, Field(ge=2)] = None
    # Learning rate of transfer. Default: 0.0005, as published; with less than 10,000 images to
    # train on 0.01, which falls to 0 as a cosine.
    transfer_rate: Annotated[Number, Field(gt=0)] = None
    # Factor of the kernels' distance. Default: 0.001, as published; 0.003 with less than 10,000
    # images to train on.
    ntk_strength: Number = None
    # Factor of the weights' squares. Default: as published, 1e-4 for mlp, else 1e-5; with less than
    # 10,000 images to train on 3e-5.
    l2: Number = None
    # Number of iterations between new masks. Default: 100, as published; 25 with less than 10,000
    # images to train on.
    mask_every: Annotated[Count, Field(ge=1)] = None
    # Epochs of training. Default: 50, as published; 30 with less than 10,000 images to train on.
    epochs: Annotated[Count, Field(ge=1)] = None
    # Number of images in a step of training.
    batch_size: Positive = 64
    # Learning rate of training. Default: 0.001, as published; 0.003 with less than 10,000 images to
    # train on.
    learning_rate: Annotated[Number, Field(gt=0)] = None

    def choose(self, data: Images) -> None:
        """Chooses what the command line left open: as published, or what suits few images.

        Raises:
            RecipeError: If there are fewer images than an option asks for.
        """
        published = {
            "transfer_epochs": (20, 80),
            "transfer_batch_size": (64, 32),
            "transfer_rate": (5e-4, 1e-2),
            "ntk_strength": (1e-3, 3e-3),
            "l2": (1e-4 if self.network == "mlp" else 1e-5, 3e-5),
            "mask_every": (100, 25),
            "epochs": (50, 30),
            "learning_rate": (1e-3, 3e-3),
        }
        self.default(**{name: values[data.small] for name, values in published.items()})
        data.require_batches(
            batch_size=self.batch_size, transfer_batch_size=self.transfer_batch_size
        )
