"""Compares sparse networks found before training: by neural tangent transfer, and otherwise.

    python recipes/neural_tangent_transfer.py --backend jax

Networks of each density are found without labels (neural tangent transfer, magnitude, random masks,
logit-SNIP, SynFlow) from the same initial dense network, and all of them are trained with labels in
the same way, as is the dense one.

The run directory holds config.json, results.csv, summary.json, report.txt, accuracy.png,
TensorBoard's events in tensorboard/, and points.json, which `--resume` needs.
"""

import functools
import time

from options.command_line import begin, read_config
from options.neural_tangent_transfer import Config
from running.errors import plain_errors

# Nothing is written before all that is to be done is known to be right.
config = read_config(Config)
data = config.images()
begin(config, "neural-tangent-transfer")

import keras
import numpy as np
from tqdm import tqdm

from data.batches import Batches
from keras_nladv import path_length, prune
from keras_nladv.events import EventLog
from keras_nladv.tangent import NeuralTangentTransfer, snip, synflow
from networks.dense_networks import dense_network
from results.plots import plot_transfer
from results.seeds import columns, over_seeds, percent
from running.run import Run
from training.fitting import fit, set_up
from training.progress import progress_bar

set_up(config)

# ---- The run.

run = Run(config)
seeds = range(config.seed, config.seed + config.repeats)
transfer_steps = config.transfer_epochs * (len(data.x_train) // config.transfer_batch_size)
network = functools.partial(dense_network, config.network, data.shape, data.classes)
run.introduce(
    data=data,
    network=f"{config.network}, {network().count_params():,} parameters",
    transfer=f"{transfer_steps:,} iterations of {config.transfer_batch_size} images, "
    f"without labels, {config.estimator}",
    training=f"{config.epochs} epochs, {config.repeats} seeds",
)
# Not by a layer: it would shift the ones that SynFlow lets flow through the network.
statistics = data.moments()
x_train, x_test = (
    ((x - statistics["mean"]) / np.sqrt(statistics["variance"])).astype("float32")
    for x in (data.x_train, data.x_test)
)
start = time.perf_counter()
# What is done already is not done again.
rows = run.read_points(
    method=str,
    density=float,
    seed=int,
    accuracy=float,
    path_length=float,
    accuracies=list[float],
    kernel_distance_before=(float, None),
    kernel_distance_after=(float, None),
    transfer_seconds=(float, None),
)
done = {(row["method"], row["density"], row["seed"]) for row in rows}
# The dense network has no masks.
cases = [
    (method, 1.0 if method == "dense" else density)
    for method in config.methods
    for density in (config.densities if method != "dense" else [1.0])
]


def length(method):
    """The number of epochs that finding and training a network takes."""
    return config.epochs + (config.transfer_epochs if method == "transfer" else 0)


bar = progress_bar(
    total=sum(length(method) for method, _ in cases) * len(seeds),
    initial=sum(length(method) for method, _, _ in done),
    unit="epoch",
)
advance = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: bar.update())


def transferred(model, density, seed, events):
    """The student of a transfer, and what is known of it."""
    transfer = NeuralTangentTransfer(
        model,
        density,
        config.scope,
        ntk_strength=config.ntk_strength,
        l2=config.l2,
        mask_every=config.mask_every,
        estimator=config.estimator,
        seed=seed,
    )
    rate = config.transfer_rate
    if data.small:
        rate = keras.optimizers.schedules.CosineDecay(rate, transfer_steps)
    transfer.compile(keras.optimizers.Adam(rate, epsilon=1e-8))
    held_out = x_test[:64]
    before = transfer.distances(held_out)
    begun = time.perf_counter()
    with plain_errors("--transfer-rate"):
        transfer.fit(
            x_train,
            epochs=config.transfer_epochs,
            batch_size=config.transfer_batch_size,
            verbose=0,
            callbacks=[advance],
            log_dir=events / "transfer",
        )
    seconds = time.perf_counter() - begun
    after = transfer.distances(held_out)
    return transfer.student, {
        "transfer_seconds": seconds,
        **{f"{name}_before": value for name, value in before.items()},
        **{f"{name}_after": value for name, value in after.items()},
    }


def found(method, density, seed, events):
    """A network as it is before it is trained with labels."""
    keras.utils.set_random_seed(seed)
    model = network()
    if method == "dense":
        return model, {}
    if method == "transfer":
        return transferred(model, density, seed, events)
    if method == "snip":
        # Ten images for each class.
        scores = snip(x_train[: 10 * data.classes])
    else:
        scores = synflow if method == "synflow" else method
    rounds = 100 if method == "synflow" else 1
    return prune(model, density, scores, scope=config.scope, rounds=rounds, seed=seed), {}


