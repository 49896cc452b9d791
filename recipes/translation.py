"""Trains a Transformer to translate, presses its feed-forward units to linear, and follows BLEU.

    python recipes/translation.py --backend jax

First the network is trained as usual. From `--start-epoch` on, `NonlinearitySparsity` presses the
slopes of its `SparsePReLU` units to 1, where they are linear, until few nonlinear units are left;
in the epochs that remain the network recovers.

The run directory holds config.json, history.csv, summary.json, report.txt, translations.txt,
subwords.model, training.png, bleu.png, core.png, the final network model.keras, what `collapse`
made of it, collapsed.keras, TensorBoard's events in tensorboard/, and what `--resume` needs.

    python recipes/translation.py --run-dir RUN --translate "A man is riding a bike."
"""

import dataclasses
import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue

from data.numbers import make_numbers, require_numbers
from data.parallel_text import read_parallel
from data.subwords import Subwords
from options.backends import not_installed
from options.command_line import begin, read_config, show_if_finished
from options.kinds import Amount, Count, Natural, Number, Positive, Text
from options.linearization_config import LinearizationConfig
from running.errors import RecipeError, show_errors_plainly
from running.run_directory import ANEW
from running.values import read_json


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
    # Number of sentences in a step.
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
        super().__post_init__()
        if self.dataset != "numbers":
            self.dataset = os.path.abspath(self.dataset)

    @property
    def needs_run(self):
        return super().needs_run or (None if self.translate is None else "--translate")

    def require_packages(self):
        missing = not_installed("keras_hub", "regex", "tokenizers")
        if missing:
            raise RecipeError(
                f"{' and '.join(missing)} cannot be imported. What is needed of keras-hub here, "
                "without TensorFlow, installs with `pip install --no-deps keras-hub regex "
                "tokenizers`."
            )


# ---- What to do. Nothing is written before all of it is known to be right.

show_errors_plainly()
config = read_config(Config)
if config.translate is not None:
    if not Path(config.run_dir, "summary.json").exists():
        raise RecipeError(
            f"--translate needs a finished run in --run-dir. {config.run_dir} holds none."
        )
    if not config.translate.strip():
        raise RecipeError("--translate needs a sentence. Received an empty one.")
else:
    show_if_finished(config)

numbers = config.dataset == "numbers"
if config.dropout is None:
    config.dropout = 0.0 if numbers else 0.1
if config.sentences is None and numbers:
    config.sentences = 20_000
if config.start_epoch is None:
    config.start_epoch = config.epochs * 3 // 5
config.complete(config.epochs)
if config.dim % config.heads:
    raise RecipeError(
        f"--dim must be a multiple of --heads. Received: {config.dim} and {config.heads}"
    )
if config.granularity == "element":
    raise RecipeError(
        "--granularity element needs sentences of one length. Choose channel or layer."
    )

if config.translate is None:
    if numbers:
        require_numbers(config.source, config.target, config.limit, config.sentences)
    else:
        text = read_parallel(config.dataset, config.source, config.target, config.sentences)
if config.translate is None or config.check:
    begin(config, "translation")
subwords_file = Path(config.run_dir, "subwords.model")
if config.trained and not subwords_file.exists():
    subwords_file = Path(config.trained, "subwords.model")
if config.translate is None:
    if numbers:
        text = make_numbers(
            config.source, config.target, config.limit, config.sentences, seed=config.seed
        )
    if subwords_file.exists():
        subwords = Subwords.load(subwords_file, config.vocabulary)
    else:
        wanted = config.vocabulary or (300 if numbers else 8000)
        sentences = (sentence for pair in text.train for sentence in pair)
        subwords = Subwords.train(sentences, wanted, exactly=config.vocabulary is not None)
        config.vocabulary = subwords.size
    encoded = {
        split: list(zip(*(subwords.encode(side) for side in zip(*getattr(text, split)))))
        for split in ("train", "val", "test")
    }
    if config.max_length is None:
        longest = max(len(ids) for pairs in encoded.values() for pair in pairs for ids in pair) + 1
        config.max_length = longest if numbers else 64
else:
    subwords = Subwords.load(subwords_file, config.vocabulary)

import keras
import numpy as np

from data.sentence_batches import SentenceBatches, padded
from keras_nladv import PathLengthCallback, collapse, core_image, milliseconds
from keras_nladv.events.event_writer import EventWriter
from networks.decoding import Decoding
from networks.translator import translator
from results.nonlinearity import Nonlinearity, table
from results.plots import plot_bleu, plot_training
from results.translating import Translations
from running.run import Run, versions
from training.progress import LINEARIZATION, Progress
from training.schedules import linearization, seeded_epochs
from training.smoothed_cross_entropy import SmoothedCrossEntropy
from training.warmed_up import WarmedUp

