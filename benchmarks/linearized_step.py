"""What a training step of a linearized network costs, against an ordinary step of the same network.

    KERAS_BACKEND=jax python benchmarks/linearized_step.py [batch size] [rounds]

The models take steps by turns, so that whatever else the machine does hits all of them; ratios are
taken within each turn. The ResNet's ordinary step normalizes by the statistics of the batch, which
a linearized one does not.
"""

import sys

import keras
import numpy as np
from keras import layers

import figures
import measuring
import subjects
from keras_nladv.tangent import IterativeLinearization, LinearizedModel


def convnet():
    """Four convolutions with ReLU, max pooling in between, for images of 32 x 32."""
    model = keras.Sequential([keras.Input((32, 32, 3))])
    for filters in (32, 64):
        for _ in range(2):
            model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D())
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(10))
    return model


STEPS = {
    "ordinary": lambda model: model,
    "linearized": LinearizedModel,
    "iterative": lambda model: IterativeLinearization(model, period=10),
    "Jacobian only": lambda model: IterativeLinearization(model, period=10, jacobian_only=True),
}


def rows(title, build, batch_size, rounds, names=tuple(STEPS)):
    """Times steps of a network; see `measuring.by_turns`.

    Args:
        title: What it is called.
        build: Function of no arguments that makes it.
        batch_size: Integer.
        rounds: Integer.
        names: Those of the steps, the ordinary one first.
    """
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch_size, 32, 32, 3)).astype("float32")
    labels = rng.integers(10, size=batch_size)
    models = {}
    for name in names:
        keras.utils.set_random_seed(0)
        model = models[name] = STEPS[name](build())
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    steps = {
        name: lambda model=model: model.train_on_batch(images, labels)
        for name, model in models.items()
    }
    return measuring.by_turns(f"{title}, batches of {batch_size}", steps, rounds)


if __name__ == "__main__":
    batch_size = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    print(f"{measuring.setting()}; {rounds} rounds")
    for title, build in {"CNN": convnet, "ResNet-20": subjects.resnet}.items():
        figures.show(rows(title, build, batch_size, rounds))
