"""Linear units of SiLU, GELU and others that are told by the sizes of weights."""

from typing import ClassVar

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from keras_nladv import (
    CollapsePlan,
    SparsePReLU,
    collapse,
    collapse_plan,
    nonlinearity_report,
    path_length,
    register_engine,
)
from keras_nladv.engines import Engine
from keras_nladv.graph.around_zero import STRAIGHT
from keras_nladv.merging.surgeon import Surgeon
from tests.cases import once

from .test_collapse import difference, randomized

FUNCTIONS = ["silu", "gelu", "hard_silu", "tanh", "sigmoid", "relu", "relu6", "hard_tanh"]
# What becomes an operation, at which masks end.
OPERATIONS = ("sigmoid", "relu", "relu6", "hard_tanh")


def by_factors(model, engine="onnxruntime", **setting):
    """A model collapsed with nothing merged, and written as an engine likes it."""
    plan = CollapsePlan([], Surgeon(model).fingerprint(), "time", {"engine": engine, **setting})
    return collapse(model, plan)


def mlp(function):
    inputs = keras.Input((6,))
    x = SparsePReLU(activation=function)(layers.Dense(16)(inputs))
    x = SparsePReLU(activation=function)(layers.Dense(12)(x))
    return keras.Model(inputs, layers.Dense(3)(x))


def transformer_block(function):
    inputs = keras.Input((5, 8))
    x = layers.LayerNormalization()(layers.Masking()(inputs))
    x = SparsePReLU(activation=function)(layers.Dense(32)(x))
    return keras.Model(inputs, layers.Add()([inputs, layers.Dense(8)(x)]))


def inverted_residuals(function):
    """With padding before strides, and a squeeze and excitation."""
    inputs = x = keras.Input((11, 11, 4))
    for strides in (1, 2):
        y = layers.BatchNormalization()(layers.Conv2D(8, 1, use_bias=False)(x))
        y = SparsePReLU(activation=function)(y)
        if strides == 2:
            y = layers.ZeroPadding2D(((0, 1), (0, 1)))(y)
        padding = "same" if strides == 1 else "valid"
        y = layers.DepthwiseConv2D(3, strides, padding=padding, use_bias=False)(y)
        y = SparsePReLU(activation=function)(layers.BatchNormalization()(y))
        gate = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(y))
        gate = SparsePReLU(activation=function)(layers.Conv2D(3, 1)(gate))
        gate = SparsePReLU(activation="sigmoid")(layers.Conv2D(8, 1)(gate))
        x = layers.Conv2D(4, 1)(layers.Multiply()([y, gate]))
    return keras.Model(inputs, x)


def pooled(function):
    """Two readers of one activation, one of them behind a pooling."""
    inputs = keras.Input((8, 8, 3))
    x = SparsePReLU(activation=function)(layers.Conv2D(6, 3, padding="same")(inputs))
    y = layers.Conv2D(5, 3)(layers.MaxPooling2D()(x))
    z = layers.Dense(2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, [y, z])


def padded_pooling(function):
    inputs = keras.Input((7, 7, 3))
    x = SparsePReLU(activation=function)(layers.Conv2D(6, 3)(inputs))
    x = layers.AveragePooling2D(3, 2, padding="same")(x)
    return keras.Model(inputs, layers.Conv2D(4, 1)(x))


def squared(function):
    inputs = keras.Input((4,))
    x = SparsePReLU(activation=function)(layers.Dense(6)(inputs))
    return keras.Model(inputs, layers.Dense(3)(layers.Multiply()([x, x])))


NETWORKS = [mlp, transformer_block, inverted_residuals, pooled, squared]


def counts(model):
    return [(row["units"], row["nonlinear"]) for row in nonlinearity_report(model).rows]


