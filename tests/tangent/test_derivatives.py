import gc
import os
import re
import subprocess
import sys
import weakref
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_nladv
from keras_nladv.tangent import jvp, vjp
from tests.cases import once, once_but
from tests.tangent.reference import (
    MODELS,
    change,
    directions,
    example,
    functional,
    numbers,
    sequential,
)


@pytest.mark.parametrize("name", once_but(MODELS, ["conv2d", "slopes"]))
def test_finite_differences(name, double):
    model, x = example(name)
    tangents = directions(model)
    outputs, derivative = map(numbers, jvp(model, x, tangents))
    expected, accuracy = change(model, x, tangents)
    close = {"rtol": accuracy, "atol": accuracy * np.abs(expected).max()}
    np.testing.assert_allclose(outputs, numbers(model(x)), rtol=1e-6)
    np.testing.assert_allclose(derivative, expected, **close)

    cotangents = np.random.default_rng(2).normal(size=outputs.shape)
    again, gradients = vjp(model, x, cotangents)
    np.testing.assert_allclose(numbers(again), outputs, rtol=1e-6)
    assert [tuple(each.shape) for each in gradients] == [each.shape for each in tangents]
    products = [np.vdot(numbers(each), tangent) for each, tangent in zip(gradients, tangents)]
    assert sum(products) == pytest.approx(np.vdot(cotangents, expected), rel=10 * accuracy)


def test_chosen_variables():
    model, x = example("normalization")
    norm = model.layers[1]
    chosen = [norm.gamma, norm.moving_mean]
    rng = np.random.default_rng(0)
    tangents = [rng.normal(size=each.shape) for each in chosen]
    outputs, derivative = map(numbers, jvp(model, x, tangents, chosen))
    cotangents = rng.normal(size=outputs.shape)
    gradients = vjp(model, x, cotangents, chosen)[1]
    products = [np.vdot(numbers(each), tangent) for each, tangent in zip(gradients, tangents)]
    assert sum(products) == pytest.approx(np.vdot(cotangents, derivative), abs=1e-3)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", once("mixed_float16"), once("bfloat16")])
def test_half_precision(policy):
    model, x = example("conv2d")
    half = keras.models.clone_model(
        model,
        clone_function=lambda layer: type(layer).from_config(
            layer.get_config() | {"dtype": policy}
        ),
    )
    half.set_weights(model.get_weights())
    tangents = directions(model)
    expected = numbers(jvp(model, x, tangents)[1])
    outputs, derivative = jvp(half, x, tangents)
    assert keras.backend.standardize_dtype(outputs.dtype) == policy.removeprefix("mixed_")
    scale = np.abs(expected).max()
    derivative = numbers(ops.cast(derivative, "float32"))
    np.testing.assert_allclose(derivative, expected, atol=5e-2 * scale)
    ones = np.ones(derivative.shape)
    for got, wanted in zip(vjp(half, x, ones)[1], vjp(model, x, ones)[1]):
        got, wanted = numbers(ops.cast(got, "float32")), numbers(wanted)
        np.testing.assert_allclose(got, wanted, atol=5e-2 * np.abs(wanted).max())


def test_inputs_by_name():
    first, second = keras.Input((2,), name="b"), keras.Input((3,), name="a")
    model = keras.Model([first, second], layers.Dense(1)(layers.concatenate([first, second])))
    x = {"b": np.ones((4, 2)), "a": np.full((4, 3), 2.0)}
    gradient = numbers(vjp(model, x, np.ones((4, 1)))[1][0])
    assert gradient.ravel().tolist() == [4.0, 4.0, 8.0, 8.0, 8.0]


def test_functions_are_compiled_once():
    calls = []

    class Counting(layers.Dense):
        def call(self, inputs):
            calls.append(inputs)
            return super().call(inputs)

    model = sequential((2,), Counting(1))
    for scale in (1.0, 2.0):
        model.set_weights([np.full((2, 1), scale), np.zeros(1)])
        calls.clear()
        outputs, _ = jvp(model, np.ones((3, 2)), [np.ones((2, 1)), np.zeros(1)])
        np.testing.assert_allclose(numbers(outputs), np.full((3, 1), 2 * scale))
    # Only torch runs the layer again.
    assert len(calls) == (keras.backend.backend() == "torch")


def test_models_are_not_kept():
    model, x = example("dense")
    jvp(model, x, directions(model))
    kept = weakref.ref(model)
    del model
    gc.collect()
    assert kept() is None


class Rounded(layers.Layer):
    def call(self, inputs):
        return ops.round(inputs)


class Averaging(layers.Layer):
    def build(self, shape):
        self.mean = self.add_weight(name="mean", shape=(), trainable=False)
        self.bias = self.add_weight(name="bias", shape=())

    def call(self, inputs):
        self.mean.assign(ops.mean(inputs))
        return inputs + self.bias


