"""What a training step of a linearized network costs, against an ordinary step of the same network.

    KERAS_BACKEND=jax python benchmarks/linearized_step.py [batch size] [rounds]

The models take steps by turns, so that whatever else the machine does hits all of them; ratios are
taken within each turn. The ResNet's ordinary step normalizes by the statistics of the batch, which
a linearized one does not.
"""

import sys

import common
import keras
import numpy as np
from keras import layers

from keras_nladv.engines.timing import rounds_by_turns
from keras_nladv.tangent import IterativeLinearization, LinearizedModel

batch_size = int(sys.argv[1]) if len(sys.argv) > 1 else 64
rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 30


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


NETWORKS = {"CNN": convnet, "ResNet-20": lambda: common.resnet(layers.ReLU)}
STEPS = {
    "ordinary": lambda model: model,
    "linearized": LinearizedModel,
    "iterative": lambda model: IterativeLinearization(model, period=10),
    "Jacobian only": lambda model: IterativeLinearization(model, period=10, jacobian_only=True),
}

rng = np.random.default_rng(0)
images = rng.normal(size=(batch_size, 32, 32, 3)).astype("float32")
labels = rng.integers(10, size=batch_size)
print(f"{common.setting()}; batches of {batch_size}, {rounds} rounds")
for network, build in NETWORKS.items():
    models = {}
    for name, wrap in STEPS.items():
        keras.utils.set_random_seed(0)
        model = models[name] = wrap(build())
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        for _ in range(3):
            model.train_on_batch(images, labels)
    steps = [lambda model=model: model.train_on_batch(images, labels) for model in models.values()]
    seconds = rounds_by_turns(steps, rounds)
    print(f"{network:14}  median ms  to ordinary (middle half)")
    for name, mine in zip(models, seconds.T):
        low, median, high = np.percentile(mine / seconds[:, 0], [25, 50, 75])
        print(f"  {name:12}  {1e3 * np.median(mine):9.1f}  {median:5.2f} ({low:.2f}-{high:.2f})")
