"""Asks how often a network has to update its features: accuracy against the number of updates.

    python recipes/iterative_linearization.py --backend jax

A convolutional network is trained by iterative linearization: it is linear in its weights, at a
point that moves to the weights every so many steps. A period of 1 is ordinary training; where the
point never moves, features are those of the initial weights. Each period is run with several
learning rates and seeds, for the same number of steps.

The run directory holds config.json, results.csv, summary.json, report.txt, accuracy.png,
TensorBoard's events in tensorboard/, and points.json, which `--resume` needs.
"""

import math
import time

from options.command_line import begin, read_config
from options.iterative_linearization import Config

# Nothing is written before all that is to be done is known to be right.
config = read_config(Config)
data = config.images()
steps = config.steps(data)
begin(config, "iterative-linearization")

import keras
import numpy as np
from keras import layers
from tqdm import tqdm

from data.batches import batches_of, even_batch_size
from keras_nladv.events import EventLog
from keras_nladv.tangent import IterativeLinearization
from networks.dense_networks import dense_network
from results.plots import plot_feature_updates
from results.seeds import columns, over_seeds, percent
from running.run import Run
from training.first_state import FirstState
from training.fitting import fit, set_up
from training.progress import progress_bar

set_up(config)

# ---- The network.


def network():
    """A plain one: statistics of batches, which change the function, have no place in a tangent."""
    model = keras.Sequential([keras.Input(data.shape)])
    # In float32: images may have any range.
    model.add(layers.Normalization(**data.moments(), dtype="float32"))
    if config.network != "conv":
        model.add(dense_network(config.network, data.shape, data.classes))
        return model
    for filters, strides in ((32, 1), (32, 2), (64, 1), (64, 2)):
        model.add(
            layers.Conv2D(
                max(round(filters * config.width), 1),
                3,
                strides,
                padding="same",
                activation="relu",
                kernel_initializer="he_normal",
            )
        )
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(data.classes, dtype="float32"))
    return model


# ---- The run.

run = Run(config)
run.introduce(
    data=data,
    network=f"{network().count_params():,} parameters",
    training=f"{steps:,} steps of {config.batch_size} images, {config.repeats} seeds",
)
x_test = data.x_test.astype("float32")
start = time.perf_counter()
# What is done already is not done again.
rows = run.read_points(
    period=str,
    learning_rate=float,
    seed=int,
    feature_updates=int,
    loss=float,
    accuracy=float,
    accuracy_of_training=float,
    accuracy_of_network=float,
    diverged=bool,
)
done = {(row["period"], row["learning_rate"], row["seed"]) for row in rows}
seeds = range(config.seed, config.seed + config.repeats)
bar = progress_bar(
    total=steps * len(config.periods) * len(config.learning_rates) * len(seeds),
    initial=steps * len(done),
    unit="step",
)


