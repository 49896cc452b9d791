"""Scores for pruning that are derivatives: SNIP and SynFlow."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_nladv import prune, tangent
from keras_nladv.pruning import prunable

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 5)).astype("float32")


def scored(scores, model):
    return list(map(ops.convert_to_numpy, scores(model, prunable(model))))


def perceptron(sizes=(4, 3), **kwargs):
    inputs = x = keras.Input(X.shape[1:])
    for size in sizes[:-1]:
        x = layers.Dense(size, "relu", bias_initializer="random_normal")(x)
    return keras.Model(inputs, layers.Dense(sizes[-1], bias_initializer="ones", **kwargs)(x))


def test_logit_snip():
    """By hand: L = sum f^2, with f = relu(x A + a) B + b."""
    model = perceptron()
    first, bias, second, shift = model.get_weights()
    hidden = X @ first + bias
    outputs = np.maximum(hidden, 0) @ second + shift
    inner = (2 * outputs @ second.T) * (hidden > 0)
    expected = [np.abs(first * (X.T @ inner))]
    expected.append(np.abs(second * (np.maximum(hidden, 0).T @ (2 * outputs))))
    for mine, theirs in zip(scored(tangent.snip(X), model), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        lambda y, f: -ops.take_along_axis(ops.log_softmax(f), ops.expand_dims(y, 1), axis=1),
    ],
)
def test_snip(loss):
    """By hand: the gradient of cross-entropy is that of a softmax, less the labels."""
    model = perceptron((3,))
    kernel, shift = model.get_weights()
    labels = np.array([0, 1, 2, 0, 1, 2])
    odds = np.exp(X @ kernel + shift)
    errors = odds / odds.sum(axis=1, keepdims=True) - np.eye(3)[labels]
    (mine,) = scored(tangent.snip(X, labels, loss), model)
    np.testing.assert_allclose(mine, np.abs(kernel * (X.T @ errors) / 6), rtol=1e-4, atol=1e-6)


def test_snip_needs_labels_and_loss():
    with pytest.raises(ValueError, match=r"given together, or none of them\. Received: y"):
        tangent.snip(X, np.zeros(6))
    with pytest.raises(ValueError, match="Received: no y and loss='mse'"):
        tangent.snip(X, loss="mse")


def test_synflow_sums_over_paths():
    model = perceptron((4, 4, 3), activation="relu")
    first, second, third = (np.abs(kernel) for kernel in model.get_weights()[::2])
    expected = [np.zeros_like(kernel) for kernel in (first, second, third)]
    for i, j, k, m in itertools.product(range(5), range(4), range(4), range(3)):
        path = first[i, j] * second[j, k] * third[k, m]
        for scores, edge in zip(expected, [(i, j), (j, k), (k, m)]):
            scores[edge] += path
    for mine, theirs in zip(scored(tangent.synflow, model), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4)


def test_synflow_is_conserved():
    """What flows into a layer of a chain flows out of it, also through normalization."""
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 3, use_bias=False)(inputs)
    x = layers.BatchNormalization(
        gamma_initializer="random_normal",
        beta_initializer="random_normal",
        moving_mean_initializer="random_normal",
    )(x)
    x = layers.DepthwiseConv2D(3, activation="relu", bias_initializer="ones")(x)
    x = layers.SeparableConv2D(5, 2, padding="valid")(layers.AveragePooling2D(2)(x))
    x = layers.EinsumDense("abc,cd->abd", (1, 3))(layers.Reshape((1, 5))(x))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    sums = [scores.sum() for scores in scored(tangent.synflow, model)]
    assert len(sums) == 6
    np.testing.assert_allclose(sums, sums[0], rtol=1e-4)


@pytest.mark.once
def test_synflow_leaves_paths_where_magnitudes_leave_none():
    model = perceptron((200, 200, 3))
    pruned = prune(model, 0.002, tangent.synflow, scope="global", rounds=100)
    with pytest.warns(UserWarning, match="channels"):
        prune(model, 0.002, scope="global")
    left = [np.count_nonzero(kernel) for kernel in pruned.get_weights()[::2]]
    assert sum(left) == round(0.002 * (5 * 200 + 200 * 200 + 200 * 3))
    assert min(left) > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: keras.Input((None, None, 1)), "must have known sizes"),
        (lambda: keras.Input((8, 8, 1)), "positive and finite. Received: 0.0"),
    ],
)
def test_models_through_which_nothing_flows(make, message):
    inputs = make()
    x = layers.Conv2D(2, 3, kernel_initializer="zeros")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(ValueError, match=message):
        scored(tangent.synflow, model)


def test_flow_that_is_too_large():
    inputs = x = keras.Input((64,))
    for _ in range(20):
        x = layers.Dense(64, kernel_initializer=keras.initializers.Constant(100.0))(x)
    with pytest.raises(ValueError, match=r"positive and finite\. Received: inf"):
        scored(tangent.synflow, keras.Model(inputs, x))


def test_synflow_leaves_out_the_statistics_of_normalization():
    """With a variance of 1 and a mean of 0, whatever they are, flow passes by |gamma|."""
    inputs = keras.Input((5,))
    norm = layers.BatchNormalization(epsilon=0.0)
    model = keras.Model(inputs, layers.Dense(2)(norm(layers.Dense(3)(inputs))))
    for weight in norm.weights:
        weight.assign(RNG.uniform(2.0, 3.0, 3))
    first, second = (np.abs(ops.convert_to_numpy(kernel.variable)) for kernel in prunable(model))
    inner = np.abs(ops.convert_to_numpy(norm.gamma)) * second.sum(axis=1)
    expected = [first * inner, second * (first.sum(axis=0) * inner / second.sum(axis=1))[:, None]]
    for mine, theirs in zip(scored(tangent.synflow, model), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5)
