"""What a training step of ResNet-20 costs with SparsePReLU, against ReLU and PReLU.

    KERAS_BACKEND=jax python benchmarks/training_step.py [batch size]

The models take steps by turns, so that whatever else the machine does hits all of them; ratios are
taken within each turn. The peak memory is that of a process that takes a few steps with one of
them, all it holds included.
"""

import functools
import resource
import subprocess
import sys

import common
import keras
import numpy as np

from keras_nladv import NonlinearitySparsity, SparsePReLU
from keras_nladv.engines.timing import rounds_by_turns

ROUNDS, STEPS_FOR_MEMORY = 40, 3
ACTIVATIONS = {
    "ReLU": keras.layers.ReLU,
    "PReLU": functools.partial(keras.layers.PReLU, shared_axes=[1, 2]),
    "SparsePReLU": SparsePReLU,
    "SparsePReLU, pressed": lambda: SparsePReLU(alpha_regularizer=NonlinearitySparsity(1e-3)),
}

batch_size = int(sys.argv[1]) if len(sys.argv) > 1 else 64
rng = np.random.default_rng(0)
images = rng.normal(size=(batch_size, 32, 32, 3)).astype("float32")
labels = rng.integers(10, size=batch_size)


def build(name):
    model = common.resnet(ACTIVATIONS[name])
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


if len(sys.argv) > 2:
    model = build(sys.argv[2])
    for _ in range(STEPS_FOR_MEMORY):
        model.train_on_batch(images, labels)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    sys.exit()

print(f"{common.setting()}; batches of {batch_size}, {ROUNDS} rounds")
memory = {}
for name in ACTIVATIONS:
    command = [sys.executable, __file__, str(batch_size), name]
    memory[name] = int(subprocess.check_output(command, text=True)) / 1024  # from KiB

models = {name: build(name) for name in ACTIVATIONS}
steps = [lambda model=model: model.train_on_batch(images, labels) for model in models.values()]
times = rounds_by_turns(steps, ROUNDS)

print("                      median ms      to ReLU (middle half)     to PReLU (middle half)")
for index, name in enumerate(ACTIVATIONS):
    line = f"{name:20} {1e3 * np.median(times[:, index]):10.1f}"
    for other in (0, 1):
        low, median, high = np.percentile(times[:, index] / times[:, other], [25, 50, 75])
        line += f"       {median:5.3f} ({low:5.3f}-{high:5.3f})"
    print(line)
print("                     fastest ms      to ReLU    to PReLU    peak MiB")
fastest = 1e3 * times.min(axis=0)
for index, name in enumerate(ACTIVATIONS):
    relu, prelu = fastest[index] / fastest[:2]
    print(f"{name:20} {fastest[index]:10.1f} {relu:12.3f} {prelu:11.3f} {memory[name]:11.0f}")
