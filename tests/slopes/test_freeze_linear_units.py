"""Loops with optimizers that know no constraints."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_nladv import (
    LinearizationSchedule,
    NonlinearitySparsity,
    PathLengthCallback,
    SparsePReLU,
    freeze_linear_units,
    prune,
)

to_numpy = ops.convert_to_numpy
SLOPES = np.array([0.985, 0.95, 0.9, 0.8, 1.02, 1.1, 0.0, -1.0], "float32")


def make_model(**kwargs):
    layer = SparsePReLU(alpha_regularizer=NonlinearitySparsity(0.0), **kwargs)
    inputs = keras.Input((len(SLOPES),))
    # Called twice, and one that is a part of another layer.
    outputs = keras.layers.Dense(2, activation=SparsePReLU())(layer(layer(inputs)))
    model = keras.Model(inputs, outputs)
    layer.alpha.assign(SLOPES)
    return model, layer


def pressure(layer):
    """The gradient of the slopes, by hand."""
    distance = 1 - to_numpy(layer.alpha.value)
    away = distance != 0
    size = np.sqrt(np.abs(np.where(away, distance, 1)))
    return np.where(away, -0.5 * np.sign(distance) / size, 0).astype("float32")


class ByHand:
    """SGD with momentum, as libraries have it that know nothing of Keras."""

    velocity = 0.0

    def step(self, layer):
        self.velocity = 0.9 * self.velocity - 0.01 * pressure(layer)
        layer.alpha.assign(to_numpy(layer.alpha.value) + self.velocity)


@pytest.mark.parametrize("constraint", [None, keras.constraints.NonNeg()])
def test_slopes_freeze_as_with_an_optimizer_of_keras(constraint):
    (model, layer), (_, expected) = (make_model(alpha_constraint=constraint) for _ in range(2))
    by_hand, by_keras = ByHand(), keras.optimizers.SGD(0.01, momentum=0.9)
    trajectory = []
    for _ in range(12):
        by_hand.step(layer)
        freeze_linear_units(model)
        gradients = [ops.convert_to_tensor(pressure(expected)), ops.zeros(expected.side.shape)]
        by_keras.apply(gradients, [expected.alpha, expected.side])
        trajectory.append(to_numpy(layer.alpha.value))
        np.testing.assert_allclose(trajectory[-1], to_numpy(expected.alpha.value), atol=1e-6)
        np.testing.assert_array_equal(trajectory[-1] == 1, to_numpy(expected.alpha.value) == 1)
    linear = np.equal(trajectory, 1)
    assert (linear[1:] >= linear[:-1]).all()
    assert 3 <= linear[-1].sum() < len(SLOPES)
    np.testing.assert_array_equal(layer.nonlinear, ~linear[-1])


def test_pruned_weights_stay_zero():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), SparsePReLU()])
    model = prune(model, 0.5)
    kernel, bias = model.layers[0].weights
    moved = np.arange(1.0, 13).reshape(4, 3).astype("float32")
    pruned = to_numpy(kernel) == 0
    for variable in (kernel, bias):
        variable.assign(moved[: len(variable.shape)].sum() + variable)
    before = to_numpy(kernel)
    assert (before != 0).all()
    freeze_linear_units(model)
    np.testing.assert_array_equal(to_numpy(kernel), np.where(pruned, 0, before))
    assert (to_numpy(bias) != 0).all()
    # What is not trained is left alone.
    model.layers[0].trainable = False
    kernel.assign(moved)
    freeze_linear_units(model)
    np.testing.assert_array_equal(to_numpy(kernel), moved)


def test_weights_that_are_passed_through_functions():
    model, layer = make_model()
    near = ops.convert_to_tensor(np.array([0.995, *SLOPES[1:]], "float32"))
    values = [ops.copy(each.value) for each in model.trainable_variables]
    values[[each is layer.alpha for each in model.trainable_variables].index(True)] = near
    with keras.StatelessScope(zip(model.trainable_variables, values)) as scope:
        freeze_linear_units(model)
        alpha, side = map(scope.get_current_value, (layer.alpha, layer.side))
    np.testing.assert_array_equal(to_numpy(alpha), [1, *SLOPES[1:]])
    assert (to_numpy(side) != 0).all()
    np.testing.assert_array_equal(to_numpy(layer.alpha.value), SLOPES)
    np.testing.assert_array_equal(to_numpy(layer.side.value), 0)


def test_what_is_not_trained_is_left_alone():
    model, layer = make_model()
    layer.trainable = False
    freeze_linear_units(model)
    np.testing.assert_array_equal(to_numpy(layer.alpha.value), SLOPES)
    freeze_linear_units(SparsePReLU())  # not built


@pytest.mark.once
def test_what_is_no_model():
    with pytest.raises(ValueError, match=r"`model` must be a Keras model .*model\.module"):
        freeze_linear_units([make_model()[0]])


def train(model, callbacks, epochs=6):
    """What `fit` asks of callbacks, in a loop of a user's own."""
    by_hand = ByHand()
    callbacks = keras.callbacks.CallbackList(callbacks, model=model)
    callbacks.on_train_begin()
    for epoch in range(epochs):
        callbacks.on_epoch_begin(epoch)
        callbacks.on_train_batch_begin(0)
        by_hand.step(model.layers[1])
        yield
        callbacks.on_train_batch_end(0)
        callbacks.on_epoch_end(epoch, {})


CALLBACKS = {
    "schedule": lambda: [LinearizationSchedule(0.1)],
    "callback": lambda: [PathLengthCallback()],
    "both": lambda: [LinearizationSchedule(0.1), PathLengthCallback()],
}


@pytest.mark.parametrize("name", ["schedule", "callback", "both"])
def test_slopes_that_nothing_freezes_are_warned_of_once(name):
    model, layer = make_model()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            for _ in train(model, CALLBACKS[name]()):
                pass
    assert (to_numpy(layer.alpha.value) != 1).all()
    (warning,) = [str(x.message) for x in caught if "crossed" in str(x.message)]
    assert f"in layer {layer.name})" in warning
    assert "`keras_nladv.freeze_linear_units(model)`" in warning


def test_slopes_that_are_frozen_or_do_not_cross_are_not_warned_of():
    # Warnings are errors.
    model, layer = make_model()
    for _ in train(model, CALLBACKS["both"]()):
        freeze_linear_units(model)
    assert (to_numpy(layer.alpha.value) == 1).sum() >= 3
    # Slopes above 1 may be meant, and some are 1 from the start.
    model, layer = make_model()
    layer.alpha.assign(np.resize([1.5, 1.0], len(SLOPES)))
    for _ in train(model, CALLBACKS["both"](), epochs=1):
        pass
