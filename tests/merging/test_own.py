"""What `collapse` returns holds nothing of this library, wherever it was."""

import zipfile

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_nladv import NonlinearitySparsity, SparsePReLU, collapse, prune
from keras_nladv.merging import own
from keras_nladv.merging.own import OWN
from keras_nladv.merging.surgeon import Surgeon
from tests.cases import once
from tests.swish import Swish

from .test_collapse import difference


@keras.saving.register_keras_serializable("tests")
class Own(layers.Layer):
    """Has weights, so that it cannot be opened, and takes a layer for its activation."""

    def __init__(self, units, activation, inner=None, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.activation = keras.activations.get(activation)
        self.inner = inner and keras.saving.deserialize_keras_object(inner)

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        if self.inner and not self.inner.built:
            self.inner.build((*shape[:-1], self.units))

    def call(self, x):
        x = self.activation(ops.matmul(x, self.kernel))
        return self.inner(x) if self.inner else x

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.saving.serialize_keras_object(self.activation),
            "inner": self.inner and keras.saving.serialize_keras_object(self.inner),
        }


@keras.saving.register_keras_serializable("tests")
class Stubborn(Own):
    """Makes its activation itself."""

    def __init__(self, **kwargs):
        super().__init__(4, SparsePReLU())
        self.built_in = SparsePReLU()

    def get_config(self):
        return {}


def holds(model):
    """The classes of this library in a model, in its weights and in its configuration."""
    found = [type(x) for x in model._flatten_layers() if isinstance(x, OWN)]
    for weight in model.weights:
        found += [type(x) for x in (weight.regularizer, weight.constraint) if isinstance(x, OWN)]
    return found


def checked(model, shape, tmp_path):
    """Collapses a model and checks that the result is the same, and loads without this library."""
    collapsed = collapse(model, cost="macs", example_inputs=np.ones(shape))
    assert not holds(collapsed)
    assert difference(model, collapsed, shape) < 1e-5
    path = tmp_path / "model.keras"
    collapsed.save(path)
    with zipfile.ZipFile(path) as file:
        assert b"keras_nladv" not in file.read("config.json")
    assert difference(collapsed, keras.models.load_model(path), shape) == 0
    return collapsed


@pytest.mark.once
@pytest.mark.parametrize("slopes", [(0.0,), (0.0, 1.0), (1.0,), (0.0, 0.3, 1.0)])
def test_layers_that_are_kept_whole(slopes, tmp_path):
    """By themselves, in each other, in wrappers, in models in wrappers and in cells."""

    def units(activation="relu", **options):
        return SparsePReLU(activation=activation, **options)

    inputs = x = keras.Input((5, 4))
    x = Own(
        4,
        units("gelu"),
        inner=keras.saving.serialize_keras_object(Own(3, units(granularity="element"))),
    )(x)
    x = layers.TimeDistributed(layers.Dense(4, activation=units("silu", granularity="layer")))(x)
    x = layers.TimeDistributed(units())(x)
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3), units(), layers.Dense(4)])
    x = layers.TimeDistributed(inner)(x)
    recurrent = layers.SimpleRNN(3, activation=units(), return_sequences=True, name="rnn")
    # The name of the first of the two inside.
    x = layers.Bidirectional(recurrent, name="forward_rnn")(x)
    model = keras.Model(inputs, x)
    if slopes != (0.0,):
        model(np.ones((2, 5, 4)))  # Builds what is in cells and wrappers.
    rng = np.random.default_rng(0)
    found = [layer for layer in model._flatten_layers() if isinstance(layer, SparsePReLU)]
    assert len(found) == 7
    for layer in found if slopes != (0.0,) else ():
        layer.alpha.assign(rng.choice(slopes, layer.alpha.shape))
    checked(model, (2, 5, 4), tmp_path)


@pytest.mark.parametrize("slopes", [once((0.0,)), once((0.0, 1.0)), once((1.0,)), (0.0, 0.3)])
def test_units_that_are_not_channels(slopes, tmp_path):
    inputs = keras.Input((3, 4))
    x = SparsePReLU(granularity="element")(layers.Dense(4)(inputs))
    x = SparsePReLU(granularity="element", activation="gelu")(layers.Dense(4)(x))
    x = SparsePReLU(granularity="layer", activation="silu")(layers.Dense(4)(x))
    scalars = SparsePReLU(granularity="layer")(x[:, 0, 0])
    model = keras.Model(inputs, layers.Dense(4)(x) + scalars[:, None, None])
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, SparsePReLU):
            layer.alpha.assign(rng.choice(slopes, layer.alpha.shape))
    checked(model, (2, 3, 4), tmp_path)


