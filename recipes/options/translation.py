import dataclasses
import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from options.backends import not_installed
from options.devices import require_divisible
from options.kinds import Amount, Count, Natural, Number, Positive, Text
from options.linearization_config import LinearizationConfig
from running.errors import RecipeError


@dataclasses.dataclass
class Config(LinearizationConfig):
    """Train a translator, press its units to linear, and report what that costs in BLEU.

    config.json in the run directory holds every option as it was used.
    """

    # numbers: the words of numbers, and dates, which need no download; or a folder of parallel
    # text in the layout of Multi30k: train.en, train.de, val.en, ..., plain or .gz.
    dataset: str = "numbers"
    # Language to translate from.
    source: str = "en"
    # Language to translate into.
    target: str = "de"
    # Numbers are less than this: the greater, the harder.
    limit: Annotated[int, Field(ge=1, le=10**18)] = 1_000_000
    # Number of pairs of sentences to train on; of a folder they are drawn at random, always the
    # same. Default: 20,000 for numbers, else all.
    sentences: Annotated[Count, Field(ge=1)] = None
    # Number of layers of the encoder, and of the decoder.
    layers: Positive = 2
    # Width of the residual stream.
    dim: Positive = 128
    # Number of attention heads.
    heads: Positive = 4
    # Number of feed-forward units of a layer.
    ffn_dim: Positive = 256
    # Number of subwords, of both languages together. Default: at most 300 for numbers, else at most
    # 8000; fewer if the text yields no more.
    vocabulary: Annotated[Count, Field(ge=5)] = None
    # Sentences of more tokens are not trained on, and translations are not longer. Default: as long
    # as the longest for numbers, else 64.
    max_length: Annotated[Count, Field(ge=2)] = None
    # Share of activations that are dropped in training. Default: 0 for numbers, else 0.1.
    dropout: Annotated[Number, Field(lt=1)] = None
    # Share of each label that is spread over all tokens.
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    # Number of epochs, before and after the start of linearization.
    epochs: Positive = 12
    # Number of epochs before linearization starts. Default: 3/5 of all.
    start_epoch: Count = None
    # The pressure, omega. Default: 0.001; with --pressure fast, 3 divided by the number of steps of
    # an epoch, and more where the learning rate is lower at the start.
    strength: Number = None
    # Number of beams when sentences are translated; with 1 the best token is taken at each step.
    beam: Positive = 1
    # Number of sentences in a step, on all devices together.
    batch_size: Positive = 64
    # The highest learning rate.
    learning_rate: Amount = 0.003
    # Number of steps in which the learning rate rises.
    warm_up: Natural = 200
    # How the learning rate falls: on a cosine (see --schedule); or with the inverse square root of
    # the step.
    decay: Literal["cosine", "inverse-sqrt"] = "cosine"
    # A sentence to translate with the run in --run-dir, which must be finished.
    translate: Text = None

    momentary: ClassVar[tuple[str, ...]] = (*LinearizationConfig.momentary, "translate")

    def __post_init__(self):
        if self.dataset != "numbers":
            self.dataset = os.path.abspath(self.dataset)

    @property
    def needs_run(self):
        return super().needs_run if self.translate is None else "--translate"

    def require_packages(self):
        missing = not_installed("keras_hub", "regex", "tokenizers")
        if missing:
            raise RecipeError(
                f"{' and '.join(missing)} cannot be imported. What is needed of keras-hub here, "
                "without TensorFlow, installs with `pip install --no-deps keras-hub regex "
                "tokenizers`."
            )

    def choose(self) -> None:
        """Chooses what the command line left open, but for what hangs on the text.

        Raises:
            RecipeError: If options do not go together, or if there is no run to translate with.
        """
        if self.translate is not None:
            if not Path(self.run_dir, "summary.json").exists():
                raise RecipeError(
                    f"--translate needs a finished run in --run-dir. {self.run_dir} holds none."
                )
            if not self.translate.strip():
                raise RecipeError("--translate needs a sentence. Received an empty one.")
        numbers = self.dataset == "numbers"
        self.default(dropout=0.0 if numbers else 0.1, sentences=20_000 if numbers else None)
        self.default(start_epoch=self.epochs * 3 // 5)
        self.complete(self.epochs)
        if self.dim % self.heads:
            raise RecipeError(
                f"--dim must be a multiple of --heads. Received: {self.dim} and {self.heads}"
            )
        if self.granularity == "element":
            raise RecipeError(
                "--granularity element needs sentences of one length. Choose channel or layer."
            )
        require_divisible(self.devices, self.backend, self.batch_size)
