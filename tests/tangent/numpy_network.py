"""A small network and its iterative linearization in NumPy, in float64."""

import keras
import numpy as np
from keras import layers

SHAPES = [(3, 5), (5,), (5, 2), (2,)]


def network():
    """The network in Keras, with random weights."""
    dense = layers.Dense(5, activation="tanh", bias_initializer="normal")
    # Outputs in float32 whatever the policy, as is usual.
    return keras.Sequential([keras.Input((3,)), dense, layers.Dense(2, dtype="float32")])


def outputs(weights, x):
    first, bias, second, shift = weights
    return np.tanh(x @ first + bias) @ second + shift


def flat(weights):
    return np.concatenate([np.ravel(weight) for weight in weights]).astype("float64")


def shaped(theta):
    ends = np.cumsum([np.prod(shape) for shape in SHAPES])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(theta, ends), SHAPES)]


def jacobian(theta, x):
    """Shape (n, 2, weights), by complex steps: exact to the last digits."""
    steps = theta + 1e-30j * np.eye(len(theta))
    return np.stack([outputs(shaped(step), x).imag / 1e-30 for step in steps], axis=-1)


def linearized(theta, point, x):
    return outputs(shaped(point), x) + jacobian(point, x) @ (theta - point)


def squared(y, f):
    """Gradient of the mean of squares."""
    return 2 * (f - y) / f.size


def cross_entropy(y, f):
    """Gradient of the mean cross-entropy of logits."""
    p = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
    return (p - np.eye(2)[y]) / len(y)


def trained(weights, batches, gradient, period, jacobian_only=False, momentum=0.0, reset=False):
    """The weights after a step of SGD with rate 0.2 on each batch."""
    theta = flat(weights)
    velocity = np.zeros_like(theta)
    for step, (x, y) in enumerate(batches):
        if step == 0 or (period and step % period == 0):
            point = theta
            velocity = velocity * (not reset)
        f = outputs(shaped(theta), x) if jacobian_only else linearized(theta, point, x)
        direction = np.einsum("nkp,nk->p", jacobian(point, x), gradient(y, f))
        velocity = momentum * velocity - 0.2 * direction
        theta = theta + velocity
    return shaped(theta)