def assert_same(found, model, tolerance):
    """Numbers, large ones too, path lengths, and which units are nonlinear."""
    x = np.random.default_rng(0).normal(size=(4, *model.input_shape[1:])).astype("float32")
    for scale in (1.0, 30.0):
        for right, actual in zip(*(keras.tree.flatten(each(scale * x)) for each in (model, found))):
            right, actual = map(keras.ops.convert_to_numpy, (right, actual))
            assert np.abs(right - actual).max() < tolerance * np.abs(right).max()
    assert path_length(found) == pytest.approx(path_length(model))
    assert counts(found) == counts(model)


EVERYWHERE = [(inverted_residuals, "silu"), (transformer_block, "gelu"), (mlp, "hard_silu")]
ONCE = [
    once(network, function)
    for network in NETWORKS
    for function in FUNCTIONS
    if (network, function) not in EVERYWHERE
    and not (network is transformer_block and function in OPERATIONS)
    # The product would be too small.
    and not (network is squared and function in OPERATIONS[1:])
]


@pytest.mark.parametrize(("network", "function"), [*EVERYWHERE, *ONCE])
def test_they_cost_nothing(network, function):
    """The network is that without linear units, and path lengths know them all the same."""
    model, plain = (randomized(network(function), share) for share in (0.5, 0.0))
    found, expected = by_factors(model), by_factors(plain)
    made = [type(x).__name__ for x in found.operations]
    if function == "sigmoid" or network is inverted_residuals:
        # What a sigmoid has more than a hyperbolic tangent.
        made = [each for each in made if each != "Add"]
    # In the layers themselves the bounds of others are, where all units are nonlinear.
    made = [each for each in made if each != "Clip"]
    assert made == [type(x).__name__ for x in expected.operations]
    assert_same(found, model, 2e-6)


CLIPPED = [
    once(network, function)
    for network in (mlp, inverted_residuals, pooled, padded_pooling)
    for function in ("relu6", "hard_tanh")
    if (network, function) != (inverted_residuals, "relu6")
]


@pytest.mark.parametrize(("network", "function"), [(inverted_residuals, "relu6"), *CLIPPED])
def test_bounds_of_minus_one_and_one(network, function):
    """Where a layer has weights and no padding, all that is clipped is so; else 0 is a bound more
    of what begins there."""
    model = randomized(network(function), 0.5)
    found = by_factors(model, "litert", for_int8=False)
    assert {(x.x_min, x.x_max) for x in found.operations if type(x).__name__ == "Clip"} == {
        (-1.0, 1.0)
    }
    made = [type(x).__name__ for x in found.operations if "gate" not in x.name]
    with_another = 0
    if function == "relu6":
        # Before padded convolutions, products, and poolings that pad.
        with_another = {inverted_residuals: 4, padded_pooling: 1}.get(network, 0)
    assert made.count("Maximum") == with_another
    assert not {"Minimum", "Where"} & set(made)
    assert_same(found, model, 5e-6)


@pytest.mark.once
@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_numbers_that_would_be_rounded_away_are_not_centered(scale):
    model = randomized(mlp("relu6"), 0.5)
    for layer, factor in zip(model.layers[1::2], (scale, 1.0, 1 / scale)):
        layer.kernel.assign(factor * layer.kernel)
        layer.bias.assign(np.zeros(layer.bias.shape))
    found = by_factors(model, "litert", for_int8=False)
    assert difference(model, found, (4, 6)) < 1e-5
    made = [type(x).__name__ for x in found.operations]
    assert made.count("Clip") == 2
    assert made.count("Maximum") == (0 if scale == 1.0 else 2)


def merged_to_a_padded_one():
    """A convolution that is padded as soon as it is merged with the next."""
    inputs = keras.Input((6, 6, 3))
    x = SparsePReLU(activation="relu6", name="clipped")(layers.Conv2D(8, 1)(inputs))
    x = layers.Conv2D(8, 1, use_bias=False, name="one")(x)
    x = SparsePReLU(alpha_initializer="ones")(x)
    return keras.Model(inputs, layers.Conv2D(4, 3, padding="same", name="two")(x))


