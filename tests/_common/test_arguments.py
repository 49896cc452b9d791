"""What every function says of a model that it cannot take."""

import importlib
import inspect
import json
import pkgutil
import sys
import types
from typing import ClassVar

import keras
import numpy as np
import pytest
from keras import layers

import keras_nladv
from keras_nladv import (
    LinearizationSchedule,
    NonlinearitySparsity,
    PathLengthCallback,
    SparsePReLU,
    collapse,
    collapse_plan,
    core_image,
    engines,
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


class Idle(engines.Engine):
    """An engine in which nothing runs."""

    packages: ClassVar = dict.fromkeys(("tensorflow", "jax", "torch"), ())

    def convert(self, model):
        pass

    def _verify(self, *_):
        self.verified = True


class IdleLiteRT(Idle, engines.LiteRT):
    packages: ClassVar = Idle.packages


# By the names of a function or class and of its argument.
FLAGS = {
    ("path_length", "normalized"): lambda x: path_length(model(), normalized=x),
    ("path_length", "weights"): lambda x: path_length(model(), weights=x),
    ("sparsify", "share_around_depthwise"): lambda x: len(
        sparsify(model(), share_around_depthwise=x).layers
    ),
    ("sparsify", "return_report"): lambda x: isinstance(sparsify(model(), return_report=x), tuple),
    ("collapse", "for_int8"): lambda x: collapse(model(), cost="macs", for_int8=x).count_params(),
    ("collapse_plan", "for_int8"): lambda x: str(collapse_plan(model(), cost="macs", for_int8=x)),
    ("collapse_plan", "verbose"): lambda x: str(collapse_plan(model(), cost="macs", verbose=x)),
    ("PathLengthCallback", "unnormalized"): lambda x: public(PathLengthCallback(unnormalized=x)),
    ("PathLengthCallback", "weights"): lambda x: public(PathLengthCallback(weights=x)),
    ("LinearizationSchedule", "exact_target"): lambda x: public(
        LinearizationSchedule(0.5, target_nonlinear_units=0.5, exact_target=x)
    ),
    ("empirical_ntk", "trace"): lambda x: tangent.empirical_ntk(model(), X, trace=x).tolist(),
    ("NTKCallback", "trace"): lambda x: tangent.NTKCallback(X, trace=x)._how,
    ("IterativeLinearization", "jacobian_only"): lambda x: (
        tangent.IterativeLinearization(model(), 1, jacobian_only=x).jacobian_only
    ),
    ("IterativeLinearization", "reset_optimizer"): lambda x: (
        tangent.IterativeLinearization(model(), 1, reset_optimizer=x).reset_optimizer
    ),
    ("Engine", "verify"): lambda x: hasattr(Idle(model(), verify=x), "verified"),
    ("Keras", "verify"): lambda x: type(engines.Keras(model(), verify=x)),
    ("LiteRT", "dynamic_range"): lambda x: IdleLiteRT(model(), dynamic_range=x).dynamic_range,
}


@pytest.mark.parametrize("argument", FLAGS)
def test_flags_are_true_or_false(argument):
    take = FLAGS[argument]
    assert all(
        json.dumps(take(value), default=str) == json.dumps(take(flag), default=str)
        for flag in (True, False)
        for value in (np.bool_(flag), np.array(flag), int(flag))
    )
    # Which of the two an engine would have may be left to it.
    none = () if argument[1] == "for_int8" else (None,)
    for value in ("no", *none, 2, np.array([True, False]), []):
        match = rf"`{argument[1]}` must be True or False\. Received: "
        with pytest.raises(ValueError, match=match):
            take(value)


def test_no_flag_is_left_out():
    """Those that public functions and classes have by themselves; subclasses inherit theirs."""
    rooms = [info.name for info in pkgutil.iter_modules(keras_nladv.__path__) if info.ispkg]
    found = set()
    for room in rooms:
        if room.startswith("_"):
            continue
        module = importlib.import_module(f"keras_nladv.{room}")
        for name, each in vars(module).items():
            if name.startswith("_") or not getattr(each, "__module__", "").startswith(
                "keras_nladv"
            ):
                continue
            made = vars(each).get("__init__") if isinstance(each, type) else each
            if callable(made):
                found |= {
                    (name, argument)
                    for argument, parameter in inspect.signature(made).parameters.items()
                    if isinstance(parameter.default, bool)
                    or parameter.annotation in (bool, bool | None)
                }
    assert found == set(FLAGS)


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