# Translations are made of so many sentences at once.
DECODED = 100
SHOWN = 10

keras.utils.set_random_seed(config.seed)
keras.config.set_dtype_policy(config.precision)


def translated(decoding, sources, batch_size=DECODED):
    return Translations(decoding, subwords, sources, config.max_length, batch_size)


if config.translate is not None:
    model = keras.models.load_model(Path(config.run_dir, "model.keras"), compile=False)
    [ids] = subwords.encode([" ".join(config.translate.split())])
    if len(ids) > config.max_length:
        raise RecipeError(
            f"--translate: the sentence has {len(ids)} tokens; {config.max_length} are what the "
            "run was trained on (--max-length)."
        )
    decoding = Decoding(model, config.max_length, config.beam)
    print(translated(decoding, [ids], 1).texts[0])
    raise SystemExit

# ---- The network.

train = SentenceBatches(
    encoded["train"],
    subwords.start,
    subwords.end,
    config.batch_size,
    config.seed,
    config.max_length,
)
val = SentenceBatches(
    encoded["val"], subwords.start, subwords.end, config.batch_size, 0, config.max_length
)
model = translator(
    config.vocabulary,
    config.max_length,
    layers=config.layers,
    dim=config.dim,
    heads=config.heads,
    ffn_dim=config.ffn_dim,
    dropout=config.dropout,
    granularity=config.granularity,
)
steps = len(train)
if config.strength is None:
    fast = config.pressure == "fast"
    config.strength = config.fast_strength(config.epochs, steps) if fast else 0.001
model.compile(
    keras.optimizers.Adam(
        WarmedUp(
            config.learning_rate,
            config.warm_up,
            config.start_epoch * steps if config.schedule == "two" else 0,
            config.epochs * steps,
            config.decay,
        ),
        beta_2=0.98,
    ),
    loss=SmoothedCrossEntropy(config.label_smoothing),
    weighted_metrics=[
        keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
        # The loss without smoothing and pressure.
        keras.metrics.MeanMetricWrapper(SmoothedCrossEntropy().call, name="cross_entropy"),
    ],
)
before = Nonlinearity(model)

# ---- The run.

schedule = linearization(config, before)
run = Run(config, config.start_epoch, config.save_every)
run.save("subwords.model", subwords.save)
run.restore(model, config.trained)
notes = [
    note
    for note in (
        text.note,
        train.left_out
        and f"{train.left_out:,} pairs of train have "
        f"more than {config.max_length} tokens and were left out",
    )
    if note
]
print(
    f"data     {text.name}, {config.source} to {config.target}: {len(text.train):,} pairs to train "
    f"on, {len(text.val):,} for validation, {len(text.test):,} to test; {config.vocabulary:,} "
    f"subwords\n"
    + "".join(f"         {note}\n" for note in notes)
    + f"network  {config.layers} + {config.layers} layers, {model.count_params():,} parameters, "
    f"{before.report.units:,} nonlinear units, average path length {before.path_length:.2f}\n"
    f"backend  {config.backend}, {config.precision}\n"
    f"output   {run.path}\n"
)
decoding = Decoding(model, config.max_length, config.beam)
greedy = decoding if config.beam == 1 else Decoding(model, config.max_length)
sources, references = zip(*text.test)
test_sources = [source for source, _ in encoded["test"]]
# What is watched in every epoch.
watched_sources = [source for source, _ in encoded["val"][: 2 * DECODED]]
watched_references = [target for _, target in text.val[: 2 * DECODED]]


def note_before():
    """Keeps what the network translates where linearization starts."""
    found = translated(decoding, test_sources)
    run.write_json("before.json", {**found.scores(references), "texts": found.texts})


def follow(epoch, logs):
    """BLEU after epochs, and all of the test set where linearization starts."""
    if epoch + 1 in evaluated:
        scores = translated(greedy, watched_sources).scores(watched_references)
        logs["val_bleu"], logs["val_exact_match"] = scores["bleu"], scores["exact_match"]
    if epoch + 1 == config.start_epoch:
        note_before()


evaluated = config.evaluated(config.epochs)
if config.trained and not (run.path / "before.json").exists():
    note_before()