@pytest.mark.once
def test_wherever_it_is_in_a_configuration():
    units = SparsePReLU(name="units")
    layer = layers.TimeDistributed(layers.Dense(2, activation=units, name="inside"))
    listed = keras.saving.serialize_keras_object(units)
    asked = []

    def plain(within, name):
        asked.append((within.name, name))
        return layers.ReLU(name=name)

    wanted = keras.saving.serialize_keras_object(layers.ReLU(name="units"))
    config = {
        "all": [units, listed],
        "pair": (1, [listed]),
        "inside": {"class_name": "Dense", "config": {"name": "inside", "activation": listed}},
        "node": {**listed, "name": "called", "inbound_nodes": [3], "build_config": {}},
        "regularizers": [NonlinearitySparsity(0.1), "l2"],
        "other": {"config": 3, "registered_name": "none>Such"},
    }
    assert own.replaced(config, layer, plain) == {
        "all": [wanted, wanted],
        "pair": (1, [wanted]),
        "inside": {"class_name": "Dense", "config": {"name": "inside", "activation": wanted}},
        "node": {**wanted, "name": "called", "inbound_nodes": [3]},
        "regularizers": [None, "l2"],
        "other": config["other"],
    }
    assert asked == [*[(layer.name, "units")] * 3, ("inside", "units"), (layer.name, "units")]
    config = {"a": [1, {"b": (2, None)}], "config": {"name": "inside"}}
    assert own.replaced(config, layer, plain) is config


@pytest.mark.once
def test_regularizers_and_constraints(tmp_path):
    """Of weights and of slopes, in layers of Keras and of a user."""
    sparsity = NonlinearitySparsity(0.1)
    inputs = keras.Input((8, 4))
    x = layers.Conv1DTranspose(4, 3, kernel_regularizer=sparsity, activity_regularizer="l2")(inputs)
    x = layers.PReLU(shared_axes=[1], alpha_regularizer=sparsity)(x)
    x = layers.LSTM(4, return_sequences=True, recurrent_regularizer=sparsity)(x)
    x = layers.TimeDistributed(layers.Dense(4, kernel_regularizer=sparsity))(x)
    x = layers.MultiHeadAttention(2, 2, kernel_regularizer=sparsity)(x, x)
    model = keras.Model(inputs, Own(4, "relu")(x))
    model.layers[-1].kernel.regularizer = sparsity
    pruned = prune(model, 0.5)
    assert holds(pruned)
    checked(pruned, (2, 8, 4), tmp_path)


@keras.saving.register_keras_serializable("tests")
class Doubled(Own):
    """Makes two of the activation that it lists."""

    def __init__(self, units, activation, **kwargs):
        super().__init__(units, activation, **kwargs)
        self.other = SparsePReLU.from_config(self.activation.get_config())

    def call(self, x):
        return self.other(super().call(x))


@pytest.mark.parametrize("slopes", [once((0.0,)), (0.0, 1.0), once((0.0, 0.3, 1.0))])
def test_activations_keep_their_weights(slopes, tmp_path):
    inputs = keras.Input((4, 5, 3))
    x = Swish()(layers.Conv2D(4, 1)(inputs))
    for trained in (True, False):
        units = SparsePReLU(activation=Swish(trainable=trained))
        x = units(layers.Conv2D(4, 1)(x))
        units.alpha.assign(np.resize(slopes, 4))
    model = keras.Model(inputs, layers.Conv2D(2, 1)(x))
    names = [each.name for each in Surgeon(model).forms()]
    assert not any("in two" in name for name in names), "The weights are those of all channels."
    collapsed = checked(model, (2, 4, 5, 3), tmp_path)
    swish = [each for each in collapsed.layers if isinstance(each, Swish)]
    assert [len(each.trainable_weights) for each in swish] == [1, 1, 0]


@pytest.mark.once
def test_what_cannot_be_replaced_is_said():
    layer = Doubled(4, SparsePReLU(activation=Swish()))
    model = keras.Sequential([keras.Input((4,)), layer])
    with pytest.raises(ValueError, match=r"Layer 'doubled.*has weights of its own.*Take it out"):
        collapse(model, cost="macs")
    model = keras.Sequential([keras.Input((4,)), Stubborn()])
    with pytest.raises(ValueError, match=r"Layer 'stubborn.*Let the class take its activation"):
        collapse(model, cost="macs")
    layer = Doubled(4, SparsePReLU())
    model = keras.Sequential([keras.Input((4,)), layer])
    layer.other.alpha.assign([1, 0, 0, 1])
    with pytest.raises(ValueError, match=r"Layer 'doubled.* several whose slopes differ"):
        collapse(model, cost="macs")
