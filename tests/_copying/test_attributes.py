"""What was set on layers after they were made, and what calls of theirs were given."""

import types

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_nladv import SparsePReLU, collapse, path_length, prune, sparsify
from tests.cases import once
from tests.swish import Swish

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
X[0] = 0.0


class Scaled(layers.Layer):
    """Says nothing of what is set later. With a weight of its own it is kept whole."""

    def __init__(self, is_whole, **kwargs):
        super().__init__(**kwargs)
        self.is_whole = is_whole
        self.scale = 1.0
        self.shifts = [0.0, [0.0]]
        self.gains = ops.ones((4,))
        self.inner = {"dense": [layers.Dense(4, activation="relu")], "elu": layers.ELU(name="elu")}
        self.norm = layers.LayerNormalization()

    def build(self, shape):
        if self.is_whole:
            self.weight = self.add_weight(shape=(), initializer="ones")
        self.inner["dense"][0].build(shape)
        self.norm.build(shape)

    def call(self, x):
        x = self.inner["elu"](self.inner["dense"][0](x) - 1.0)
        x = self.norm(x * self.weight if self.is_whole else x)
        return self.finished(x * self.scale * self.gains + self.shifts[1][0])

    def finished(self, x):
        return x


def copies(model):
    """All that is made of a model, by what makes it."""
    sparse = sparsify(model)
    yield from (sparse, prune(model, 1.0), collapse(model, cost="macs"))
    for units in sparse.layers:
        if isinstance(units, SparsePReLU):
            units.alpha.assign(np.resize([1.0, 0.0], units.alpha.shape))
    expected = call(sparse)
    np.testing.assert_allclose(call(collapse(sparse, cost="macs")), expected, rtol=1e-4, atol=1e-5)


def call(model, **options):
    return ops.convert_to_numpy(model(X, **options))


def checked(model):
    expected = call(model)
    for copy in copies(model):
        np.testing.assert_allclose(call(copy), expected, rtol=1e-4, atol=1e-5)
        assert len(copy.weights) > 1
    return expected


@pytest.mark.parametrize("is_whole", [True, once(False)])
def test_what_was_set_later_is_kept(is_whole):
    block, elu = Scaled(is_whole, name="block"), layers.ELU(name="elu")
    dense = layers.Dense(4, activation=layers.ELU(0.5))
    model = keras.Sequential([keras.Input((4,)), block, layers.Dense(4), elu, dense])
    values = [call(model)]
    for owner, attribute, value in (
        (block, "scale", 3.0),
        (block, "shifts", [0.0, [1.0]]),
        (block, "gains", ops.convert_to_tensor([1.0, 2.0, 3.0, 4.0])),
        (block, "finished", types.MethodType(lambda layer, x: x - layer.scale, block)),
        (block.inner["dense"][0], "activation", keras.activations.tanh),
        (block.inner["elu"], "alpha", 0.2),
        (block.norm, "epsilon", 0.7),
        (elu, "alpha", 0.3),
        (dense.activation, "alpha", 2.0),
        *([(block.inner["dense"][0], "dtype_policy", "mixed_bfloat16")] if is_whole else []),
    ):
        setattr(owner, attribute, value)
        values.append(call(model))
        assert not np.array_equal(*values[-2:]), "It matters."
    elu.supports_masking = block.supports_masking = False
    checked(model)
    copy = prune(model, 1.0)
    assert not copy.get_layer("elu").supports_masking
    if is_whole:
        shifts = copy.get_layer("block").shifts
        shifts[1][0] = 5.0
        assert block.shifts == [0.0, [1.0]], "Lists are not shared."


class Forgetful(Scaled):
    """Leaves an argument out of its configuration."""

    def __init__(self, is_whole, normalization=layers.LayerNormalization, **kwargs):
        super().__init__(is_whole, **kwargs)
        del self.norm
        self.norm = normalization()

    def get_config(self):
        return {**super().get_config(), "is_whole": self.is_whole}


