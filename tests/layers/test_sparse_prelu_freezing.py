"""A unit that becomes linear while training is frozen: from then on its slope is exactly 1."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops, optimizers

from keras_nladv import NonlinearitySparsity, SparsePReLU
from keras_nladv.layers.sparse_prelu import HELD
from tests.cases import once_but, since, since_but

# Some start in the window (0.99, 1.01), some reach it or jump over it, some stay away.
SLOPES = np.array([1.0, 0.985, 0.95, 0.9, 0.8, 1.02, 1.1, 0.0, -1.0], "float32")
OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.01),
    "momentum": lambda: optimizers.SGD(0.01, momentum=0.9),
    "nesterov": lambda: optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "weight decay": lambda: optimizers.SGD(0.01, momentum=0.9, weight_decay=0.5),
    "adam": lambda: optimizers.Adam(0.01),
    "adamw": lambda: optimizers.AdamW(0.01, weight_decay=0.5),
    "rmsprop": lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "lion": lambda: optimizers.Lion(0.01, weight_decay=0.5),
    "muon": lambda: optimizers.Muon(0.01),
    "lamb": lambda: optimizers.Lamb(0.01),
    "adagrad": lambda: optimizers.Adagrad(0.1),
    "adadelta": lambda: optimizers.Adadelta(3.0),
    "adafactor": lambda: optimizers.Adafactor(0.1),
    "schedule free": lambda: optimizers.ScheduleFreeAdamW(0.1),
    "clipnorm": lambda: optimizers.SGD(0.03, momentum=0.9, clipnorm=1.0),
    "global clipnorm": lambda: optimizers.SGD(0.03, momentum=0.9, global_clipnorm=1.0),
    "accumulation": lambda: optimizers.SGD(0.03, momentum=0.9, gradient_accumulation_steps=2),
    "loss scale": lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.01, momentum=0.9)),
    "averaged": lambda: optimizers.SGD(0.01, momentum=0.9, use_ema=True, ema_overwrite_frequency=3),
}


def build_model(layer, optimizer):
    inputs = keras.Input((len(SLOPES),))
    model = keras.Model(inputs, keras.layers.Dense(1)(layer(inputs)))
    model.compile(optimizer, "mse")
    layer.alpha.assign(SLOPES)
    # Keras 3.15 forgets to start the averages of ScheduleFreeAdamW at the weights if TensorFlow
    # builds it while it traces.
    optimizer.build(model.trainable_variables)
    return model


def data(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(64, len(SLOPES))).astype("float32")
    return x, rng.normal(size=(64, 1)).astype("float32")


def alpha(layer):
    return np.asarray(ops.convert_to_numpy(layer.alpha.value))


def train(model, layer, steps, seed=0):
    """Trains for some steps and returns the slopes after each."""
    x, y = data(seed)
    trajectory = []
    for _ in range(steps):
        model.train_on_batch(x, y)
        trajectory.append(alpha(layer))
    return np.array(trajectory)


def assert_frozen(trajectory):
    """Nothing in the window but exactly 1, and once a slope is 1 it stays."""
    linear = trajectory == 1
    np.testing.assert_array_equal(linear, np.abs(trajectory - 1) < 0.01)
    assert (linear[1:] >= linear[:-1]).all()


# Those that go about it in ways of their own; the others are on one backend.
EVERYWHERE = [
    "momentum",
    "adamw",
    "muon",
    "schedule free",
    "accumulation",
    "loss scale",
    "averaged",
]


NEW = {"muon": "3.13", "schedule free": "3.14"}


@pytest.mark.parametrize("name", since_but(once_but(OPTIMIZERS, EVERYWHERE), NEW))
def test_frozen_slopes_are_exactly_1(name):
    layer = SparsePReLU(alpha_regularizer=NonlinearitySparsity(1.0))
    model = build_model(layer, OPTIMIZERS[name]())
    trajectory = train(model, layer, 20)
    assert_frozen(trajectory)
    linear = trajectory == 1
    frozen_later = ~linear[0] & linear[15]
    assert frozen_later.sum() >= 2
    np.testing.assert_array_equal(layer.nonlinear, ~linear[-1])
    np.testing.assert_array_equal(layer.slopes, trajectory[-1])


def reference(x, y, slopes, omega, learning_rate, momentum, nesterov, steps):
    """The layer alone, under SGD and mean squared error, in NumPy and float64."""
    x, y, slopes = (np.asarray(array, "float64") for array in (x, y, slopes))
    velocity = np.zeros_like(slopes)
    frozen = np.zeros(slopes.shape, bool)
    side = np.zeros_like(slopes)
    trajectory, jumps, margin = [], 0, np.inf
    for _ in range(steps):
        distance = 1 - slopes
        error = np.where(x > 0, x, slopes * x) - y
        gradient = np.sum(2 * error * np.minimum(x, 0), axis=0) / x.size
        gradient[frozen | (np.abs(distance) < 0.01)] = 0
        pressed = distance != 0
        gradient[pressed] -= (
            omega * 0.5 * np.sign(distance[pressed]) / np.sqrt(np.abs(distance[pressed]))
        )
        velocity = momentum * velocity - learning_rate * gradient
        step = momentum * velocity - learning_rate * gradient if nesterov else velocity
        distance = 1 - (slopes + step)
        jumped = ~frozen & (distance * side < 0) & (np.abs(distance) >= 0.01)
        jumps += jumped.sum()
        active = np.abs(distance[~frozen & (distance != 0)])
        margin = min(margin, active.min(), np.abs(active - 0.01).min())
        frozen |= jumped | (np.abs(distance) < 0.01)
        slopes = np.where(frozen, 1.0, 1 - distance)
        side = np.sign(1 - slopes)
        trajectory.append(slopes)
    return np.array(trajectory), jumps, margin


@pytest.mark.parametrize(
    ("learning_rate", "momentum", "nesterov"),
    [(0.03, 0.0, False), (0.02, 0.9, False), (0.05, 0.9, True)],
)
def test_trajectory_equals_numpy(learning_rate, momentum, nesterov):
    x, _ = data()
    y = np.random.default_rng(3).normal(size=x.shape).astype("float32")
    expected, jumps, margin = reference(
        x, y, SLOPES, 0.3, learning_rate, momentum, nesterov, steps=20
    )
    # The rules have all been needed, and float32 cannot have decided otherwise.
    landed = (expected[-1] == 1).sum() - jumps
    assert jumps >= 2
    assert landed >= 3
    assert (expected[-1] != 1).any()
    assert margin > 2e-4

    layer = SparsePReLU(alpha_regularizer=NonlinearitySparsity(0.3))
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    model.compile(optimizers.SGD(learning_rate, momentum=momentum, nesterov=nesterov), "mse")
    layer.alpha.assign(SLOPES)
    for slopes in expected:
        model.train_on_batch(x, y)
        np.testing.assert_array_equal(alpha(layer) == 1, slopes == 1)
        np.testing.assert_allclose(alpha(layer), slopes, atol=2e-4)


def test_slopes_that_are_linear_before_training_do_not_leave_1():
    # Gradients that would carry them far beyond the window.
    layer = SparsePReLU()
    model = build_model(layer, optimizers.SGD(0.5, momentum=0.9))
    layer.alpha.assign([1.0, 0.995, 1.005, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0])
    trajectory = train(model, layer, 5)
    np.testing.assert_array_equal(trajectory[:, :3], np.ones((5, 3)))
    assert np.abs(trajectory[-1, 4:]).min() > 1e-3


def test_slopes_of_exactly_1_resist_any_pressure():
    layer = SparsePReLU(
        alpha_initializer="ones",
        alpha_regularizer=NonlinearitySparsity(100.0),
        linear_threshold=0.0,
    )
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(1)(layer(inputs)))
    model.compile(optimizers.Adam(0.1), "mse")
    for _ in range(2):
        model.train_on_batch(np.ones((4, 3)), np.ones((4, 1)))
    np.testing.assert_array_equal(alpha(layer), np.ones(3))
    assert not layer.nonlinear.any()


def test_a_threshold_of_0_freezes_slopes_that_cross():
    layer = SparsePReLU(alpha_regularizer=NonlinearitySparsity(1.0), linear_threshold=0.0)
    model = build_model(layer, optimizers.SGD(0.01, momentum=0.9))
    trajectory = train(model, layer, 10)
    linear = trajectory == 1
    assert (linear[1:] >= linear[:-1]).all()
    assert linear[-1].sum() >= 3
    assert ((trajectory[0] != 1) & (np.abs(trajectory[0] - 1) < 0.1)).any()


@since("3.13", "What Muon makes of slopes")
@pytest.mark.parametrize("granularity", ["layer", "element"])
def test_other_granularities_freeze(granularity):
    layer = SparsePReLU(
        granularity=granularity,
        alpha_initializer=keras.initializers.Constant(0.9),
        alpha_regularizer=NonlinearitySparsity(1.0),
    )
    inputs = keras.Input((3, 2))
    model = keras.Model(inputs, keras.layers.Dense(1)(layer(inputs)))
    model.compile(optimizers.Muon(0.1), "mse")
    for _ in range(12):
        model.train_on_batch(np.ones((4, 3, 2)), np.ones((4, 3, 1)))
    np.testing.assert_array_equal(alpha(layer), np.ones(layer.alpha.shape))


def test_constraint_of_the_user():
    layer = SparsePReLU(
        alpha_regularizer=NonlinearitySparsity(1.0), alpha_constraint=keras.constraints.NonNeg()
    )
    trajectory = train(build_model(layer, optimizers.SGD(0.01, momentum=0.9)), layer, 10)
    assert_frozen(trajectory)
    assert trajectory[0, -1] == 0
    assert trajectory.min() >= 0
    assert 3 <= (trajectory[-1] == 1).sum() < len(SLOPES)


@since("3.15", "Having several optimizers")
@pytest.mark.parametrize("first", ["alpha", "side"])
def test_optimizers_of_their_own_for_alpha_and_side(first):
    chosen = {"alpha": optimizers.SGD(0.01, momentum=0.9), "side": optimizers.AdamW(0.1)}
    default = optimizers.SGD(0.01)
    # They step in this order.
    order = sorted(chosen, key=lambda name: name != first)
    chosen = {f".*/{name}": chosen[name] for name in order}
    optimizer = optimizers.MultiOptimizer(optimizers.OptimizerMap(default, chosen))
    layer = SparsePReLU(alpha_regularizer=NonlinearitySparsity(1.0))
    trajectory = train(build_model(layer, optimizer), layer, 12)
    assert_frozen(trajectory)
    assert 3 <= (trajectory[-1] == 1).sum() < len(SLOPES)


def test_mixed_float16():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = SparsePReLU(alpha_regularizer=NonlinearitySparsity(1.0))
        model = build_model(layer, optimizers.SGD(0.01, momentum=0.9))
    finally:
        keras.config.set_dtype_policy(policy)
    assert isinstance(model.optimizer, optimizers.LossScaleOptimizer)
    trajectory = train(model, layer, 16)
    assert_frozen(trajectory)
    assert 3 <= (trajectory[-1] == 1).sum() < len(SLOPES)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_slopes_in_half_precision(dtype):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        layer = SparsePReLU(alpha_regularizer=NonlinearitySparsity(1.0))
        model = build_model(layer, optimizers.SGD(0.01, momentum=0.9))
    finally:
        keras.config.set_dtype_policy(policy)
    trajectory = train(model, layer, 12).astype("float32")
    linear = trajectory == 1
    assert (linear[1:] >= linear[:-1]).all()
    assert 3 <= linear[-1].sum() < len(SLOPES)
    np.testing.assert_array_equal(layer.nonlinear, ~linear[-1])


def test_averaged_weights_keep_frozen_slopes():
    """`use_ema` leaves averages of the slopes in `alpha` when `fit` ends."""
    x, y = data()
    layer = SparsePReLU(alpha_regularizer=NonlinearitySparsity(1.0))
    model = build_model(layer, optimizers.SGD(0.01, momentum=0.9, use_ema=True))
    model.fit(x, y, batch_size=16, epochs=3, verbose=0)
    frozen = ~layer.nonlinear
    assert 3 <= frozen.sum() < len(SLOPES)
    assert (alpha(layer)[frozen] != 1).any()
    np.testing.assert_array_equal(layer.slopes[frozen], 1)
    z = -np.ones((1, len(SLOPES)), "float32")
    np.testing.assert_array_equal(-ops.convert_to_numpy(layer(z))[0], layer.slopes)
    # Keras 3.15 cannot call `fit` twice with such an optimizer on JAX.
    model.compile(optimizers.SGD(0.01, momentum=0.9), "mse")
    model.fit(x, y, batch_size=16, epochs=1, verbose=0)
    np.testing.assert_array_equal(alpha(layer)[frozen], 1)


def test_ftrl_freezes_what_is_in_the_window():
    # It computes weights anew from sums of gradients: `side` is not kept.
    layer = SparsePReLU(alpha_regularizer=NonlinearitySparsity(1.0))
    trajectory = train(build_model(layer, optimizers.Ftrl(0.1)), layer, 12)
    assert_frozen(trajectory)
    assert (trajectory[-1] == 1).any()


@pytest.mark.parametrize("extension", ["keras", "weights.h5"])
def test_frozen_slopes_survive_saving(extension, tmp_path):
    optimizer = optimizers.SGD(0.01, momentum=0.9)
    layer = SparsePReLU(alpha_regularizer=NonlinearitySparsity(1.0))
    model = build_model(layer, optimizer)
    before = train(model, layer, 6)
    file = tmp_path / f"model.{extension}"
    if extension == "keras":
        model.save(file)
        loaded = keras.saving.load_model(file)
        expected = train(model, layer, 6)
    else:
        model.save_weights(file)
        # A new optimizer and no pressure: only the weights say what is frozen.
        loaded = keras.models.clone_model(model)
        loaded.layers[1].alpha_regularizer.strength = 0.0
        loaded.load_weights(file)
        loaded.compile(optimizers.Adam(0.2), "mse")
    layer = loaded.layers[1]
    np.testing.assert_array_equal(layer.slopes, before[-1])
    after = train(loaded, layer, 6, seed=1 if extension == "weights.h5" else 0)
    frozen = before[-1] == 1
    assert 3 <= frozen.sum() < len(SLOPES)
    np.testing.assert_array_equal(after[:, frozen], 1)
    assert (after[-1, ~frozen] != before[-1, ~frozen]).all()
    if extension == "keras":
        np.testing.assert_allclose(after, expected, atol=1e-6)


def test_transfer():
    layer = SparsePReLU(alpha_regularizer=NonlinearitySparsity(1.0))
    model = build_model(layer, optimizers.SGD(0.01, momentum=0.9))
    before = train(model, layer, 6)[-1]
    frozen = before == 1
    # As a fixed part of another model ...
    layer.trainable = False
    assert layer.trainable_weights == []
    inputs = keras.Input((len(SLOPES),))
    other = keras.Model(inputs, keras.layers.Dense(1)(layer(inputs)))
    other.compile(optimizers.SGD(0.1, momentum=0.9), "mse")
    np.testing.assert_array_equal(train(other, layer, 3, seed=1), np.tile(before, (3, 1)))
    # ... and trained further with another optimizer.
    layer.trainable = True
    other.compile(optimizers.Adam(0.1), "mse")
    after = train(other, layer, 3, seed=1)
    np.testing.assert_array_equal(after[:, frozen], 1)
    assert (after[-1, ~frozen] != before[~frozen]).all()


def test_a_layer_called_twice_and_trained_with_fit():
    x, y = data()
    layer = SparsePReLU(alpha_regularizer=NonlinearitySparsity(1.0))
    inputs = keras.Input((len(SLOPES),))
    hidden = keras.layers.Dense(len(SLOPES))(layer(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(layer(hidden)))
    model.compile(optimizers.SGD(0.01, momentum=0.9), "mse")
    layer.alpha.assign(SLOPES)
    nonlinear = [np.ones(len(SLOPES), bool)]
    for _ in range(3):
        model.fit(x, y, batch_size=32, epochs=2, verbose=0)
        nonlinear.append(layer.nonlinear)
        np.testing.assert_array_equal(alpha(layer)[~layer.nonlinear], 1)
    assert all((later <= earlier).all() for earlier, later in itertools.pairwise(nonlinear))
    assert 3 <= (~nonlinear[-1]).sum() < len(SLOPES)


def test_a_slope_on_the_threshold_is_nonlinear():
    """Linear is what is nearer to 1 than the threshold. All numbers here are exact."""
    layer = SparsePReLU(linear_threshold=0.25, alpha_initializer=keras.initializers.Constant(0.75))
    layer.build((None, 1))
    assert layer.nonlinear.tolist() == [True]
    for slope, pinned in ((0.75, 0.75), (0.7500001, 1.0)):
        value = layer.alpha.constraint(keras.ops.convert_to_tensor([slope], dtype="float32"))
        assert keras.ops.convert_to_numpy(value).tolist() == [pinned]


@pytest.mark.parametrize("threshold", [0.0, 0.125])
def test_slopes_that_are_held_stay_on_their_side_of_the_window(threshold):
    layer = SparsePReLU(linear_threshold=threshold)
    slopes = np.array([0.5, 0.875, 0.95, 1.0, 1.05, 1.125, 2.0], "float32")
    layer.build((None, 7))
    layer.side.assign(np.full(7, HELD))
    margin = threshold + 2.0**-7
    expected = slopes.copy()
    expected[3] = 1 - margin
    if threshold:
        expected[2], expected[4] = 1 - margin, 1 + margin
    np.testing.assert_array_equal(ops.convert_to_numpy(layer.alpha.constraint(slopes)), expected)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(layer.side.constraint(layer.side)), np.full(7, HELD)
    )


def test_numpy_arrays_without_the_state_of_the_layer():
    layer = SparsePReLU()
    layer.build((None, 2))
    state = [[np.float32([0.5, 1.0]), np.zeros(2, "float32")], []]
    outputs, _ = layer.stateless_call(*state, np.float32([[-2.0, -2.0], [3.0, 4.0]]))
    assert keras.ops.convert_to_numpy(outputs).tolist() == [[-1.0, -2.0], [3.0, 4.0]]
