import dataclasses
import os
from typing import Annotated, Literal

import tyro
from pydantic import AfterValidator, Field

from data.images import Images
from networks.names import Network
from options.backends import not_installed
from options.images_config import ImagesConfig
from options.kinds import Amount, Count, File, Number, once
from running.errors import RecipeError

METHODS = ("ours", "fast", "weighted", "layer", "random", "entropy", "snip", "l1")
# The packages that Keras exports with.
EXPORTS = {
    "onnx": {
        "tensorflow": ("tf2onnx",),
        "torch": ("onnx", "onnxscript"),
        "jax": ("jax2onnx",),
    },
    "tf_saved_model": {"tensorflow": (), "jax": ("tensorflow",)},
}


@dataclasses.dataclass
class Config(ImagesConfig):
    """Press a trained network to budgets of nonlinearity, and make it smaller and faster.

    Small data sets are those with less than 10,000 images to train on. config.json in the run
    directory holds every option as it was used.
    """

    # mobilenet: a small network of inverted residuals; vit: a small vision transformer; mixer: an
    # MLP-Mixer; resnet8, resnet20, or another depth 6n + 2; plain8, ...: the same without
    # shortcuts.
    model: Network = "mobilenet"
    # Factor of all numbers of channels. Default: 1; 0.25 for small data.
    width: Number = None
    # A classifier that is trained already, a .keras file, in place of --model.
    model_file: File = None
    # Shares of what the original has, at least 0 and less than 1.
    budgets: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], AfterValidator(once)] = (
        dataclasses.field(default_factory=lambda: [0.5, 0.25, 0.1])
    )
    # What the budgets are shares of: the units that are nonlinear, the average path length, the
    # nonlinear operations for one image, or the time in --engine, predicted from what linear units
    # of each layer save.
    budget_kind: Literal["nonlinear_units", "path_length", "operations", "time"] = "nonlinear_units"
    # ours: channels, all pressed equally, by the power 0.5; fast: the same, with all of --strength
    # from the first step; weighted: as ours, each layer pressed by how much a linear unit of it
    # saves in --engine; layer: whole layers, pressed alike; random: channels made linear at random;
    # entropy: whole layers made linear, first those whose units are nearly always on or nearly
    # always off; snip: channels made linear, first those whose slopes matter least for the loss, to
    # first order; l1: channels, pressed by the power 1; or all.
    methods: Annotated[list[Literal[*METHODS, "all"]], AfterValidator(once)] = dataclasses.field(
        default_factory=lambda: ["ours", "random"]
    )
    # Number of epochs that the original is trained. Default: 100; 20 for small data.
    epochs: Annotated[Count, Field(ge=1)] = None
    # Number of epochs in which the pressure grows to --strength; it stops when the budget is met.
    # Default: 40; 8 for small data.
    press_epochs: Annotated[Count, Field(ge=1)] = None
    # Number of epochs after these. Default: 30; 6 for small data.
    finetune_epochs: Count = None
    # The highest pressure, omega. Default: 0.005; 0.05 for small data.
    strength: Number = None
    # Number of images in a step. Default: 128; 64 for small data.
    batch_size: Annotated[Count, Field(ge=1)] = None
    # The highest learning rate. It falls to 0 on a cosine, in training and again in each
    # compression.
    learning_rate: Amount = 0.1
    # Where the networks will run: they are collapsed for it, timed in it with one thread, and
    # written to its files. Batches have 32 images in Keras, on the backend, and one elsewhere.
    engine: Literal["keras", "onnxruntime", "litert", "openvino"] = "keras"
    # Whether weights will be in int8 or float16 there; False says that they stay in float32, by
    # default it is what is usual in the engine.
    for_int8: bool | None = None
    # What decides of a merge, and of weights of the pressure: measured time, or the number of
    # multiplications.
    cost: Literal["time", "macs"] = "time"
    # Another format for the collapsed networks.
    export: Annotated[
        Literal["onnx", "tf_saved_model"] | None,
        tyro.conf.arg(metavar="{onnx,tf_saved_model}", help_behavior_hint="(default: none)"),
    ] = None

    def __post_init__(self):
        if self.methods == ["all"]:
            self.methods = list(METHODS)

    def require_packages(self):
        needed = {}
        if self.export is not None:
            needed["export", self.export] = EXPORTS[self.export]
        if self.engine != "keras":
            # Keras comes with it, whose backend is chosen.
            from keras_nladv.engines import find_engine

            needed["engine", self.engine] = find_engine(self.engine).packages
        for (option, value), packages in needed.items():
            if self.backend not in packages:
                raise RecipeError(
                    f"--{option} {value} is not possible with the backend {self.backend}; it is "
                    f"with {' or '.join(packages)}."
                )
            missing = [name.replace("_", "-") for name in not_installed(*packages[self.backend])]
            if missing:
                raise RecipeError(
                    f"--{option} {value} with the backend {self.backend} needs "
                    f"{' and '.join(missing)}: `pip install {' '.join(missing)}`."
                )

    def choose(self, data: Images) -> None:
        """Chooses what the command line left open.

        Raises:
            RecipeError: If options do not go together, if there are fewer images than one asks
                for, or no network.
        """
        if "all" in self.methods:
            raise RecipeError(f"--methods all stands by itself. Received: {self.methods}")
        if data.note:
            raise RecipeError(f"--dataset: {data.note}")
        self.default(
            width=0.25 if data.small else 1.0,
            epochs=20 if data.small else 100,
            press_epochs=8 if data.small else 40,
            finetune_epochs=6 if data.small else 30,
            strength=0.05 if data.small else 0.005,
            batch_size=64 if data.small else 128,
        )
        data.require_batches(batch_size=self.batch_size)
        if self.model_file is not None and not os.path.isfile(self.model_file):
            raise RecipeError(f"--model-file: there is no file {self.model_file!r}.")