class Unseeded(layers.Layer):
    def call(self, inputs):
        return inputs + keras.random.normal(ops.shape(inputs))


class Pair(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, inputs):
        outputs = self.dense(inputs)
        return {"first": outputs, "second": outputs}


class Training(layers.Layer):
    """A layer that always runs as it does in training."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs, training=True)


def built(model):
    model(np.ones((1, 2)))
    return model


def frozen():
    model = sequential((2,), layers.Dense(2))
    model.trainable = False
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Dense(2), "`model` must be a Keras model. Received: <Dense"),
        (lambda: keras.Sequential([layers.Dense(2)], name="raw"), "'raw' must be built"),
        (frozen, "has no trainable variables"),
        (lambda: built(Pair()), "one tensor. Received: a dict of 2"),
        (lambda: functional(layers.Flatten(), (2,)), "has no trainable variables"),
        (
            lambda: sequential((2,), layers.Dense(2), Training(layers.Dropout(0.5))),
            "draws random numbers",
        ),
        (
            lambda: sequential((2,), layers.Dense(2), Training(layers.BatchNormalization())),
            "moving_mean' whenever it runs",
        ),
        (lambda: sequential((2,), layers.Dense(2), Averaging()), r"mean' whenever it runs"),
        (
            lambda: sequential((2,), layers.Dense(2), Unseeded()),
            "(draws random numbers|only use seeded random ops)",
        ),
        (
            lambda: sequential((2,), layers.Dense(2, name="cut"), Rounded(), layers.Dense(2)),
            "derivative with respect to its variable '.*cut/kernel'",
        ),
        (
            lambda: functional(lambda x: ops.argmax(layers.Dense(2)(x), keepdims=True), (2,)),
            "must put out floats",
        ),
        (
            lambda: functional(lambda x: ops.stop_gradient(layers.Dense(2)(x)), (2,)),
            "rounds, compares or stops gradients",
        ),
    ],
)
def test_bad_model(make, message):
    with pytest.raises(ValueError, match=message):
        vjp(make(), np.ones((1, 2)), np.ones((1, 2)))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((3, 5)), r"`x` must have examples of shape \(4,\) .* Received: \(5,\)"),
        (np.ones((3, 4, 1)), r"Received: \(4, 1\)"),
        (np.ones((3, 4), int), "`x` must be floats .* Received: dtype=int"),
        (np.ones((0, 4)), "at least one example"),
        (np.float32(1.0), "at least one example"),
        ([np.ones((3, 4)), np.ones((3, 4))], "`x` must be the 1 inputs"),
        ([np.ones((3, 4)), np.ones((2, 4))], "as many in each input"),
    ],
)
def test_bad_inputs(x, message):
    with pytest.raises(ValueError, match=message):
        vjp(example("dense")[0], x, np.ones((3, 2)))


def test_bad_directions():
    model, x = example("dense")
    tangents = directions(model)
    with pytest.raises(ValueError, match=r"`tangents` must have the shapes of the variables"):
        jvp(model, x, tangents[:-1])
    with pytest.raises(ValueError, match=r"`tangents` .* Received: \[\(3, 4\)"):
        jvp(model, x, [each.T for each in tangents])
    with pytest.raises(ValueError, match=r"outputs, \(3, 2\). Received: \(2, 3\)"):
        vjp(model, x, np.ones((2, 3)))
    with pytest.raises(ValueError, match="`variables` must be variables of model"):
        vjp(model, x, np.ones((3, 2)), [keras.Variable(1.0)])
    dropout = sequential((4,), layers.Dense(2), layers.Dropout(0.5))
    with pytest.raises(ValueError, match=r"`variables` must be floats,.* of dtype u?int"):
        vjp(dropout, x, np.ones((3, 2)), [dropout.variables[-1]])


def test_another_backend():
    pytest.importorskip("jax", reason="Keras' backend numpy needs JAX.")
    script = """
import keras, numpy as np
import keras_nladv
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
try:
    keras_nladv.tangent.vjp(model, np.ones((1, 2)), np.ones((1, 1)))
except NotImplementedError as error:
    print(error)
"""
    environment = {**os.environ, "KERAS_BACKEND": "numpy"}
    command = [sys.executable, "-c", script]
    printed = subprocess.check_output(command, env=environment, text=True, timeout=120)
    assert "jax, torch and tensorflow. Received: numpy" in printed


def test_one_module_imports_a_backend():
    """Besides the engines, which convert what a backend has."""
    package = Path(keras_nladv.__file__).parent
    backends = re.compile(r"^ *(import|from) (jax|torch|tensorflow)\b", re.MULTILINE)
    importing = [path for path in package.rglob("*.py") if backends.search(path.read_text())]
    others = [path.name for path in importing if path.parent.name != "engines"]
    assert others == ["differentiation.py"]