model.fit(
    train,
    epochs=config.epochs,
    initial_epoch=run.epochs,
    shuffle=False,  # The batches are shuffled.
    validation_data=val,
    validation_freq=evaluated,
    verbose=0,
    callbacks=[
        train.epochs(),
        seeded_epochs(model, config.seed),
        schedule,
        keras.callbacks.LambdaCallback(on_epoch_end=follow),
        PathLengthCallback(run.path / "tensorboard"),
        Progress(
            run,
            {
                "cross_entropy": ("loss", "{:.4f}"),
                "val_accuracy": ("val tokens", "{:.2%}"),
                "val_exact_match": ("val exact", "{:.1%}"),
                "val_bleu": ("val BLEU", "{:.1f}"),
                **LINEARIZATION,
            },
        ),
    ],
)

# ---- The results.

after = Nonlinearity(model)
file = run.path / "before.json"
old = read_json(dict[str, JsonValue], file, ANEW) if file.exists() else None
found = translated(decoding, test_sources)
new = found.scores(references)

collapsed = collapse(model, size=config.max_length)
decodings = [decoding, Decoding(collapsed, config.max_length, config.beam)]
bleu_collapsed = translated(decodings[1], test_sources).scores(references)["bleu"]
sample = [ids[: config.max_length] for ids in test_sources[:DECODED]]
timings = milliseconds(decodings, inputs=padded(sample, config.max_length), seconds=1).rows
speeds = [1e3 * len(sample) / row["ms"] for row in timings]

summary = {
    **{f"{key}_before": old and old[key] for key in ("bleu", "chrf", "exact_match")},
    **{f"{key}_after": new[key] for key in ("bleu", "chrf", "exact_match")},
    "signature": new["signature"],
    "val_token_accuracy": run.history[-1]["val_accuracy"],
    **after.summary(before),
    "translations_per_second": speeds[0],
    "translations_per_second_collapsed": speeds[1],
    "bleu_collapsed": bleu_collapsed,
    "parameters": model.count_params(),
    "parameters_collapsed": collapsed.count_params(),
    "collapsed_times_as_fast": timings[1]["times_as_fast"],
    "dataset": config.dataset,
    "source": config.source,
    "target": config.target,
    "vocabulary": config.vocabulary,
    "backend": config.backend,
    "epochs": config.epochs,
    "seed": config.seed,
    "seconds": run.seconds,
    "versions": versions(),
}


def row(name, form, key):
    return name, "-" if old is None else form.format(old[key]), form.format(new[key])


title = (
    f"{text.name} {config.source}-{config.target}, {config.backend}, seed {config.seed}, "
    f"{config.epochs} epochs in {run.seconds:.0f} s"
)
rows = [
    ("", "before", "after"),
    row("test BLEU", "{:.2f}", "bleu"),
    row("     chrF", "{:.2f}", "chrf"),
    row("     exactly right", "{:.2%}", "exact_match"),
    *after.rows(before),
]
texts_before = old["texts"] if old else ["-"] * len(sources)
lines = list(zip(sources, references, texts_before, found.texts))
shown = [lines[i] for i in np.random.default_rng(config.seed).permutation(len(lines))[:SHOWN]]
examples = "\n\n".join(
    f"source     {source}\nreference  {reference}\nbefore     {one}\nafter      {two}"
    for source, reference, one, two in shown
)
report = (
    f"{after.report}\n\n{title}\n\n{table(rows)}\n\n"
    f"sacrebleu: {new['signature']}\n"
    f"collapsed: {summary['parameters']:,} -> {summary['parameters_collapsed']:,} parameters, "
    f"BLEU {new['bleu']:.2f} -> {bleu_collapsed:.2f}, {speeds[0]:.0f} -> {speeds[1]:.0f} "
    f"translations a second, {summary['collapsed_times_as_fast']:.2f} times as fast\n"
    f"(beam {config.beam}, batches of {len(sample)}, by turns)\n\n"
    f"{examples}\n\n{after.note(config)}Everything is in {run.path}\n"
)
events = EventWriter(run.path / "tensorboard" / "translations", config.epochs)
markdown = ["| source | reference | before | after |", "| --- | --- | --- | --- |"]
markdown += ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in shown]
events.write(config.epochs, {}, {}, {}, {"translations": "\n".join(markdown)})
events.close()
run.write("translations.txt", "".join("\t".join(line) + "\n" for line in lines))
run.save("core.png", core_image(model).save)
run.save(
    "training.png", plot_training(run.history, config.start_epoch, title, "validation").savefig
)
run.save("bleu.png", plot_bleu(run.history, config.start_epoch, title).savefig)
# It shall load without the loss and the schedule of this recipe.
model.compiled = False
run.save("model.keras", model.save)
run.save("collapsed.keras", collapsed.save)
run.write("report.txt", report)
run.write_json("summary.json", summary)
print(f"\n{report}")