@pytest.mark.once
def test_other_layers_inside_are_refused():
    block = Forgetful(True, layers.UnitNormalization)
    model = keras.Sequential([keras.Input((4,)), block, layers.Dense(3, activation="relu")])
    for made in (sparsify, lambda model: prune(model, 0.5)):
        with pytest.raises(ValueError, match=r"'forgetful.*cannot be copied: .* other layers"):
            made(model)


class Free(layers.Layer):
    """Does not take `training`, but is called with it."""

    def build(self, shape):
        self.norm = layers.BatchNormalization()
        self.norm.build(shape)

    def call(self, x):
        return self.norm(x)


@pytest.mark.parametrize("training", [once(False), True])
def test_training_that_is_fixed(training):
    inputs, inside = keras.Input((4,)), keras.Input((4,))
    x = layers.Dense(4, activation="relu")(inputs, training=training)
    x = layers.BatchNormalization()(x, training=training)
    x = layers.Dense(4, activation="relu")(x)
    x = Free()(x, training=training)
    y = layers.Dense(4, activation="relu")(inside)
    x = keras.Model(inside, layers.BatchNormalization()(y))(x, training=training)
    model = keras.Model(inputs, layers.Dense(2)(x))
    assert np.array_equal(call(model), call(model, training=False)) is not training
    checked(model)


@pytest.mark.once
def test_dropout_that_is_always_on_is_kept():
    inputs = keras.Input((4,))
    x = layers.Dropout(0.5)(layers.Dense(4)(inputs), training=True)
    model = keras.Model(inputs, layers.Dense(2)(x))
    assert path_length(model) == 0.0
    assert any(isinstance(each, layers.Dropout) for each in collapse(model, cost="macs").layers)


@pytest.mark.once
def test_fused_activations_that_have_not_run_keep_their_weights():
    swish = Swish()
    start = {"alpha_initializer": "random_normal"}
    x = inputs = keras.Input((4,))
    for activation in (layers.PReLU(**start), swish, swish):
        x = layers.Dense(3, activation=activation)(x)
    x = layers.Reshape((3, 1))(x)
    x = layers.TimeDistributed(layers.Dense(2, activation=layers.PReLU(**start)))(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    sparse = sparsify(model)
    with pytest.warns(UserWarning, match="cannot load them"):
        pruned = prune(model, 1.0)
    expected = call(model)
    for copy in (sparse, pruned, collapse(sparse, cost="macs")):
        np.testing.assert_allclose(call(copy), expected, rtol=1e-4, atol=1e-6)
        found = [each for each in copy._flatten_layers() if isinstance(each, Swish)]
        assert len({id(each) for each in found}) == 1, "What was one is one."


def steeper(x):
    """Is not registered: Keras loads no model that has it, but the model is there."""
    return 3.0 * ops.tanh(x)


class Closed(layers.Layer):
    """Is kept whole, and gives its `activation` to a layer inside."""

    def __init__(self, activation, **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)
        self.dense = layers.Dense(4, activation=self.activation)

    def build(self, shape):
        self.weight = self.add_weight(shape=(), initializer="ones")
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x) * self.weight

    def get_config(self):
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "activation": activation}


@pytest.mark.once
@pytest.mark.parametrize("function", [steeper, lambda x: 3.0 * ops.tanh(x)])
def test_functions_of_ones_own_need_no_name(function):
    dense = layers.Dense(4, activation=function)
    parts = [
        dense,
        layers.Activation(function),
        Closed(function),
        layers.Dense(2, activation="relu"),
    ]
    model = keras.Sequential([keras.Input((4,)), *parts])
    checked(model)
    assert model.get_layer(dense.name).activation is function


@pytest.mark.once
def test_another_function_inside_than_the_argument_says_is_left():
    block = Closed("relu", name="block")
    model = keras.Sequential([keras.Input((4,)), block, layers.Dense(4, activation="relu")])
    assert sparsify(model, return_report=True)[1].left == []
    block.dense.activation = keras.activations.tanh
    _, report = sparsify(model, return_report=True)
    assert report.rows[0]["reason"] == "the layer has another one inside than `activation` says"
    checked(model)