def trained(method, density, seed):
    """Finds a network and trains it. Returns the row of the results."""
    events = run.path / "tensorboard" / f"{method}_density-{density:g}_seed-{seed}"
    model, known = found(method, density, seed, events)
    model.compile(
        keras.optimizers.Adam(config.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    accuracies = fit(
        model,
        Batches(x_train, data.y_train, config.batch_size, seed),
        (x_test, data.y_test),
        epochs=config.epochs,
        callbacks=[advance, EventLog(events)],
    ).history["val_accuracy"]
    return {
        "method": method,
        "density": density,
        "seed": seed,
        "accuracy": accuracies[-1],
        "best": max(accuracies),
        "path_length": path_length(model, weights=True),
        "accuracies": accuracies,
        **known,
    }


for method, density in cases:
    for seed in seeds:
        if (method, density, seed) in done:
            continue
        rows.append(trained(method, density, seed))
        run.write_json("points.json", rows)
        row = rows[-1]
        kernel = (
            f"  kernel distance {row['kernel_distance_before']:.3g} to "
            f"{row['kernel_distance_after']:.3g}"
            if method == "transfer"
            else ""
        )
        tqdm.write(
            f"{method:>10}  density {density:<6g} seed {seed}  test {row['accuracy']:.2%}{kernel}"
        )
bar.close()

# ---- The results.


def summarized(method, density):
    """Mean, range and standard deviation over the seeds."""
    mine = [row for row in rows if (row["method"], row["density"]) == (method, density)]
    summary = {
        "method": method,
        "density": density,
        **over_seeds([row["accuracy"] for row in mine]),
        "path_length": float(np.mean([row["path_length"] for row in mine])),
        "accuracies": np.mean([row["accuracies"] for row in mine], axis=0).tolist(),
    }
    if method == "transfer":
        drops = [row["kernel_distance_before"] / row["kernel_distance_after"] for row in mine]
        summary |= {
            "kernel_drop_lowest": min(drops),
            "kernel_drop_highest": max(drops),
            "transfer_seconds": float(np.mean([row["transfer_seconds"] for row in mine])),
        }
    return summary


summaries = [summarized(*case) for case in cases]
known = {(summary["method"], summary["density"]): summary for summary in summaries}


def summary_of(method, density):
    """The dense network is the same for each density."""
    return known[method, 1.0 if method == "dense" else density]


accuracy = [("method", *(f"{density:.3g}" for density in config.densities))]
accuracy += [
    (method, *(percent(summary_of(method, density)) for density in config.densities))
    for method in config.methods
]
lowest = min(config.densities)
epochs = sorted({*(epoch for epoch in (1, 2, 5, 10, 20) if epoch < config.epochs), config.epochs})
curves = [("after epoch", *epochs)]
for method in config.methods:
    curve = summary_of(method, lowest)["accuracies"]
    curves.append((method, *(f"{100 * curve[epoch - 1]:.1f}" for epoch in epochs)))
seconds = time.perf_counter() - start
title = f"{data.title}, {config.network}, {config.backend}, seeds {seeds[0]} to {seeds[-1]}"
report = (
    f"{title}, {seconds:.0f} s\n\n{columns(accuracy)}\n\n"
    "Test accuracy in percent after the last epoch, mean and standard deviation over the seeds,\n"
    f"for shares of weights that are kept.\n\n{columns(curves)}\n\n"
    f"The same after some epochs, with {lowest:.3g} of the weights.\n"
)
for summary in summaries:
    if summary["method"] == "transfer":
        report += (
            f"\nTransfer to {summary['density']:.3g}: kernel distance down "
            f"{summary['kernel_drop_lowest']:.1f} to {summary['kernel_drop_highest']:.1f} times, "
            f"on images that it has not seen; {summary['transfer_seconds']:.0f} s."
        )
report += f"\n\nEverything is in {run.path}\n"
summary = {
    "summaries": summaries,
    **run.options("dataset", "backend"),
    "seeds": list(seeds),
    "seconds": seconds,
}
run.write_csv(
    "results.csv",
    [{name: value for name, value in row.items() if name != "accuracies"} for row in rows],
)
run.save("accuracy.png", plot_transfer(summaries, title).savefig)
run.finish(report, summary)
