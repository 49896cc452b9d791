import csv

import keras
import numpy as np
import pytest
from keras import layers

from keras_nladv import SparsePReLU
from keras_nladv.tangent import IterativeLinearization
from tests import processes
from tests.cases import once
from tests.tangent import numpy_network as reference
from tests.tangent.reference import sequential

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3)).astype("float32")
Y = RNG.normal(size=(24, 2)).astype("float32")
LABELS = RNG.integers(2, size=24)
# Eight steps of three examples.
BATCHES = [slice(i, i + 3) for i in range(0, 24, 3)]


def fitted(model, y=Y, optimizer=None, loss="mse", epochs=1, **arguments):
    model.compile(optimizer or keras.optimizers.SGD(0.2), loss)
    return model.fit(
        X, y, batch_size=3, epochs=epochs, shuffle=False, verbose=0, **arguments
    ).history


@pytest.mark.parametrize(
    ("period", "jacobian_only", "reset"),
    [
        once(1, False, False),
        (3, False, False),
        once(None, False, False),
        (3, True, False),
        once(3, False, True),
        once(1, False, True),
    ],
)
def test_against_numpy(period, jacobian_only, reset):
    model = reference.network()
    weights = model.get_weights()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    iterative = IterativeLinearization(model, period, jacobian_only, reset_optimizer=reset)
    optimizer = keras.optimizers.SGD(0.2, momentum=0.5)
    history = fitted(iterative, LABELS, optimizer, loss, epochs=2)
    expected = reference.trained(
        weights,
        [(X[batch], LABELS[batch]) for batch in BATCHES * 2],
        reference.cross_entropy,
        period,
        jacobian_only,
        momentum=0.5,
        reset=reset,
    )
    for got, wanted in zip(model.get_weights(), expected):
        np.testing.assert_allclose(got, wanted, atol=1e-5)
    updates = [0, 0] if period is None else [8 // period, 16 // period]
    assert history["feature_updates"] == updates


def test_closed_form():
    """Gradient descent on the mean of squares, in two periods."""
    x, y, period, rate = X[:4], Y[:4], 15, 0.3
    model = reference.network()
    theta = reference.flat(model.get_weights())
    iterative = IterativeLinearization(model, period)
    iterative.compile(keras.optimizers.SGD(rate), "mse")
    iterative.fit(x, y, batch_size=4, epochs=2 * period, verbose=0)
    eta = 2 * rate / y.size  # Keras' loss is a mean.
    for _ in range(2):
        jacobian = reference.jacobian(theta, x).reshape(y.size, -1)
        residuals = (reference.outputs(reference.shaped(theta), x) - y).ravel()
        kernel = jacobian @ jacobian.T
        decay = np.linalg.matrix_power(np.eye(y.size) - eta * kernel, period)
        theta = theta - jacobian.T @ np.linalg.solve(kernel, residuals - decay @ residuals)
    np.testing.assert_allclose(reference.flat(model.get_weights()), theta, atol=1e-5)


class Ordinary(keras.Model):
    """A model that runs as in `predict` while it is trained."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, inputs):
        return self.model(inputs, training=False)


def images():
    return sequential(
        (6, 6, 1),
        layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2"),
        layers.BatchNormalization(),
        SparsePReLU(),
        layers.MaxPooling2D(),
        layers.Dropout(0.5),
        layers.Flatten(),
        layers.Dense(2),
    )


def sequences():
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(6, 4, mask_zero=True),
            layers.SimpleRNN(3, return_sequences=True),
            layers.Dense(2),
        ]
    )


def two_inputs():
    first, second = keras.Input((4, 3), name="first"), keras.Input((3,), name="second")
    x = layers.MultiHeadAttention(2, 2)(first, first)
    x = layers.LayerNormalization()(layers.Dense(3, activation="gelu")(x))
    x = layers.multiply([layers.GlobalAveragePooling1D()(x), second])
    return keras.Model({"first": first, "second": second}, layers.Dense(2)(x))


IDS = RNG.integers(1, 6, size=(12, 5))
IDS[::2, 3:] = 0
DATA = {
    images: (RNG.normal(size=(12, 6, 6, 1)), RNG.integers(2, size=12)),
    sequences: (IDS, RNG.integers(2, size=(12, 5))),
    two_inputs: (
        {"first": RNG.normal(size=(12, 4, 3)), "second": RNG.normal(size=(12, 3))},
        RNG.integers(2, size=12),
    ),
}


@pytest.mark.parametrize(
    ("make", "optimizer"),
    [
        once(images, lambda: keras.optimizers.SGD(0.05, 0.9, nesterov=True, weight_decay=0.01)),
        (images, lambda: keras.optimizers.Adam(0.01)),
        # Not Adam: on TensorFlow it takes sparse gradients of embeddings for something else.
        once(sequences, lambda: keras.optimizers.SGD(0.1, 0.9)),
        once(two_inputs, lambda: keras.optimizers.RMSprop(0.01, clipnorm=0.1, use_ema=True)),
    ],
)
def test_a_period_of_one_is_ordinary_training(make, optimizer):
    x, y = DATA[make]
    histories, models = [], []
    for wrap in (Ordinary, lambda model: IterativeLinearization(model, period=1)):
        keras.utils.set_random_seed(0)
        models.append(make())
        model = wrap(models[-1])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer(), loss, metrics=["accuracy"])
        history = model.fit(
            x, y, batch_size=4, epochs=3, shuffle=False, verbose=0, validation_data=(x, y)
        )
        histories.append(history.history)
    assert histories[1].pop("feature_updates") == [3, 6, 9]
    assert histories[0].keys() == histories[1].keys()
    for name, values in histories[0].items():
        assert histories[1][name] == pytest.approx(values, rel=1e-4), name
    for one, two in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(two, one, atol=1e-5)


def test_outputs_before_and_after_the_point_moves():
    model = reference.network()
    iterative = IterativeLinearization(model, period=4)
    # Weights that come later count: the first point is where training begins.
    model.set_weights([weight + 0.1 for weight in model.get_weights()])
    point = reference.flat(model.get_weights())
    assert (iterative.feature_updates, iterative.steps_left) == (0, 4)
    iterative.compile(keras.optimizers.SGD(0.2), "mse")
    for step, batch in enumerate(BATCHES, start=1):
        iterative.train_on_batch(X[batch], Y[batch])
        theta = reference.flat(model.get_weights())
        if step % 4 == 0:
            point = theta
        expected = reference.linearized(theta, point, X)
        np.testing.assert_allclose(iterative.predict(X, verbose=0), expected, atol=1e-5)
        # Calls that do not train do not count.
        assert iterative.feature_updates == step // 4


def test_nothing_is_traced_again():
    """A layer is called as often as where the point never moves."""
    calls = []

    class Counting(layers.Dense):
        def call(self, inputs):
            calls.append(inputs)
            return super().call(inputs)

    counts = []
    for period in (1, None):
        model = sequential((3,), Counting(2))
        calls.clear()
        fitted(IterativeLinearization(model, period), epochs=3)
        counts.append(len(calls))
    assert counts[0] == counts[1] > 0


def test_feature_updates_in_logs(tmp_path):
    seen = []
    watching = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(logs["feature_updates"])
    )
    file = tmp_path / "history.csv"
    iterative = IterativeLinearization(reference.network(), period=3)
    fitted(iterative, epochs=2, callbacks=[watching, keras.callbacks.CSVLogger(file)])
    with open(file) as lines:
        assert [row["feature_updates"] for row in csv.DictReader(lines)] == ["2", "5"]
    callbacks = keras.callbacks.CallbackList([watching], model=iterative, epochs=1, steps=8)
    iterative.fit(X, Y, 3, 1, 0, callbacks)
    assert seen == [2, 5, 8]


def test_moved_by_hand():
    class EachEpoch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch > 0:
                self.model.relinearize()

    model = reference.network()
    weights = model.get_weights()
    history = fitted(IterativeLinearization(model, None), epochs=3, callbacks=[EachEpoch()])
    assert history["feature_updates"] == [0, 1, 2]
    batches = [(X[batch], Y[batch]) for batch in BATCHES * 3]
    expected = reference.trained(weights, batches, reference.squared, 8)
    for got, wanted in zip(model.get_weights(), expected):
        np.testing.assert_allclose(got, wanted, atol=1e-5)


RESUME = """
import sys
import keras, keras_nladv, numpy as np
model = keras.models.load_model(sys.argv[1])
data = np.load(sys.argv[2])
history = model.fit(
    data["x"], data["y"], batch_size=3, epochs=2, initial_epoch=1, shuffle=False, verbose=0
)
assert history.history["feature_updates"] == [3]
np.savez(sys.argv[3], *model.get_weights())
"""


@pytest.mark.once
def test_resumed_in_a_new_process(tmp_path):
    arguments = {"period": 5, "reset_optimizer": True}
    iterative = IterativeLinearization(reference.network(), **arguments)
    fitted(iterative, optimizer=keras.optimizers.Adam(0.01), epochs=1)
    iterative.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x=X, y=Y)
    files = [str(tmp_path / name) for name in ("model.keras", "data.npz", "weights.npz")]
    assert processes.run(RESUME, *files) == (0, "")
    iterative.fit(X, Y, batch_size=3, epochs=2, initial_epoch=1, shuffle=False, verbose=0)
    with np.load(files[2]) as weights:
        for name, wanted in zip(weights, iterative.get_weights(), strict=True):
            np.testing.assert_allclose(weights[name], wanted, atol=1e-5)


@pytest.mark.parametrize(
    "optimizer",
    [
        once(lambda: keras.optimizers.Adagrad(0.1)),
        once(lambda: keras.optimizers.Nadam(0.1)),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.1)),
    ],
)
def test_reset_of_optimizers(optimizer):
    """A new optimizer for each period does the same."""
    model, other = reference.network(), reference.network()
    other.set_weights(model.get_weights())
    iterative = IterativeLinearization(model, period=8, reset_optimizer=True)
    fitted(iterative, optimizer=optimizer(), epochs=2)
    again = IterativeLinearization(other, period=8)
    for _ in range(2):
        fitted(again, optimizer=optimizer())
    for one, two in zip(model.get_weights(), other.get_weights()):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_optimizers_that_cannot_be_reset():
    def iterative():
        return IterativeLinearization(reference.network(), period=2, reset_optimizer=True)

    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    with pytest.raises(ValueError, match="learning rate schedule again"):
        fitted(iterative(), optimizer=keras.optimizers.SGD(schedule))
    model = iterative()
    model.compile("sgd", "mse", steps_per_execution=2)
    with pytest.raises(ValueError, match=r"Received: steps_per_execution=2"):
        model.fit(X, Y, batch_size=3, verbose=0)


@pytest.mark.parametrize("period", [0, -1, 2.0, True, "never"])
def test_bad_period(period):
    with pytest.raises(ValueError, match=f"`period` must be an integer .* period={period!r}"):
        IterativeLinearization(reference.network(), period)


def test_config():
    iterative = IterativeLinearization(reference.network(), np.int64(3), True, True, "name")
    again = IterativeLinearization.from_config(iterative.get_config())
    settings = (again.period, again.jacobian_only, again.reset_optimizer, again.name)
    assert settings == (3, True, True, "name")
