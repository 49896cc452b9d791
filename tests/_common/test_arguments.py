"""What every function says of a model that it cannot take."""

import json
import sys
import types

import keras
import numpy as np
import pytest
from keras import layers

from keras_nladv import (
    LinearizationSchedule,
    NonlinearitySparsity,
    PathLengthCallback,
    SparsePReLU,
    collapse,
    collapse_plan,
    core_image,
    nonlinearity_report,
    path_length,
    prune,
    pruning,
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


def scalars(value):
    integral = isinstance(value, int)
    kinds = (np.int64, np.int8) if integral else (np.float64, np.float32, np.float16)
    return [*(kind(value) for kind in kinds), np.array(value)]


def public(made):
    return {name: value for name, value in vars(made).items() if not name.startswith("_")}


@pytest.mark.parametrize(
    ("take", "value"),
    [
        (lambda x: SparsePReLU(axis=x, name="a").get_config(), 1),
        (lambda x: SparsePReLU(axis=x, name="a").get_config(), -1),
        (lambda x: SparsePReLU(linear_threshold=x, name="a").get_config(), 0.25),
        (lambda x: NonlinearitySparsity(x, power=x).get_config(), 0.5),
        (lambda x: public(LinearizationSchedule(x, target_nonlinear_units=x)), 0.5),
        (lambda x: public(LinearizationSchedule(0.5, start_epoch=x, check_every=x)), 2),
        (lambda x: sparsify(model(), linear_threshold=x).layers[1].get_config(), 0.25),
        (lambda x: prune(model(), x).get_config()["layers"][1]["config"], 0.5),
        (lambda x: prune(model(), 0.5, rounds=x, seed=x).get_config()["layers"][1]["config"], 2),
        (lambda x: pruning.largest({"a": [1.0, 2.0]}, x)["a"].tolist(), 0.5),
        (lambda x: collapse(model(), cost="macs", size=x, batch_size=x).count_params(), 4),
        (lambda x: collapse(model(), cost="macs", tolerance=x).count_params(), 0.5),
        (lambda x: transfer(density=x, l2=x, ntk_strength=x), 0.5),
        (lambda x: transfer(mask_every=x, probes=x, seed=x), 2),
        (lambda x: tangent.empirical_ntk(model(), X, batch_size=x).tolist(), 1),
        (lambda x: tangent.estimate_ntk(model(), X, samples=x, seed=0, batch_size=x).norm, 2),
        (lambda x: tangent.IterativeLinearization(model(), x).period, 2),
        (lambda x: tangent.kernel_velocity(np.eye(2), np.ones((2, 2)), x), 0.5),
    ],
)
def test_numpy_scalars_are_numbers(take, value):
    expected = json.dumps(take(value), default=str)
    for scalar in scalars(value):
        assert json.dumps(take(scalar), default=str) == expected


FLAGS = [
    *(lambda x, name=name: path_length(model(), **{name: x}) for name in ("normalized", "weights")),
    lambda x: len(sparsify(model(), share_around_depthwise=x).layers),
    lambda x: isinstance(sparsify(model(), return_report=x), tuple),
    lambda x: collapse(model(), cost="macs", for_int8=x).count_params(),
    lambda x: str(collapse_plan(model(), cost="macs", verbose=x)),
    lambda x: public(PathLengthCallback(unnormalized=x, weights=x)),
    lambda x: public(LinearizationSchedule(0.5, target_nonlinear_units=0.5, exact_target=x)),
    lambda x: tangent.empirical_ntk(model(), X, trace=x).tolist(),
    lambda x: tangent.NTKCallback(X, trace=x)._how,
    lambda x: public(tangent.IterativeLinearization(model(), 1, x, x))["jacobian_only"],
]


@pytest.mark.parametrize("take", FLAGS)
def test_flags_are_true_or_false(take):
    assert all(
        json.dumps(take(value), default=str) == json.dumps(take(flag), default=str)
        for flag in (True, False)
        for value in (np.bool_(flag), np.array(flag), int(flag))
    )
    for value in ("no", None, 2, np.array([True, False]), []):
        with pytest.raises(ValueError, match=r"` must be True or False\. Received: "):
            take(value)


@pytest.mark.parametrize(
    "take",
    [
        lambda x: SparsePReLU(granularity=x),
        lambda x: prune(model(), 0.5, scores=x),
        lambda x: tangent.empirical_ntk(model(), X, method=x),
        *(lambda x: SparsePReLU(linear_threshold=x), NonlinearitySparsity),
        *(LinearizationSchedule, lambda x: collapse(model(), cost="macs", tolerance=x)),
        lambda x: tangent.kernel_velocity(X, X, x),
    ],
)
def test_what_is_no_choice_and_no_number_is_named(take):
    for value in ([], {}, np.array(["layer", "random"]), np.zeros((2, 2)), -(10**400), 10**400):
        with pytest.raises(ValueError, match=r"^`\w+` must be [\s\S]*\. Received: \w+="):
            take(value)


def test_a_strength_that_is_infinite_in_float32():
    regularizer = NonlinearitySparsity(1e30)
    with pytest.raises(ValueError, match=r"`strength` must be a finite .*, in float32, too"):
        regularizer.strength = 1e39
    assert np.isfinite(float(regularizer(np.ones(2, "float32"))))


def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((4,), name="x"), layers.Dense(3, "relu", name="a"), layers.Dense(1, name="b")],
        name="net",
    )


def transfer(**options):
    config = tangent.NeuralTangentTransfer(model(), name="transfer", **options).get_config()
    return {key: value for key, value in config.items() if key != "model"}
