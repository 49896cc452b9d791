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

from pathlib import Path

from pydantic import JsonValue

from data.numbers import make_numbers, require_numbers
from data.parallel_text import read_parallel
from data.subwords import Subwords
from options.command_line import begin, read_config
from options.translation import Config
from running.run_directory import ANEW
from running.values import read_json

# Nothing is written before all that is to be done is known to be right.
config = read_config(Config)
config.choose()
numbers = config.dataset == "numbers"
if config.translate is None:
    if numbers:
        require_numbers(config.source, config.target, config.limit, config.sentences)
    else:
        text = read_parallel(config.dataset, config.source, config.target, config.sentences)
if config.translate is None or config.check:
    begin(config, "translation")
else:
    from results.translating import translate

    print(translate(config))
    raise SystemExit

if numbers:
    text = make_numbers(
        config.source, config.target, config.limit, config.sentences, seed=config.seed
    )
subwords_file = Path(config.run_dir, "subwords.model")
if config.trained and not subwords_file.exists():
    subwords_file = Path(config.trained, "subwords.model")
if subwords_file.exists():
    subwords = Subwords.load(subwords_file, config.vocabulary)
else:
    wanted = config.vocabulary or (300 if numbers else 8000)
    sentences = (sentence for pair in text.train for sentence in pair)
    subwords = Subwords.train(sentences, wanted, exactly=config.vocabulary is not None)
    config.vocabulary = subwords.size
encoded = text.encoded(subwords)
longest = max(len(ids) for pairs in encoded.values() for pair in pairs for ids in pair) + 1
config.default(max_length=longest if numbers else 64)

import keras
import numpy as np

from data.sentence_batches import SentenceBatches, padded
from keras_nladv import PathLengthCallback, collapse, core_image, milliseconds
from keras_nladv.events import EventWriter
from networks.decoding import Decoding
from networks.translator import translator
from results.nonlinearity import Nonlinearity, row, table
from results.plots import plot_bleu, plot_training
from results.translating import Translations
from running.run import Run
from training.devices import by_first
from training.fitting import fit, set_up
from training.progress import LINEARIZATION, Progress
from training.schedules import linearization, seeded_epochs
from training.smoothed_cross_entropy import SmoothedCrossEntropy
from training.warmed_up import WarmedUp

# Translations are made of so many sentences at once.
DECODED = -(-min(100, len(text.test)) // config.devices) * config.devices
SHOWN = 10


def translated(decoding, sources):
    return Translations(decoding, subwords, sources, config.max_length, DECODED)


# ---- The network.

set_up(config)
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
config.choose_strength(0.001, config.epochs, steps)
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
run.introduce(
    data=f"{text.name}, {config.source} to {config.target}: {len(text.train):,} pairs to train "
    f"on, {len(text.val):,} for validation, {len(text.test):,} to test; {config.vocabulary:,} "
    f"subwords" + "".join(f"\n         {note}" for note in notes),
    network=f"{config.layers} + {config.layers} layers, {model.count_params():,} parameters, "
    f"{before}",
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
fit(
    model,
    train,
    val,
    config.devices,
    epochs=config.epochs,
    initial_epoch=run.epochs,
    validation_freq=evaluated,
    callbacks=[
        seeded_epochs(model, config.seed),
        schedule,
        *by_first(
            keras.callbacks.LambdaCallback(on_epoch_end=follow),
            PathLengthCallback(run.path / "tensorboard"),
        ),
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
sample = np.resize(
    padded([ids[: config.max_length] for ids in test_sources[:DECODED]], config.max_length),
    (DECODED, config.max_length),
)
timings = milliseconds(decodings, inputs=sample, seconds=1).rows
speeds = [1e3 * DECODED / row["ms"] for row in timings]

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
    **run.options("dataset", "source", "target", "vocabulary", "backend", "epochs", "seed"),
    "seconds": run.seconds,
}
title = f"{text.name} {config.source}-{config.target}, {run}"
rows = [
    *(
        row(name, form, old and old[key], new[key])
        for name, form, key in (
            ("test BLEU", "{:.2f}", "bleu"),
            ("     chrF", "{:.2f}", "chrf"),
            ("     exactly right", "{:.2%}", "exact_match"),
        )
    ),
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
    f"(beam {config.beam}, batches of {DECODED}, by turns)\n\n"
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
run.finish(report, summary)
