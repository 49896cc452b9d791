"""Trains a convolutional network, presses its units to linear, and reports the core that is left.

    python recipes/cifar.py --backend jax --dataset digits

First the network is trained as usual. From `--start-epoch` on, `NonlinearitySparsity` presses the
slopes of its `SparsePReLU` activations to 1, where they are linear, until few nonlinear units are
left; in the epochs that remain the network recovers. With `--start-epoch 0` the pressure is there
from the beginning.

The run directory holds config.json, history.csv, summary.json, report.txt, core.png, training.png,
the final network model.keras, TensorBoard's events in tensorboard/, and what `--resume` needs.
"""

import dataclasses
import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro
from pydantic import Field

from data.images import load
from networks.names import Network
from options.command_line import begin, read_config, show_if_finished
from options.kinds import Amount, Count, Natural, Number, Positive
from options.linearization_config import LinearizationConfig
from running.errors import show_errors_plainly
from training.devices import require_divisible, spread, synchronize


@dataclasses.dataclass
class Config(LinearizationConfig):
    """Train a network, press its units to linear, and report the core that stays nonlinear.

    Small data sets are those with less than 10,000 images to train on. config.json in the run
    directory holds every option as it was used.
    """

    # cifar10, cifar100, fashion_mnist, mnist, digits (of scikit-learn, no download), the path of
    # an .npz file with x_train, y_train, x_test and y_test, or auto: cifar10 if it can be had,
    # else the digits.
    dataset: str = "auto"
    # Number of images to train on, drawn at random, always the same. Default: all.
    train_images: Annotated[Count, Field(ge=1)] = None
    # The mean over so many by so many pixels makes one.
    shrink: Positive = 1
    # Share of the images to train on that get the label of another class, always the same.
    label_noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    # resnet20, resnet32, resnet56, resnet110, or another depth 6n + 2; plain20, or any depth: the
    # same without shortcuts; mobilenet: a small network of inverted residuals; vit: a small vision
    # transformer; mixer: an MLP-Mixer.
    model: Network = "resnet20"
    # Factor of all numbers of channels.
    width: Amount = 1.0
    # Number of epochs, before and after the start of linearization. Default: 100; 25 for small
    # data.
    epochs: Annotated[Count, Field(ge=1)] = None
    # The pressure, omega. Default: 0.0015; 0.015 for small data; with --pressure fast, 3 divided by
    # the number of steps of an epoch, and more where the learning rate is lower at the start.
    strength: Number = None
    # Number of images in a step, on all devices together. Default: 128; 64 for small data.
    batch_size: Annotated[Count, Field(ge=1)] = None
    # sgd has Nesterov momentum 0.9 and weight decay 5e-4, adamw weight decay 0.05.
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    # The highest learning rate, which falls to 0 on a cosine. Default: 0.1 for sgd, else 0.001.
    learning_rate: Number = None
    # Number of test images on which dead and always-on units are counted after each epoch.
    watch_images: Natural = 0
    # Number of test images whose tangent kernel is followed; it has (images * classes)^2 entries.
    kernel_images: Natural = 0
    # Shift the images at random, and mirror those of cifar10, cifar100 and fashion_mnist.
    augment: Annotated[bool, tyro.conf.arg(help_behavior_hint="(default: --augment)")] = True
    # Number of devices that share each step, of jax or tensorflow; a run may go on with another.
    devices: Positive = 1
    # Why `dataset` is not what was asked for.
    dataset_note: tyro.conf.Suppress[str | None] = None

    momentary: ClassVar[tuple[str, ...]] = (*LinearizationConfig.momentary, "devices")

    def __post_init__(self):
        super().__post_init__()
        if self.dataset.endswith(".npz"):
            self.dataset = os.path.abspath(self.dataset)


# ---- What to do. Nothing is written before all of it is known to be right.

show_errors_plainly()
config = read_config(Config)
show_if_finished(config)

data = load(config.dataset, config.check)
if data.note:
    config.dataset, config.dataset_note = data.name, data.note
data = data.reduced(config.train_images, config.shrink, config.label_noise)

small = len(data.x_train) < 10_000
if config.epochs is None:
    config.epochs = 25 if small else 100
config.complete(config.epochs)
if config.batch_size is None:
    config.batch_size = 64 if small else 128
if config.strength is None and config.pressure == "gradual":
    config.strength = 0.015 if small else 0.0015