@pytest.mark.once
def test_what_merging_has_made_impossible_is_in_the_next_form():
    model = merged_to_a_padded_one()
    slopes = np.arange(8) % 2 * 1.0
    model.get_layer("clipped").alpha.assign(slopes)
    setting = {"engine": "litert", "for_int8": False}
    found = {}
    for name in (None, "one + two"):
        rows = [{"round": 1, "name": name, "outcome": "taken"}] if name else []
        plan = CollapsePlan(rows, Surgeon(model).fingerprint(), "time", setting)
        collapsed = collapse(model, plan)
        assert difference(model, collapsed, (2, 6, 6, 3)) < 1e-5
        assert path_length(collapsed) == pytest.approx(path_length(model))
        found[name] = [type(x).__name__ for x in collapsed.operations[2:4]]
    assert found == {None: ["Clip", "Conv2D"], "one + two": ["Clip", "Maximum"]}


def test_a_saved_one_is_the_same(tmp_path):
    model = randomized(inverted_residuals("silu"), 0.5)
    found = by_factors(model)
    found.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert difference(found, loaded, (2, 11, 11, 4)) == 0
    assert counts(loaded) == counts(model)
    assert path_length(loaded) == pytest.approx(path_length(model))


@pytest.mark.once
@pytest.mark.parametrize(
    "function", STRAIGHT, ids=lambda each: f"{each.__module__}.{each.__name__}"
)
def test_functions_are_straight_around_zero(function):
    x = np.random.default_rng(0).normal(0, 30, 1000).astype("float32")
    small, slope = STRAIGHT[function]
    y = keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(small * x)))
    np.testing.assert_allclose(y, slope * small * x, rtol=1e-6)


def smallest(model):
    """The smallest of the weights that are not zero."""
    return min(np.abs(w[w != 0]).min(initial=1.0) for w in model.get_weights())


def added(x, inputs):
    return layers.Add()([x, layers.Conv2D(6, 1)(inputs)])


BARRIERS = {
    "output": lambda x, inputs: x,
    "added": added,
    "normalized": lambda x, inputs: layers.LayerNormalization()(x),
    "batch_normalized": lambda x, inputs: layers.BatchNormalization()(layers.Add()([x, x])),
    "cubed": lambda x, inputs: layers.Conv2D(2, 1)(layers.Multiply()([x, x, x])),
    "flattened": lambda x, inputs: layers.Dense(2)(layers.Flatten()(x)),
    "split": lambda x, inputs: layers.Conv2D(2, 1)(keras.ops.split(x, 2, axis=-1)[0]),
    "reshaped": lambda x, inputs: layers.Dense(2)(layers.Reshape((10, 15))(x)),
    "half": lambda x, inputs: layers.Conv2D(2, 1, dtype="mixed_float16")(x),
    "half_pooled": lambda x, inputs: layers.Conv2D(2, 1)(
        layers.AveragePooling2D(2, dtype="float16")(x)
    ),
    "permuted": lambda x, inputs: layers.Dense(2)(layers.Permute((1, 3, 2))(x)),
}


@pytest.mark.once
@pytest.mark.parametrize("name", BARRIERS)
def test_what_takes_them_has_to_be_a_layer_with_weights(name):
    inputs = keras.Input((5, 5, 4))
    x = SparsePReLU(activation="silu")(layers.Conv2D(6, 1)(inputs))
    model = randomized(keras.Model(inputs, BARRIERS[name](x, inputs)), 0.5)
    found = by_factors(model)
    assert smallest(found) > 1e-6
    tolerance = 2e-2 if name.startswith("half") else 1e-5
    assert difference(model, found, (2, 5, 5, 4)) < tolerance
    assert path_length(found) == pytest.approx(path_length(model))


MAKERS = {
    "inputs": lambda x: x,
    "normalized": lambda x: layers.BatchNormalization()(layers.MaxPooling2D(1)(x)),
    "half": lambda x: layers.Conv2D(4, 1, dtype="mixed_bfloat16")(x),
}


