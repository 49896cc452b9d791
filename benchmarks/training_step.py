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

import keras
import numpy as np

import figures
import measuring
import subjects
from keras_nladv import NonlinearitySparsity, SparsePReLU

ROUNDS, STEPS_FOR_MEMORY = 40, 3
ACTIVATIONS = {
    "ReLU": keras.layers.ReLU,
    "PReLU": functools.partial(keras.layers.PReLU, shared_axes=[1, 2]),
    "SparsePReLU": SparsePReLU,
    "SparsePReLU, pressed": lambda: SparsePReLU(alpha_regularizer=NonlinearitySparsity(1e-3)),
}


def step(name, batch_size, depth=20):
    """A training step of the ResNet with one of the activations, as a function."""
    model = subjects.resnet(depth, ACTIVATIONS[name])
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch_size, 32, 32, 3)).astype("float32")
    labels = rng.integers(10, size=batch_size)
    return lambda: model.train_on_batch(images, labels)


def rows(batch_size, rounds=ROUNDS, depth=20):
    """Times all of them; see `measuring.by_turns`."""
    steps = {name: step(name, batch_size, depth) for name in ACTIVATIONS}
    return measuring.by_turns(f"ResNet-{depth}, batches of {batch_size}", steps, rounds, 2)


if __name__ == "__main__":
    batch_size = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    if len(sys.argv) > 2:
        take = step(sys.argv[2], batch_size)
        for _ in range(STEPS_FOR_MEMORY):
            take()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        sys.exit()
    print(f"{measuring.setting()}; {ROUNDS} rounds")
    memory = {}
    for name in ACTIVATIONS:
        command = [sys.executable, __file__, str(batch_size), name]
        memory[name] = int(subprocess.check_output(command, text=True)) / 1024  # from KiB
    figures.show({**row, "peak MiB": peak} for row, peak in zip(rows(batch_size), memory.values()))