elif config.strength is None:
    config.strength = config.fast_strength(
        config.epochs, max(len(data.x_train) // config.batch_size, 1)
    )
if config.learning_rate is None:
    config.learning_rate = 0.1 if config.optimizer == "sgd" else 0.001
data.require_batches(batch_size=config.batch_size)
require_divisible(config.devices, config.backend, config.batch_size, len(data.x_test))
begin(config, "cifar")

import keras

from data.batches import Batches, even_batch_size
from data.images import standardization
from keras_nladv import PathLengthCallback, core_image, tangent
from networks.convnets import convnet
from results.nonlinearity import Nonlinearity, table
from results.plots import plot_training
from running.run import Run, versions
from training.classifier import compile_classifier
from training.layer_units import LayerUnits
from training.progress import LINEARIZATION, Progress
from training.schedules import cosine, linearization

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
synchronize(model, config.devices)
compile_classifier(model, config.optimizer)
before = Nonlinearity(model)

# ---- The run.

schedule = linearization(config, before)
run = Run(config, config.start_epoch, config.save_every)
run.restore(model, config.trained)
if config.dataset_note:
    print(f"{'!' * 100}\n{config.dataset_note}\n{'!' * 100}\n")
print(
    f"data     {config.dataset}: {data}\n"
    f"network  {config.model}: {model.count_params():,} parameters, {before.report.units:,} "
    f"nonlinear units, average path length {before.path_length:.2f}\n"
    f"backend  {config.backend}, {config.precision}\n"
    f"output   {run.path}\n"
)


def learning_rate(epoch, _):
    """A cosine for each phase, so that each ends with a network that has settled, or one."""
    first, end = 0, config.start_epoch
    if config.schedule == "one":
        end = config.epochs
    elif epoch >= config.start_epoch:
        first, end = config.start_epoch, config.epochs
    return config.learning_rate * cosine((epoch - first) / (end - first))


batches = Batches(
    data.x_train,
    data.y_train,
    config.batch_size,
    config.seed,
    shift=config.augment,
    mirror=config.augment and config.dataset in ("cifar10", "cifar100", "fashion_mnist"),
)
kernel = []
if config.kernel_images:
    images = data.x_test[: config.kernel_images].astype("float32")
    kernel = [tangent.NTKCallback(images, log_dir=run.path / "tensorboard" / "kernel")]
model.fit(
    batches,
    epochs=config.epochs,
    initial_epoch=run.epochs,
    shuffle=False,  # The batches are shuffled.
    validation_data=(data.x_test.astype("float32"), data.y_test),
    validation_freq=config.evaluated(config.epochs),
    validation_batch_size=even_batch_size(len(data.x_test), config.devices),
    verbose=0,
    callbacks=[
        batches.epochs(),
        keras.callbacks.LearningRateScheduler(learning_rate),
        schedule,
        *kernel,
        PathLengthCallback(run.path / "tensorboard"),
        LayerUnits(data.x_test[: config.watch_images].astype("float32")),
        Progress(
            run,
            {
                "cross_entropy": ("loss", "{:.4f}"),
                "accuracy": ("accuracy", "{:.2%}"),
                "val_accuracy": ("test", "{:.2%}"),
                **LINEARIZATION,
            },
        ),
    ],
)

# ---- The results.

after = Nonlinearity(model)
accuracy_before = None  # Linearization from the start: there is nothing to compare with.
if config.start_epoch > 0:
    accuracy_before = run.history[min(config.start_epoch, config.epochs) - 1]["val_accuracy"]
summary = {
    "accuracy_before": accuracy_before,
    "accuracy_after": run.history[-1]["val_accuracy"],
    **after.summary(before),
    "dataset": config.dataset,
    "dataset_note": config.dataset_note,
    "backend": config.backend,
    "model": config.model,
    "parameters": model.count_params(),
    "epochs": config.epochs,
    "seed": config.seed,
    "seconds": run.seconds,
    "versions": versions(),
}
rows = [
    ("", "before", "after"),
    (
        "test accuracy",
        "-" if accuracy_before is None else f"{accuracy_before:.2%}",
        f"{summary['accuracy_after']:.2%}",
    ),
    *after.rows(before),
]
title = (
    f"{config.model} on {Path(config.dataset).name}, {config.backend}, seed {config.seed}, "
    f"{config.epochs} epochs in {run.seconds:.0f} s"
)
note = f"{config.dataset_note}\n\n" if config.dataset_note else ""
note += after.note(config)
report = f"{after.report}\n\n{title}\n\n{table(rows)}\n\n{note}Everything is in {run.path}\n"

run.save("core.png", core_image(model).save)
run.save("training.png", plot_training(run.history, config.start_epoch, title).savefig)
run.save("model.keras", model.save)
run.write("report.txt", report)
run.write_json("summary.json", summary)
print(f"\n{report}")
