"""How many images a second `recipes/cifar.py` trains on, and what they wait for.

    KERAS_BACKEND=jax taskset -c 0 python benchmarks/recipe_speed.py --size 16

ResNet-20 of half the width, batches of 128, augmented. Each line adds something to the one before:
steps on one batch that is there already, as Keras takes them; the recipe's batches; callbacks; an
evaluation after the epoch on half as many images; a checkpoint. Medians, by turns. Seconds are
those of the processor, of all threads: other processes on the machine disturb them less.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

import measuring

RECIPES = Path(__file__).parents[1] / "recipes"
BATCH = 128

parser = argparse.ArgumentParser()
parser.add_argument("--size", type=int, default=32, help="height and width of the images")
parser.add_argument("--steps", type=int, default=40, help="number of steps of an epoch")
parser.add_argument("--turns", type=int, default=3)
parser.add_argument("--precision", default="float32")
parser.add_argument("--jit-compile", default="auto", choices=["auto", "True", "False"])
arguments = parser.parse_args()
sys.path.insert(0, str(RECIPES))

from data.batches import Batches, even_batch_size
from keras_nladv import LinearizationSchedule, PathLengthCallback
from networks.convnets import convnet
from options.run_config import RunConfig
from running.run import Run
from training.classifier import compile_classifier
from training.progress import Progress

keras.config.set_dtype_policy(arguments.precision)
size, steps = arguments.size, arguments.steps
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (steps * BATCH, size, size, 3)).astype("uint8")
labels = rng.integers(0, 10, len(images))
test = images[: len(images) // 2].astype("float32"), labels[: len(images) // 2]
model = convnet("resnet20", images.shape[1:], 10, width=0.5, mean=127.0, variance=4000.0)
compile_classifier(model)
if arguments.jit_compile != "auto":
    model.jit_compile = arguments.jit_compile == "True"
batches = Batches(images, labels, BATCH, 0, shift=True, mirror=True)
folder = tempfile.mkdtemp()
run = Run(RunConfig(run_dir=folder))
columns = {"loss": ("loss", "{:.4f}")}


class Same(keras.utils.PyDataset):
    """One batch again and again."""

    def __len__(self):
        return steps

    def __getitem__(self, index):
        return first


def fit(data, *callbacks, **kwargs):
    model.fit(data, shuffle=False, verbose=0, callbacks=[*callbacks], **kwargs)


def callbacks():
    return [
        batches.epochs(),
        keras.callbacks.LearningRateScheduler(lambda epoch: 0.01),
        LinearizationSchedule(0.001, target_nonlinear_units=0.05),
        PathLengthCallback(Path(folder, "tensorboard")),
    ]


first = batches[0]
held_out = {"validation_data": test, "validation_batch_size": even_batch_size(len(test[0]))}
parts = {
    "steps on one batch": lambda: fit(Same()),
    "and the recipe's batches": lambda: fit(batches, batches.epochs()),
    "and callbacks": lambda: fit(batches, *callbacks(), Progress(run, columns, commit=False)),
    "and evaluation": lambda: fit(
        batches, *callbacks(), Progress(run, columns, commit=False), **held_out
    ),
    "and a checkpoint": lambda: fit(batches, *callbacks(), Progress(run, columns), **held_out),
}
taken = {name: [] for name in parts}
walls = {name: [] for name in parts}
for turn in range(arguments.turns + 1):
    for name, part in parts.items():
        start, wall = time.process_time(), time.perf_counter()
        part()
        if turn:
            taken[name].append(time.process_time() - start)
            walls[name].append(time.perf_counter() - wall)
print(f"{measuring.setting()}\n{size} x {size}, {arguments.precision}, an epoch of {steps} steps")
whole = statistics.median(taken["and a checkpoint"])
for name in parts:
    seconds, wall = statistics.median(taken[name]), statistics.median(walls[name])
    print(
        f"{name:26}{len(images) / seconds:8,.0f} images a second of the processor,"
        f"{len(images) / wall:8,.0f} by the clock, {seconds / whole:6.1%} of all"
    )
