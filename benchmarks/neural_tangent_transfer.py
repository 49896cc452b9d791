"""What an iteration of neural tangent transfer costs with the stochastic estimator and without.

    KERAS_BACKEND=jax python benchmarks/neural_tangent_transfer.py [batch size] [rounds]

The estimators take iterations of LeNet-5-Caffe (28 x 28) by turns, so that whatever else the
machine does hits both; ratios are taken within each turn. ResNet-20 (32 x 32) is transferred with
the stochastic one, and compared with a step of its ordinary training.
"""

import sys

import keras
import numpy as np

import figures
import measuring
import subjects
from keras_nladv.tangent import NeuralTangentTransfer


def iteration(model, estimator, images, rng):
    """An iteration of the transfer of a model."""
    transfer = NeuralTangentTransfer(model, estimator=estimator)
    batch = [images[None]]
    if estimator == "stochastic":
        signs = rng.choice([-1.0, 1.0], (1, 1, len(images) - len(images) // 2, 10))
        batch.append(signs.astype("float32"))
    return lambda: transfer.train_on_batch(batch)


def ordinary(model, images, rng):
    """A step of ordinary training."""
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    labels = rng.integers(10, size=len(images))
    return lambda: model.train_on_batch(images, labels)


def rows(title, build, estimators, batch_size, rounds):
    """Times iterations of a network and ordinary steps; see `measuring.by_turns`.

    Args:
        title: What it is called.
        build: Function of no arguments that makes it.
        estimators: Names of the estimators.
        batch_size: Integer.
        rounds: Integer.
    """
    rng = np.random.default_rng(0)
    model = build()
    images = rng.normal(size=(batch_size, *model.input_shape[1:])).astype("float32")
    steps = {"ordinary": ordinary(model, images, rng)}
    steps |= {each: iteration(build(), each, images, rng) for each in estimators}
    title = f"{title}, batches of {batch_size}"
    return measuring.by_turns(title, steps, rounds, references=len(estimators))


CASES = {
    "LeNet-5-Caffe": (subjects.lenet, ("exact", "stochastic")),
    "ResNet-20": (subjects.resnet, ("stochastic",)),
}

if __name__ == "__main__":
    batch_size = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    print(f"{measuring.setting()}; {rounds} rounds")
    for title, case in CASES.items():
        figures.show(rows(title, *case, batch_size, rounds))
