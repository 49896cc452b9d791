"""A layer that is in several others is one layer in copies, too."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_nladv import collapse, prune, sparsify
from keras_nladv._keras.private import sublayers
from tests.copies import activations, arrays, assert_close

pytestmark = pytest.mark.once


@keras.saving.register_keras_serializable(package="tests")
class Both(layers.Layer):
    """Is kept whole, for a weight of its own, with layers that it is given."""

    def __init__(self, one, other, **kwargs):
        super().__init__(**kwargs)
        self.one, self.other = one, other

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x):
        return ops.matmul(self.one(x), ops.transpose(self.other.embeddings)) * self.scale

    def get_config(self):
        layers = map(keras.saving.serialize_keras_object, (self.one, self.other))
        return {**super().get_config(), **dict(zip(("one", "other"), layers))}

    @classmethod
    def from_config(cls, config):
        layers = [keras.saving.deserialize_keras_object(config.pop(x)) for x in ("one", "other")]
        return cls(*layers, **config)


def network():
    """Tied embeddings, and a model and a layer that are called and in others."""
    table, same = layers.Embedding(7, 4, name="table"), layers.Dense(4, name="same")
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, "relu", name="in")], name="inner")
    ids = keras.Input((3,), dtype="int32")
    x = same(layers.ReLU()(table(ids)))
    x = layers.Add()([x, layers.RepeatVector(3)(inner(x[:, 0]))])
    x = layers.TimeDistributed(same)(layers.TimeDistributed(inner)(x))
    x = Both(inner, table, name="first")(x[:, 0])
    return keras.Model(ids, Both(inner, table, name="second")(layers.Dense(4)(x)))


DATA = np.array([[0, 1, 2], [6, 5, 4]])


@pytest.mark.parametrize("copied", [lambda x: prune(x, 1.0), sparsify])
def test_what_is_one_layer_stays_one(copied, tmp_path):
    model = network()
    copy = copied(model)
    assert_close(arrays(copy, DATA), arrays(model, DATA))
    names = [layer.name for layer in sublayers(model) if layer.weights]
    kept = [layer.name for layer in sublayers(copy) if layer.weights]
    assert sorted(name for name in kept if "re_lu" not in name and "activ" not in name) == sorted(
        names
    )
    # The layers that are in others are those that are called.
    table, inner = copy.get_layer("table"), copy.get_layer("inner")
    for name in ("first", "second"):
        assert copy.get_layer(name).other is table
        assert copy.get_layer(name).one is inner
    copy.save(tmp_path / "copy.keras")
    loaded = keras.saving.load_model(tmp_path / "copy.keras")
    assert_close(arrays(loaded, DATA), arrays(model, DATA))
    assert loaded.count_params() == copy.count_params()


def test_collapse_ties_what_was_tied():
    model = network()
    plain = collapse(model, cost="macs", example_inputs=DATA)
    assert_close(arrays(plain, DATA), arrays(model, DATA), 1e-5)
    assert plain.get_layer("first").other is plain.get_layer("table")


def shared(make):
    dense = layers.Dense(4, "relu", name="shared")
    inputs, other = keras.Input((3, 4)), keras.Input((3, 4))
    return keras.Model([inputs, other], layers.Add()(make(dense, inputs, other)))


def test_it_is_said_where_keras_could_not_load_it():
    """It could not load the model given, either."""
    model = shared(
        lambda dense, *both: [layers.TimeDistributed(dense)(x) for x in both],
    )
    with pytest.warns(UserWarning, match="Keras saves such models, and cannot load them"):
        sparse = sparsify(model)
    data = [np.random.default_rng(0).normal(size=(2, 3, 4))] * 2
    assert_close(arrays(sparse, data), arrays(model, data))
    assert sum(layer.name == "shared" for layer in sublayers(sparse)) == 1


def test_it_is_said_where_weights_are_separated():
    """Called without its activation, and with it in a layer that is kept whole."""

    def make(dense, inputs, other):
        table = layers.Embedding(4, 4)
        table.build()
        return [dense(inputs), Both(dense, table)(other)]

    model = shared(make)
    with pytest.warns(UserWarning, match="Layers 'shared' are in several others"):
        sparse = sparsify(model)
    data = [np.random.default_rng(0).normal(size=(2, 3, 4))] * 2
    assert_close(arrays(sparse, data), arrays(model, data))


def test_what_is_left_in_one_place_and_converted_in_another():
    model = shared(lambda dense, *both: [dense(both[0]), layers.TimeDistributed(dense)(both[1])])
    with pytest.warns(UserWarning, match="Layers 'shared' are in several others"):
        sparse = sparsify(model, select="time*")
    for layer in activations(sparse):
        layer.alpha.assign(np.ones(layer.alpha.shape))
    data = [np.zeros((2, 3, 4)), np.random.default_rng(0).normal(size=(2, 3, 4))]
    right = data[1] @ ops.convert_to_numpy(model.get_layer("shared").kernel)
    assert_close(arrays(sparse, data), [right], 1e-5)


def test_a_layer_that_is_converted_in_one_call_only():
    dense = layers.Dense(4, "relu", name="shared")
    inputs, other = keras.Input((4,)), keras.Input((None, 4))
    model = keras.Model([inputs, other], [dense(inputs), dense(other)])
    with pytest.warns(UserWarning, match="Layers 'shared' are in several others"):
        sparse, report = sparsify(model, granularity="element", return_report=True)
    assert report.converted == report.left == ["shared"]
    rng = np.random.default_rng(0)
    data = [rng.normal(size=(2, *shape)).astype("float32") for shape in ((4,), (3, 4))]
    assert_close(arrays(sparse, data), arrays(model, data))


@pytest.mark.once
def test_a_layer_that_is_called_behind_one_that_it_is_in():
    dense = layers.Dense(4, name="shared")
    inputs, other = keras.Input((3, 4)), keras.Input((3, 4))
    x = layers.Add()([layers.TimeDistributed(dense, name="each")(inputs), dense(other)])
    model = keras.Model([inputs, other], layers.ReLU()(x))
    with pytest.warns(UserWarning, match="Keras saves such models, and cannot load them"):
        sparse = sparsify(model)
    assert sparse.get_layer("each").layer is sparse.get_layer("shared")
    data = [np.random.default_rng(0).normal(size=(2, 3, 4))] * 2
    assert_close(arrays(sparse, data), arrays(model, data))
