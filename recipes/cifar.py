"""Trains a convolutional network, presses its units to linear, and reports the core that is left.

    python recipes/cifar.py --backend jax --dataset digits

First the network is trained as usual. From `--start-epoch` on, `NonlinearitySparsity` presses the
slopes of its `SparsePReLU` activations to 1, where they are linear, until few nonlinear units are
left; in the epochs that remain the network recovers. With `--start-epoch 0` the pressure is there
from the beginning.

The run directory holds config.json, history.csv, summary.json, report.txt, core.png, training.png,
the final network model.keras, TensorBoard's events in tensorboard/, and what `--resume` needs.
"""

from options.cifar import Config
from options.command_line import begin, read_config

# Nothing is written before all that is to be done is known to be right.
config = read_config(Config)
data = config.images()
begin(config, "cifar")

import keras

from data.batches import batches_of
from keras_nladv import PathLengthCallback, core_image, tangent
from networks.convnets import convnet
from results.nonlinearity import Nonlinearity, row, table
from results.plots import plot_training
from running.run import Run
from training.classifier import compile_classifier
from training.devices import by_first
from training.fitting import fit, set_up
from training.layer_units import LayerUnits
from training.progress import CLASSIFIER, LINEARIZATION, Progress
from training.schedules import linearization, phases

# ---- The network.

set_up(config)
model = convnet(
    config.model, data.shape, data.classes, config.width, config.granularity, **data.moments()
)
compile_classifier(model, config.optimizer)
before = Nonlinearity(model)

# ---- The run.

schedule = linearization(config, before)
run = Run(config, config.start_epoch, config.save_every)
run.restore(model, config.trained)
if config.dataset_note:
    print(f"{'!' * 100}\n{config.dataset_note}\n{'!' * 100}\n")
run.introduce(data=data, network=f"{config.model}: {model.count_params():,} parameters, {before}")
x_test = data.x_test.astype("float32")
watching = [PathLengthCallback(run.path / "tensorboard"), LayerUnits(x_test[: config.watch_images])]
if config.kernel_images:
    images, log_dir = x_test[: config.kernel_images], run.path / "tensorboard" / "kernel"
    watching.insert(0, tangent.NTKCallback(images, log_dir=log_dir))
fit(
    model,
    batches_of(data, config.batch_size, config.seed, config.augment),
    (x_test, data.y_test),
    config.devices,
    epochs=config.epochs,
    initial_epoch=run.epochs,
    validation_freq=config.evaluated(config.epochs),
    callbacks=[
        keras.callbacks.LearningRateScheduler(phases(config)),
        schedule,
        *by_first(*watching),
        Progress(run, CLASSIFIER | LINEARIZATION),
    ],
)

# ---- The results.

after = Nonlinearity(model)
accuracy = run.history[-1]["val_accuracy"]
accuracy_before = None  # Linearization from the start: there is nothing to compare with.
if config.start_epoch > 0:
    accuracy_before = run.history[min(config.start_epoch, config.epochs) - 1]["val_accuracy"]
title = f"{config.model} on {data.title}, {run}"
rows = [row("test accuracy", "{:.2%}", accuracy_before, accuracy), *after.rows(before)]
note = f"{config.dataset_note}\n\n" if config.dataset_note else ""
note += after.note(config)
run.save("core.png", core_image(model).save)
run.save("training.png", plot_training(run.history, config.start_epoch, title).savefig)
run.save("model.keras", model.save)
run.finish(
    f"{after.report}\n\n{title}\n\n{table(rows)}\n\n{note}Everything is in {run.path}\n",
    {
        "accuracy_before": accuracy_before,
        "accuracy_after": accuracy,
        **after.summary(before),
        **run.options("dataset", "dataset_note", "backend", "model", "epochs", "seed"),
        "parameters": model.count_params(),
        "seconds": run.seconds,
    },
)
