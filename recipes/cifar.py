"""Trains a convolutional network, presses its units to linear, and reports the core that is left.

    python recipes/cifar.py --backend jax --dataset digits

First the network is trained as usual. From `--start-epoch` on, `NonlinearitySparsity` presses the
slopes of its `SparsePReLU` activations to 1, where they are linear, until few nonlinear units are
left; in the epochs that remain the network recovers. With `--start-epoch 0` the pressure is there
from the beginning.

The run directory holds config.json, history.csv, summary.json, report.txt, core.png, training.png,
the final network model.keras, TensorBoard's events in tensorboard/, and what `--resume` needs.
"""

from pathlib import Path

from data.images import load
from options.cifar import Config
from options.command_line import begin, read_config, show_if_finished
from running.errors import show_errors_plainly
from training.devices import by_first, require_divisible, share, spread, together

# ---- What to do. Nothing is written before all of it is known to be right.

show_errors_plainly()
config = read_config(Config)
show_if_finished(config)
data = load(config.dataset, config.check)
data = data.reduced(config.train_images, config.shrink, config.label_noise)
config.choose(data)
require_divisible(config.devices, config.backend, config.batch_size, len(data.x_test))
begin(config, "cifar")

import keras

from data.batches import Batches, even_batch_size
from data.images import MIRRORED, standardization
from keras_nladv import PathLengthCallback, core_image, tangent
from networks.convnets import convnet
from results.nonlinearity import Nonlinearity, row, table
from results.plots import plot_training
from running.run import Run
from training.classifier import compile_classifier
from training.layer_units import LayerUnits
from training.progress import CLASSIFIER, LINEARIZATION, Progress
from training.schedules import linearization, phases

keras.utils.set_random_seed(config.seed)
keras.config.set_dtype_policy(config.precision)
spread(config.devices)

# ---- The network.

model = convnet(
    config.model,
    input_shape=data.x_train.shape[1:],
    classes=data.classes,
    width=config.width,
    granularity=config.granularity,
    **standardization(data.x_train),
)
compile_classifier(model, config.optimizer)
before = Nonlinearity(model)

# ---- The run.

schedule = linearization(config, before)
run = Run(config, config.start_epoch, config.save_every)
run.restore(model, config.trained)
if config.dataset_note:
    print(f"{'!' * 100}\n{config.dataset_note}\n{'!' * 100}\n")
run.introduce(
    data=f"{config.dataset}: {data}",
    network=f"{config.model}: {model.count_params():,} parameters, {before}",
)
batches = Batches(
    data.x_train,
    data.y_train,
    config.batch_size,
    config.seed,
    shift=config.augment,
    mirror=config.augment and config.dataset in MIRRORED,
)
x_test = data.x_test.astype("float32")
kernel = []
if config.kernel_images:
    images = x_test[: config.kernel_images]
    kernel = [tangent.NTKCallback(images, log_dir=run.path / "tensorboard" / "kernel")]
with together(model, config.devices):
    model.fit(
        share(batches, config.devices),
        epochs=config.epochs,
        initial_epoch=run.epochs,
        shuffle=False,  # The batches are shuffled.
        validation_data=share((x_test, data.y_test), config.devices),
        validation_freq=config.evaluated(config.epochs),
        validation_batch_size=even_batch_size(len(x_test), config.devices),
        verbose=0,
        callbacks=[
            batches.epochs(),
            keras.callbacks.LearningRateScheduler(phases(config)),
            schedule,
            *by_first(
                *kernel,
                PathLengthCallback(run.path / "tensorboard"),
                LayerUnits(x_test[: config.watch_images]),
            ),
            Progress(run, CLASSIFIER | LINEARIZATION),
        ],
    )

# ---- The results.

after = Nonlinearity(model)
accuracy_before = None  # Linearization from the start: there is nothing to compare with.
if config.start_epoch > 0:
    accuracy_before = run.history[min(config.start_epoch, config.epochs) - 1]["val_accuracy"]
accuracy = run.history[-1]["val_accuracy"]
title = (
    f"{config.model} on {Path(config.dataset).name}, {config.backend}, seed {config.seed}, "
    f"{config.epochs} epochs in {run.seconds:.0f} s"
)
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
        "dataset": config.dataset,
        "dataset_note": config.dataset_note,
        "backend": config.backend,
        "model": config.model,
        "parameters": model.count_params(),
        "epochs": config.epochs,
        "seed": config.seed,
        "seconds": run.seconds,
    },
)