@pytest.mark.once
@pytest.mark.parametrize("name", MAKERS)
def test_what_makes_them_has_to_be_a_layer_with_weights(name):
    inputs = keras.Input((5, 5, 4))
    dtype = "mixed_bfloat16" if name == "half" else None
    x = SparsePReLU(activation="silu", dtype=dtype)(MAKERS[name](inputs))
    model = randomized(keras.Model(inputs, layers.Conv2D(3, 1, dtype=dtype)(x)), 0.5)
    found = by_factors(model)
    assert smallest(found) > 1e-6
    assert difference(model, found, (2, 5, 5, 4)) < (2e-2 if name == "half" else 1e-5)


@pytest.mark.once
@pytest.mark.parametrize("slopes", [(0.25,), (0.25, 0.5)])
def test_slopes_between_are_another_form(slopes):
    model = randomized(mlp("gelu"), 0.5, slopes=slopes)
    found = by_factors(model)
    assert smallest(found) > 1e-6
    assert difference(model, found, (4, 6)) < 1e-6


@pytest.mark.once
def test_a_map_with_other_readers_is_another_form():
    inputs = keras.Input((6,))
    x = layers.Dense(8)(inputs)
    y = layers.Dense(3)(SparsePReLU(activation="silu")(x))
    model = randomized(keras.Model(inputs, [x, y]), 0.5)
    assert smallest(by_factors(model)) > 1e-6


@pytest.mark.once
def test_of_a_gated_depthwise_convolution_they_are_in_one_of_two_forms():
    """Behind a product its own units could not be told from others by the sizes of its weights."""
    inputs = keras.Input((5, 5, 4))
    x = SparsePReLU(activation="silu", name="one")(layers.Conv2D(6, 1)(inputs))
    x = layers.Multiply()([x, layers.Conv2D(6, 1, activation="sigmoid")(inputs)])
    x = SparsePReLU(activation="silu", name="two")(layers.DepthwiseConv2D(3)(x))
    model = randomized(keras.Model(inputs, layers.Conv2D(3, 1)(x)), 0.5)
    found = by_factors(model)
    assert difference(model, found, (2, 5, 5, 4)) < 1e-6
    assert path_length(found) == pytest.approx(path_length(model))
    assert smallest(found) < 1e-6


@pytest.mark.once
@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow has none on a CPU.")
def test_channels_first():
    inputs = keras.Input((4, 9, 9))
    common = {"data_format": "channels_first"}
    x = SparsePReLU(1, activation="silu")(layers.Conv2D(6, 3, **common)(inputs))
    x = layers.DepthwiseConv2D(3, **common)(layers.AveragePooling2D(1, **common)(x))
    x = layers.Conv2D(3, 1, **common)(SparsePReLU(1, activation="silu")(x))
    model = randomized(keras.Model(inputs, x), 0.5)
    found = by_factors(model)
    assert difference(model, found, (2, 4, 9, 9)) < 1e-6
    assert path_length(found) == pytest.approx(path_length(model))
    assert smallest(found) < 1e-6


@pytest.mark.once
def test_layers_that_would_lose_them_are_not_trained():
    model = randomized(mlp("silu"), 0.5)
    found = by_factors(model)
    assert [layer.trainable for layer in found.layers[1:]] == [False, False, True]
    assert all(layer.trainable for layer in by_factors(randomized(mlp("silu"), 0.0)).layers)


@pytest.mark.once
def test_engines_that_do_not_like_them_have_none():
    model = randomized(mlp("silu"), 0.5)
    for engine in ("keras", "litert", None):
        assert smallest(by_factors(model, engine)) > 1e-6
        assert smallest(by_factors(model, engine, for_int8=True)) > 1e-6
        stays = by_factors(model, engine, for_int8=False)
        assert (smallest(stays) < 1e-6) == (engine is not None)
        assert difference(model, stays, (4, 6)) < 1e-6


