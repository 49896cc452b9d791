"""What an iteration of neural tangent transfer costs with the stochastic estimator and without.

    KERAS_BACKEND=jax python benchmarks/neural_tangent_transfer.py [batch size] [rounds]

The estimators take iterations of LeNet-5-Caffe (28 x 28) by turns, so that whatever else the
machine does hits both; ratios are taken within each turn. ResNet-20 (32 x 32) is transferred with
the stochastic one, and compared with a step of its ordinary training.
"""

import sys

import common
import keras
import numpy as np
from keras import layers

from keras_nladv.engines.timing import rounds_by_turns
from keras_nladv.tangent import NeuralTangentTransfer

batch_size = int(sys.argv[1]) if len(sys.argv) > 1 else 64
rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 20
rng = np.random.default_rng(0)


def lenet():
    """LeNet-5-Caffe: 20 and 50 filters, 500 units."""
    model = keras.Sequential([keras.Input((28, 28, 1))])
    for filters in (20, 50):
        model.add(layers.Conv2D(filters, 5, activation="relu"))
        model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dense(500, activation="relu"))
    model.add(layers.Dense(10))
    return model


def by_turns(title, steps):
    """Times functions by turns, and prints ratios to the first."""
    seconds = rounds_by_turns(list(steps.values()), rounds)
    print(f"{title:14}  median ms  to {next(iter(steps))} (middle half)")
    for name, mine in zip(steps, seconds.T):
        low, median, high = np.percentile(mine / seconds[:, 0], [25, 50, 75])
        print(f"  {name:12}  {1e3 * np.median(mine):9.1f}  {median:5.3f} ({low:.3f}-{high:.3f})")


def iteration(model, estimator, images):
    """An iteration of the transfer of a model."""
    transfer = NeuralTangentTransfer(model, estimator=estimator)
    batch = [images[None]]
    if estimator == "stochastic":
        signs = rng.choice([-1.0, 1.0], (1, 1, len(images) - len(images) // 2, 10))
        batch.append(signs.astype("float32"))
    return lambda: transfer.train_on_batch(batch)


def ordinary(model, images):
    """A step of ordinary training."""
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    labels = rng.integers(10, size=len(images))
    return lambda: model.train_on_batch(images, labels)


print(f"{common.setting()}; batches of {batch_size}, {rounds} rounds")
digits = rng.normal(size=(batch_size, 28, 28, 1)).astype("float32")
by_turns(
    "LeNet-5-Caffe",
    {each: iteration(lenet(), each, digits) for each in ("exact", "stochastic")}
    | {"ordinary": ordinary(lenet(), digits)},
)
pictures = rng.normal(size=(batch_size, 32, 32, 3)).astype("float32")
by_turns(
    "ResNet-20",
    {
        "ordinary": ordinary(common.resnet(layers.ReLU), pictures),
        "stochastic": iteration(common.resnet(layers.ReLU), "stochastic", pictures),
    },
)
