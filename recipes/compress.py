"""Makes a trained network smaller and faster: presses units to linear, and merges them away.

    python recipes/compress.py --backend jax --dataset digits

A network with plain ReLUs is trained, or read from `--model-file`. For each method and each budget
its activations are made linearizable (`sparsify`), units become linear until the budget is met,
the network recovers, and what is linear is merged away (`collapse`). All methods train for the same
number of epochs.

The run directory holds config.json, results.csv, summary.json, report.txt, pareto.png, and the
network that all started from as original.keras. For each method and budget it holds the network
before it was collapsed, *-pressed.keras, what was merged in it, *-plan.json, and what came out,
*-collapsed.keras: a plain Keras model, which needs nothing of this library. `--engine` says where
it will run: it is collapsed for that and timed there, and there is a file for that engine, too.
`--export` adds it in another format.
"""

import time
from functools import partial
from pathlib import Path

from options.command_line import begin, read_config
from options.compress import Config
from running.errors import plain_errors

# Nothing is written before all that is to be done is known to be right.
config = read_config(Config)
data = config.images()
begin(config, "compress")

import keras
import numpy as np

from data.batches import batches_of, even_batch_size
from keras_nladv import (
    LinearizationSchedule,
    NonlinearitySparsity,
    PathLengthCallback,
    collapse,
    collapse_plan,
    milliseconds,
    nonlinearity_report,
    path_length,
    pressure_weights,
    sparsify,
)
from keras_nladv.engines import find_engine
from keras_nladv.merging import PressureWeights
from networks.convnets import convnet
from networks.given import given
from results.compressions import budgets, note_pareto, table
from results.costs import macs
from results.plots import plot_pareto
from running.run import Run
from training.budget import (
    linearize,
    linearize_all,
    random_channels,
    ranked_by_entropy,
    ranked_by_loss,
)
from training.classifier import compile_classifier
from training.first_state import FirstState
from training.fitting import fit, set_up
from training.progress import CLASSIFIER, LINEARIZATION, Progress
from training.schedules import cosine

# ---- The network.

set_up(config)
x_test = data.x_test.astype("float32")
if config.model_file is None:
    original = convnet(
        config.model, data.shape, data.classes, config.width, granularity=None, **data.moments()
    )
    from_logits = True
else:
    original, from_logits = given(config.model_file, data)
with plain_errors("--model-file" if config.model_file else "--model"):
    # Once more for each method: what is the same in all of them is how units are counted.
    sparse = sparsify(original, share_around_depthwise=True)
    channels = nonlinearity_report(sparse)
    if config.budget_kind == "time" or "weighted" in config.methods:
        # Said before anything is trained.
        pressure_weights(sparse, by="operations")
before = nonlinearity_report(original)
path_length_before = path_length(original)
units = {row["name"]: row["units"] for row in channels.rows}

# ---- Where it will run.

in_keras = config.engine == "keras"
batch = np.resize(x_test, (32 if in_keras else 1, *x_test.shape[1:]))
Engine = find_engine(config.engine)
# What linear units save there, and the milliseconds of the original and of what it collapses to
# with none: they are there once it is trained.
weights, original_ms, collapsed_ms = None, None, None


def measured(model):
    """What the budget counts in a network that is pressed, as a share of what the original has."""
    if config.budget_kind == "path_length":
        return path_length(model) / path_length_before
    if config.budget_kind == "time":
        return (collapsed_ms - weights.saved(model)) / original_ms
    report = nonlinearity_report(model)
    if config.budget_kind == "operations":
        return report.operations / before.operations
    # In channels, whatever has a slope of its own.
    nonlinear = sum(row["nonlinear"] / row["units"] * units[row["name"]] for row in report.rows)
    return nonlinear / channels.units


def above(budget, model):
    """By how much a network that is pressed is above a budget."""
    return measured(model) - budget


def is_within(budget, model):
    return above(budget, model) <= 0


# ---- The run.

run = Run(config)
run.introduce(
    data=data,
    network=f"{config.model_file or config.model}: {original.count_params():,} parameters, "
    f"{before.units:,} nonlinear units, average path length {path_length_before:.2f}",
)
start = time.perf_counter()