class Liking(Engine):
    """Likes linear units by factors, and takes as long for anything."""

    name = "liking"
    packages: ClassVar = dict.fromkeys(("jax", "torch", "tensorflow"), ("keras",))
    forms = ("scaled", *Engine.forms)
    clock: ClassVar = None

    @classmethod
    def version(cls):
        return "1"

    def convert(self, model):
        self.shapes = [[n or 2 for n in output.shape] for output in model.outputs]

    def run(self, arrays):
        self.clock.now += 1e-3
        return [np.zeros(shape) for shape in self.shapes]


@pytest.mark.once
@pytest.mark.parametrize("for_int8", [False, True])
def test_not_for_int8(for_int8, tmp_path, clock, monkeypatch):
    """Nor in what is made of the plan later on."""
    monkeypatch.setattr(Liking, "clock", clock)
    register_engine("liking", Liking)
    model = randomized(mlp("silu"), 0.5)
    plan = collapse_plan(model, engine="liking", for_int8=for_int8, verbose=False)
    assert not any(plan.taken)
    plan.save(tmp_path / "plan.json")
    loaded = CollapsePlan.load(tmp_path / "plan.json")
    for found in (collapse(model, loaded), collapse(model, engine="liking", for_int8=for_int8)):
        assert (smallest(found) > 1e-6) == for_int8
        assert difference(model, found, (4, 6)) < 1e-6


def dense_layer(weights, trainable):
    inputs = keras.Input((3,))
    layer = layers.Dense(4, activation="silu", trainable=trainable)
    model = keras.Model(inputs, layer(inputs))
    layer.set_weights(weights)
    return model


@pytest.mark.once
def test_only_such_layers_are_told():
    """Not pruned units, not what is trained, nor what is small throughout."""
    kernel = np.random.default_rng(0).normal(size=(3, 4))
    kernel[:, 0] = 0
    bias = np.array([0, 1, 0, 0])
    for weights in ([kernel, bias], [2.0**-34 * kernel, bias], [kernel, 2.0**-34 * bias]):
        assert path_length(dense_layer(weights, False)) == 1
    kernel[:, 3] *= 2.0**-34
    assert path_length(dense_layer([kernel, bias], True)) == 1
    assert path_length(dense_layer([kernel, bias], False)) == 0.75
    # What is added is not small.
    assert path_length(dense_layer([kernel, bias[::-1].copy() + 1], False)) == 1


@settings(max_examples=15)
@given(st.data())
@pytest.mark.once
def test_any_chain(data):
    """Path lengths and numbers are the same, whatever is in a row."""
    inputs = x = keras.Input((6, 6, 3))
    kinds = ["conv", "depthwise", "pool", "norm", "gate", "bound", "units"]
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(kinds))
        if kind == "conv":
            x = layers.Conv2D(data.draw(st.integers(2, 5)), 3, padding="same")(x)
        elif kind == "depthwise":
            x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x)
        elif kind == "pool":
            x = layers.AveragePooling2D(2, 1, padding="same")(x)
        elif kind == "norm":
            x = layers.BatchNormalization()(x)
        elif kind == "gate":
            gate = layers.Conv2D(x.shape[-1], 1)(layers.GlobalMaxPooling2D(keepdims=True)(x))
            x = layers.Multiply()([x, gate])
        elif kind == "bound":
            x = data.draw(st.sampled_from([ops.minimum, ops.maximum]))(x, 0.5)
        x = SparsePReLU(activation=data.draw(st.sampled_from([*FUNCTIONS, "relu"])))(x)
    model = keras.Model(inputs, layers.Dense(2)(x))
    model = randomized(model, data.draw(st.sampled_from([0.3, 0.7])), data.draw(st.integers(0, 99)))
    for setting in ({}, *({"engine": each, "for_int8": False} for each in ("litert", "keras"))):
        found = by_factors(model, **setting)
        assert difference(model, found, (2, 6, 6, 3)) < 1e-5
        assert path_length(found) == pytest.approx(path_length(model))