class Watch(keras.callbacks.Callback):
    """Moves the bar, and ends a training that has diverged."""

    # Batches are noted in another thread, and so the next step need not wait for the loss.
    async_safe = True

    def on_train_batch_end(self, batch, logs=None):
        bar.update()

    def on_epoch_end(self, epoch, logs=None):
        if not math.isfinite(logs["loss"]):
            bar.update(steps * (config.epochs - epoch - 1) // config.epochs)
            self.model.stop_training = True


def trained(model, first, rate, seed):
    """Trains a compiled model from its first state. Returns the row of the results."""
    keras.utils.set_random_seed(seed)
    first.restore()
    model.model.set_weights(network().get_weights())
    model.optimizer.learning_rate = rate
    period = "never" if model.period is None else str(model.period)
    history = fit(
        model,
        batches_of(data, config.batch_size, seed),
        epochs=config.epochs,
        callbacks=[
            Watch(),
            EventLog(run.path / "tensorboard" / f"period-{period}_rate-{rate:g}_seed-{seed}"),
        ],
    ).history
    batch_size = even_batch_size(len(x_test))
    tested = model.evaluate(x_test, data.y_test, batch_size, verbose=0, return_dict=True)
    ordinary = model.model.predict(x_test, batch_size, verbose=0)
    return {
        "period": period,
        "feature_updates": history["feature_updates"][-1],
        "learning_rate": rate,
        "seed": seed,
        "loss": history["loss"][-1],
        "accuracy_of_training": history["accuracy"][-1],
        "accuracy": tested["accuracy"],
        "accuracy_of_network": float(np.mean(ordinary.argmax(axis=1) == data.y_test)),
        # Worse than guessing, or not a number.
        "diverged": not history["loss"][-1] < math.log(data.classes),
    }


for period in config.periods:
    wanted = [
        (rate, seed)
        for rate in config.learning_rates
        for seed in seeds
        if (period, rate, seed) not in done
    ]
    if not wanted:
        continue
    # Compiled once, a training step serves all learning rates and seeds.
    model = IterativeLinearization(
        network(),
        None if period == "never" else int(period),
        jacobian_only=config.jacobian_only,
        reset_optimizer=config.reset_optimizer,
    )
    model.compile(
        keras.optimizers.SGD(0.01, momentum=config.momentum),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    first = FirstState(model)
    for rate, seed in wanted:
        rows.append(trained(model, first, rate, seed))
        run.write_json("points.json", rows)
        row = rows[-1]
        tqdm.write(
            f"period {period:>6}  {row['feature_updates']:>6,} updates  rate {rate:<6g}  "
            f"seed {seed}  loss {row['loss']:<8.3g}  test {row['accuracy']:.2%}"
        )
bar.close()

# ---- The results.


def summarized(period, rate):
    """Mean, range and standard deviation over the seeds."""
    mine = [row for row in rows if (row["period"], row["learning_rate"]) == (period, rate)]
    return {
        "period": period,
        # Also where a seed diverged before the last.
        "feature_updates": 0 if period == "never" else steps // int(period),
        "learning_rate": rate,
        **over_seeds([row["accuracy"] for row in mine]),
        "accuracy_of_training": float(np.mean([row["accuracy_of_training"] for row in mine])),
        "accuracy_of_network": float(np.mean([row["accuracy_of_network"] for row in mine])),
        "diverged": sum(row["diverged"] for row in mine),
    }


def shown(summary):
    return percent(summary) + "*" * (summary["diverged"] > 0)


summaries = [
    summarized(period, rate) for period in config.periods for rate in config.learning_rates
]
headings = ("period", "updates", *(f"rate {rate:g}" for rate in config.learning_rates), "best")
lines = [headings]
for period in config.periods:
    mine = [summary for summary in summaries if summary["period"] == period]
    best = max(mine, key=lambda summary: summary["accuracy"])
    lines.append((period, f"{best['feature_updates']:,}", *map(shown, mine), shown(best)))
seconds = time.perf_counter() - start
title = (
    f"{data.title}, {len(data.x_train):,} images, {steps:,} steps, "
    f"{config.backend}, seeds {seeds[0]} to {seeds[-1]}"
)
report = (
    f"{title}, {seconds:.0f} s\n\n{columns(lines)}\n\n"
    "Test accuracy in percent, mean and standard deviation over the seeds. With a period of 1\n"
    "this is ordinary training. Best: of the learning rates, chosen by the numbers that it shows.\n"
)
if any(summary["diverged"] for summary in summaries):
    report += "*: of at least one seed, the loss ended above that of guessing.\n"
report += f"\nEverything is in {run.path}\n"
summary = {
    "summaries": summaries,
    **run.options("dataset", "backend"),
    "steps": steps,
    "seeds": list(seeds),
    "seconds": seconds,
}
run.write_csv("results.csv", rows)
run.save("accuracy.png", plot_feature_updates(summaries, steps, title).savefig)
run.finish(report, summary)