def train(model, epochs, callbacks, columns):
    """Trains a compiled network in the way that is common to all."""
    fit(
        model,
        batches_of(data, config.batch_size, config.seed, augment=True),
        (x_test, data.y_test),
        epochs=epochs,
        callbacks=[
            keras.callbacks.LearningRateScheduler(
                lambda epoch, _: config.learning_rate * cosine(epoch / epochs)
            ),
            *callbacks,
            Progress(run, CLASSIFIER | columns, commit=False),
        ],
    )


def accuracy(network):
    """That of a function of a batch, on the images to test on."""
    # Files for other engines are those of one size of batches.
    size = even_batch_size(len(x_test)) if in_keras else len(batch)
    outputs = [network(x_test[i : i + size]) for i in range(0, len(x_test), size)]
    return float(np.mean(np.concatenate(outputs).argmax(axis=1) == data.y_test))


def described(name, method, budget, model, collapsed):
    """The row of the results for a network, without its time. Writes its file for the engine."""
    with plain_errors(f"--engine {config.engine}"):
        network = Engine(collapsed, batch_size=None if in_keras else len(batch))
    if not in_keras:
        network.save(run.path / f"{name}{Engine.suffix}")
    return {
        "method": method,
        "budget": budget,
        "reached": 1.0 if method == "original" else measured(model),
        "accuracy": accuracy(network),
        "path_length": path_length(model),
        "nonlinear_operations": nonlinearity_report(collapsed).operations,
        "parameters": collapsed.count_params(),
        "macs": macs(collapsed),
    }


def merged(name, model):
    """Collapses a network, and saves it with its plan."""
    print(f"\n{name}: what is merged")
    plan = collapse_plan(
        model,
        engine=config.engine,
        cost=config.cost,
        batch_size=len(batch),
        for_int8=config.for_int8,
    )
    collapsed = collapse(model, plan)
    run.save(f"{name}-pressed.keras", model.save)
    run.save(f"{name}-plan.json", plan.save)
    run.save(f"{name}-collapsed.keras", collapsed.save)
    if config.export:
        with plain_errors(f"--export {config.export}"):
            ending = ".onnx" if config.export == "onnx" else ""
            collapsed.export(run.path / f"{name}{ending}", format=config.export, verbose=False)
    return collapsed


if (run.path / "original.keras").exists():
    original = keras.models.load_model(run.path / "original.keras", compile=False)
else:
    if config.model_file is None:
        print("the original")
        compile_classifier(original)
        train(original, config.epochs, [], {})
    run.save("original.keras", original.save)

# What is done already is not done again. Each point of the results starts from the same seed, so
# that it does not matter which these are.
rows = run.read_points(
    method=str,
    budget=float | None,
    reached=float,
    accuracy=float,
    path_length=float,
    nonlinear_operations=int,
    parameters=int,
    macs=int,
)
done = {(row["method"], row["budget"]) for row in rows}
if not done:
    rows.append(described("original", "original", None, original, original))
    # With no unit linear: the part that batch normalization has in what follows.
    collapsed = merged("original", original)
    rows.append(described("original-collapsed", "original", 1.0, original, collapsed))
    if config.budget_kind == "time":
        times = milliseconds([original, collapsed], config.engine, inputs=batch, seconds=3).rows
        for row, timed in zip(rows, times):
            row["ms"] = timed["ms"]
    run.write_json("points.json", rows)
original_ms, collapsed_ms = (row.get("ms") for row in rows[:2])

if config.budget_kind == "time" or "weighted" in config.methods:
    file = run.path / "pressure.json"
    if not file.exists():
        by = "operations" if config.cost == "macs" and config.budget_kind != "time" else "time"
        with plain_errors("--budget-kind time" if by == "time" else "--methods weighted"):
            run.save(
                file.name,
                pressure_weights(sparse, config.engine, by=by, batch_size=len(batch)).save,
            )
    weights = PressureWeights.load(file)
    print(f"\nwhat linear units save\n{weights}")

