"""What every function says of a model that it cannot take."""

import sys
import types

import keras
import numpy as np
import pytest
from keras import layers

from keras_nladv import (
    collapse,
    collapse_plan,
    core_image,
    nonlinearity_report,
    path_length,
    prune,
    sparsify,
    tangent,
)

pytestmark = pytest.mark.once

X = np.ones((2, 4), "float32")
TAKERS = [
    *(sparsify, collapse, collapse_plan, path_length, nonlinearity_report, core_image),
    lambda model: prune(model, 0.5),
    lambda model: tangent.empirical_ntk(model, X),
    lambda model: tangent.jvp(model, X, []),
    tangent.LinearizedModel,
    lambda model: tangent.IterativeLinearization(model, 1),
    tangent.NeuralTangentTransfer,
]


@pytest.fixture
def of_keras_2():
    """A model of a class that says what those of `tf_keras` say."""
    base = type("Model", (), {"__module__": "tf_keras.src.engine.training", "name": "old"})
    return type("Mine", (base,), {})()


@pytest.mark.parametrize("take", TAKERS)
def test_models_of_keras_2_are_told_from_others(take, of_keras_2):
    with pytest.raises(ValueError, match=r"model of Keras 3. Received: 'old'.*load_model"):
        take(of_keras_2)
    with pytest.raises(ValueError, match=r"`model` must be a Keras model. Received: 3"):
        take(3)


def test_a_sequential_model_with_a_layer_that_does_not_say_its_shape(monkeypatch):
    class Opaque(layers.Layer):
        """As `TorchModuleWrapper`: it computes on real tensors only."""

        def call(self, x):
            return 2.0 * x

        def compute_output_spec(self, *args, **kwargs):
            raise NotImplementedError

    model = keras.Sequential([keras.Input((4,)), Opaque(), layers.ReLU()])
    assert model.built
    for take in TAKERS[:7]:
        with pytest.raises(ValueError, match=r"'sequential.*' has none.*compute_output_shape"):
            take(model)


def test_the_star_brings_public_names_only():
    module = types.ModuleType("everything")
    exec("from keras_nladv import *", vars(module))
    brought = {name for name in vars(module) if not name.startswith("__")}
    public = {
        name
        for name, each in vars(sys.modules["keras_nladv"]).items()
        if not name.startswith("_") and not isinstance(each, types.ModuleType)
    }
    assert brought == public | {"tangent"}
