"""Which steps make a slope linear: those that land in the window, or also those that cross 1?

    KERAS_BACKEND=jax python benchmarks/freezing.py

Trains small networks on the digits of scikit-learn: some epochs without pressure, then with. Each
setting is run with both rules, from the same weights and on the same batches:

- window: a slope is frozen when a step brings it nearer to 1 than the threshold (the paper's rule);
- crossing: also when a step carries it across 1 (the rule of `SparsePReLU`).

The columns, means over the seeds: the percentage of the units whose slope ever jumped over the
window from one side of 1 to the other, and of those that did it twice or more (with the rule
"crossing" the first jump freezes a unit, so there is no second); for how many steps a unit that
jumped was not frozen; the percentage of the units that are linear in the end; and the accuracy on
the test set. Runs whose loss is no number are left out, and counted.
"""

import itertools
import time

import keras
import numpy as np
from keras import layers, ops
from sklearn.datasets import load_digits

import measuring
from keras_nladv import NonlinearitySparsity, SparsePReLU

SEEDS = (0, 1, 2)
STRENGTHS = (0.0, 0.01, 0.1, 1.0)
LEARNING_RATES = {"SGD": (0.1, 0.03, 0.01), "Adam": (1e-2, 1e-3)}
THRESHOLDS = (0.01, 0.001)
FREE_EPOCHS, PRESSED_EPOCHS, BATCH_SIZE = 4, 8, 64


class Slopes(SparsePReLU):
    """Counts how often each slope jumps over the window and how long it swings then."""

    def __init__(self, rule, **kwargs):
        super().__init__(**kwargs)
        self.rule = rule

    def build(self, input_shape):
        super().build(input_shape)
        self.jumps = self.add_weight(name="jumps", shape=self.alpha.shape, initializer="zeros")
        self.swinging = self.add_weight(
            name="swinging", shape=self.alpha.shape, initializer="zeros"
        )

    def call(self, inputs):
        # What the optimizer shall see has to have a gradient.
        return super().call(inputs) + 0.0 * ops.sum(self.jumps + self.swinging)

    def _pin(self, alpha):
        alpha, side = ops.convert_to_tensor(alpha), ops.convert_to_tensor(self.side)
        distance = 1.0 - alpha
        jumped = (
            (ops.abs(side) == 1)
            & (distance * side < 0)
            & (ops.abs(distance) >= self.linear_threshold)
        )
        self.jumps.assign(self.jumps + ops.cast(jumped, self.jumps.dtype))
        pinned = super()._pin(alpha)
        if self.rule == "window":
            pinned = ops.where(jumped, alpha, pinned)
        swinging = (self.jumps > 0) & (pinned != 1)
        self.swinging.assign(self.swinging + ops.cast(swinging, self.swinging.dtype))
        return pinned


def build_mlp(rule, threshold, regularizer=None):
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten()])
    for _ in range(3):
        model.add(layers.Dense(64))
        model.add(Slopes(rule, linear_threshold=threshold, alpha_regularizer=regularizer))
    model.add(layers.Dense(10))
    return model


def build_cnn(rule, threshold, regularizer=None):
    model = keras.Sequential([keras.Input((8, 8, 1))])
    for filters, strides in ((16, 1), (32, 2), (32, 1), (32, 1)):
        model.add(layers.Conv2D(filters, 3, strides, padding="same", use_bias=False))
        # Its statistics have to be there after few steps.
        model.add(layers.BatchNormalization(momentum=0.9))
        model.add(Slopes(rule, linear_threshold=threshold, alpha_regularizer=regularizer))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(10))
    return model


BUILDERS = {"MLP": build_mlp, "CNN": build_cnn}
OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "Adam": lambda: keras.optimizers.Adam(),
}

digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.target))
images, labels = (digits.images[order, ..., None] / 16.0).astype("float32"), digits.target[order]
x_train, y_train, x_test, y_test = images[:1437], labels[:1437], images[1437:], labels[1437:]

began = time.perf_counter()
results = {}
for network, optimizer, threshold, rule in itertools.product(
    BUILDERS, OPTIMIZERS, THRESHOLDS, ("window", "crossing")
):
    # One model for all runs, so that it is compiled once.
    starts = []
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        starts.append(BUILDERS[network](rule, threshold).get_weights())
    regularizer = NonlinearitySparsity(0.0)
    model = BUILDERS[network](rule, threshold, regularizer)
    model.compile(
        OPTIMIZERS[optimizer](),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.optimizer.build(model.trainable_variables)
    fresh = [ops.convert_to_numpy(variable.value) for variable in model.optimizer.variables]
    activations = [layer for layer in model.layers if isinstance(layer, Slopes)]
    for learning_rate, strength in itertools.product(LEARNING_RATES[optimizer], STRENGTHS):
        runs = []
        for seed, start in zip(SEEDS, starts, strict=True):
            keras.utils.set_random_seed(seed)
            model.set_weights(start)
            for variable, value in zip(model.optimizer.variables, fresh, strict=True):
                variable.assign(value)
            model.optimizer.learning_rate = learning_rate
            for regularizer.strength, epochs in ((0.0, FREE_EPOCHS), (strength, PRESSED_EPOCHS)):
                model.fit(x_train, y_train, BATCH_SIZE, epochs, verbose=0)
            loss, accuracy = model.evaluate(x_test, y_test, BATCH_SIZE, verbose=0)
            if not np.isfinite(loss):
                continue
            jumps, swinging = (
                np.concatenate([ops.convert_to_numpy(weight.value) for weight in weights])
                for weights in zip(*((layer.jumps, layer.swinging) for layer in activations))
            )
            nonlinear = np.concatenate([layer.nonlinear for layer in activations])
            runs.append(
                (
                    100 * np.mean(jumps >= 1),
                    100 * np.mean(jumps >= 2),
                    np.mean(swinging[jumps >= 1]) if jumps.any() else 0.0,
                    100 * np.mean(~nonlinear),
                    100 * accuracy,
                )
            )
        results[network, optimizer, learning_rate, strength, threshold, rule] = runs
    print(".", end="", flush=True)

print(
    f"\n{measuring.setting()}; seeds {SEEDS}; {FREE_EPOCHS} + {PRESSED_EPOCHS} epochs of "
    f"{len(x_train)} images, batches of {BATCH_SIZE}; {time.perf_counter() - began:.0f} s\n"
)
print(
    "                                                 window                              crossing"
)
print(
    "net  optimizer  rate strength threshold runs  jumped twice steps linear accuracy"
    "  runs  jumped linear accuracy"
)
for *setting, rule in results:
    if rule == "crossing":
        continue
    network, optimizer, learning_rate, strength, threshold = setting
    line = f"{network}  {optimizer:9} {learning_rate:5g} {strength:8g} {threshold:9g}"
    runs = results[*setting, "window"]
    line += f" {len(runs):4}"
    if runs:
        line += "  {:6.1f} {:5.1f} {:5.0f} {:6.1f} {:8.2f}".format(*np.mean(runs, axis=0))
    else:
        line += " " * 36
    runs = results[*setting, "crossing"]
    line += f"  {len(runs):4}"
    if runs:
        jumped, _, _, linear, accuracy = np.mean(runs, axis=0)
        line += f"  {jumped:6.1f} {linear:6.1f} {accuracy:8.2f}"
    print(line)