# By granularity and power: compiled once, a training step serves all budgets.
networks = {}
wanted = [(method, budget) for method in config.methods for budget in config.budgets]
for number, (method, budget) in enumerate(wanted, start=1):
    if (method, budget) in done:
        continue
    name = f"{method}-{budget}"
    print(f"\n{name}: {number} of {len(wanted)}")
    keras.utils.set_random_seed(config.seed)
    key = granularity, power = (
        "layer" if method == "layer" else "channel",
        1.0 if method == "l1" else 0.5,
    )
    if key not in networks:
        model = sparsify(
            original,
            granularity=granularity,
            share_around_depthwise=True,
            alpha_regularizer=NonlinearitySparsity(0.0, power),
        )
        compile_classifier(model, from_logits=from_logits)
        networks[key] = model, FirstState(model)
    model, first = networks[key]
    first.restore()
    strength = 0.0
    if method == "random":
        linearize(model, random_channels(model, config.seed), measured, budget)
    elif method == "entropy":
        sample = data.x_train[:1024].astype("float32")
        linearize(model, ranked_by_entropy(model, sample), measured, budget)
    elif method == "snip":
        sample = data.x_train[:1024].astype("float32"), data.y_train[:1024]
        linearize(model, ranked_by_loss(model, *sample, from_logits), measured, budget)
    else:
        strength = config.strength
    pressing = weights if method == "weighted" else {}
    exact = False
    if strength > 0:
        # What is met with all units linear that are pressed is met within one of them.
        linearize_all(model, pressing)
        exact = is_within(budget, model)
        first.restore()
    target = {"stop_when": partial(above if exact else is_within, budget)}
    if exact and granularity == "channel":
        # What the schedule counts itself takes no time, where it is asked for after every batch.
        target = {
            "path_length": {"target_path_length": budget * path_length_before},
            "nonlinear_units": {"target_nonlinear_units": budget},
        }.get(config.budget_kind, target)
    schedule = LinearizationSchedule(
        strength,
        ramp_epochs=0 if method == "fast" else config.press_epochs - 1,
        end_epoch=config.press_epochs,
        check_every=1,  # Small data sets have few batches.
        exact_target=exact,
        weights=pressing,
        **target,
    )
    train(
        model,
        config.press_epochs + config.finetune_epochs,
        [schedule, PathLengthCallback()],
        LINEARIZATION,
    )
    rows.append(described(f"{name}-collapsed", method, budget, model, merged(name, model)))
    run.write_json("points.json", rows)

# ---- The results.

# As they are on disk, and side by side.
models = [keras.models.load_model(run.path / "original.keras", compile=False)]
for row in rows[1:]:
    name = "original" if row["budget"] == 1.0 else f"{row['method']}-{row['budget']}"
    models.append(keras.models.load_model(run.path / f"{name}-collapsed.keras", compile=False))
timings = milliseconds(models, config.engine, inputs=batch, seconds=3)
for row, timed in zip(rows, timings.rows, strict=True):
    row |= {key: timed[key] for key in ("ms", "times_as_fast")}
note_pareto(rows)

seconds = time.perf_counter() - start
title = (
    f"{Path(config.model_file or config.model).name} on {data.title}, {config.backend}, "
    f"seed {config.seed}"
)
where = f"{len(batch)} in {config.engine}"
kind = config.budget_kind.replace("_", " ")
report = (
    f"{title}, {seconds:.0f} s\n\n{table(rows)}\n\n"
    f"Budgets are shares of the original's {kind}. Path lengths are those before networks are\n"
    "collapsed; all else is of the collapsed network. Milliseconds are medians of a batch of\n"
    f"{where}, all networks by turns. *: no other is both faster and better.\n\n"
    f"Everything is in {run.path}\n"
)
report += budgets(rows, config.budget_kind == "time")
summary = {
    "rows": rows,
    **run.options("dataset", "backend", "budget_kind", "engine", "seed"),
    "model": config.model_file or config.model,
    "seconds": seconds,
}
run.write_csv("results.csv", rows)
run.save("pareto.png", plot_pareto(rows, title, where).savefig)
run.finish(report, summary)
