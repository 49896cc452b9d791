"""What `sparsify` does with models: their structure, their state, its options, its errors."""

import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from keras import layers, ops

from keras_nladv import (
    LinearizationSchedule,
    NonlinearitySparsity,
    SparsePReLU,
    nonlinearity_report,
    path_length,
    sparsify,
)
from tests import processes
from tests.copies import activations, randomize, sparsified, traces
from tests.graph.test_path_length import random_network

pytestmark = pytest.mark.usefixtures("fast_weights")

X = np.random.default_rng(1).normal(size=(6, 8, 8, 3)).astype("float32")
Y = np.random.default_rng(2).normal(size=(6, 2)).astype("float32")


def convolutional():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="stem")(inputs)
    y = layers.BatchNormalization()(layers.Conv2D(4, 1, name="branch")(x))
    x = layers.Add()([x, keras.activations.gelu(layers.Dropout(0.5)(y))])
    x = layers.GlobalAveragePooling2D()(layers.ReLU(max_value=6.0, name="relu6")(x))
    return randomize(keras.Model(inputs, layers.Dense(2, name="head")(x)))


def test_sequential_stays_sequential():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3), name="images"),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.Flatten(name="flat"),
            layers.Dense(2, name="head"),
        ],
        name="net",
    )
    sparse, _ = sparsified(model, X)
    assert isinstance(sparse, keras.Sequential)
    assert sparse.name == "net"
    assert [layer.name for layer in sparse.layers] == ["conv", "conv_activation", "flat", "head"]
    # What layers put out can be had, as for feature extraction.
    features = keras.Model(sparse.inputs[0], sparse.layers[1].output)
    assert features(X).shape == (6, 6, 6, 4)


def test_functional_keeps_names_and_order():
    model = convolutional()
    sparse, report = sparsified(model, X)
    assert type(sparse) is type(model)
    assert sparse.input_shape == (None, None, None, 3)
    names = [layer.name for layer in sparse.layers if not isinstance(layer, SparsePReLU)]
    assert names == [x.name for x in model.layers if x.name != "relu6"]
    gelu = next(x.name for x in model.operations if type(x).__name__ == "Gelu")
    assert report.converted == ["stem", gelu, "relu6"]
    assert [x.name for x in activations(sparse)] == ["stem_activation", gelu, "relu6"]
    assert [row["units"] for row in nonlinearity_report(sparse).rows] == [4, 4, 4]
    assert len(activations(sparsify(sparse_again := sparsify(model, "relu6")))) == 3
    assert [x.name for x in activations(sparse_again)] == ["relu6"]


def test_nested_and_shared_models():
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, activation="elu", name="dense")], name="inner"
    )
    a = keras.Input((4,))
    block = keras.Model(a, layers.Add()([inner(a), layers.ReLU(name="act")(a)]), name="block")
    inputs = keras.Input((4,))
    x = layers.Dense(4, activation="relu", name="dense")(block(block(inputs)))
    model = randomize(keras.Model(inputs, inner(layers.ReLU(name="act")(x))))
    sparse, report = sparsified(model, X[:, 0, 0, [0, 1, 2, 0]])
    names = ["block/act", "block/inner/dense", "dense", "act"]
    assert report.converted == names
    assert [layer.name for layer in sparse.layers[1:]] == [
        *("block", "dense", "dense_activation", "act", "inner")
    ]
    nested = sparse.get_layer("block")
    assert isinstance(sparse.get_layer("inner"), keras.Sequential)
    assert nested.get_layer("inner") is sparse.get_layer("inner")
    assert len(activations(sparse)) == 4
    assert len(sparse.weights) == len(model.weights) + 2 * 4
    # The names of fused activations are those of their layers, in the original's report too.
    assert [row["name"] for row in nonlinearity_report(model).rows] == names
    _, report = sparsified(model, X[:, 0, 0, [0, 1, 2, 0]], select="block/*")
    assert report.converted == names[:2]
    assert [row["reason"] for row in report.rows[2:]] == ["it is not selected"] * 2


def test_shared_layers():
    dense, act = layers.Dense(4, activation="tanh"), layers.ReLU(name="act")
    both = layers.ELU()
    inputs = keras.Input((4,))
    x = act(dense(act(dense(inputs))))
    x = layers.Dense(4, activation=both)(layers.Dense(4, activation=both)(x))
    model = randomize(keras.Model(inputs, x))
    sparse, report = sparsified(model, X[:, 0, 0, [0, 1, 2, 0]])
    tanh, relu, elu = activations(sparse)
    assert [len(layer._inbound_nodes) for layer in (tanh, relu, elu)] == [2, 2, 2]
    assert len(report.rows) == 4
    assert len(sparse.trainable_weights) == len(model.trainable_weights) + 2 * 3


@pytest.mark.parametrize("structure", ["list", "dict"])
def test_several_inputs_and_outputs(structure):
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    x = layers.Dense(4, activation="relu")(layers.Concatenate()([a, b]))
    y = keras.activations.tanh(b)
    data = [X[:, 0, 0], X[:, 1, 1]]
    if structure == "list":
        model = keras.Model([a, b], [x, y])
    else:
        model = keras.Model({"b": b, "a": a}, {"y": y, "x": x})
        data = dict(zip("ab", data))
    sparse, _ = sparsified(randomize(model), data)
    if structure == "dict":
        assert set(sparse(data)) == {"x", "y"}


@settings(max_examples=15)
@given(st.data())
def test_random_graphs_keep_their_path_lengths(data):
    model, normalized, unnormalized, _ = random_network(data.draw, sparse=False)
    kept = len(activations(model))
    sparse, _ = sparsify(model, return_report=True)
    assert path_length(sparse) == pytest.approx(normalized, rel=1e-12, abs=1e-12)
    assert path_length(sparse, False) == pytest.approx(unnormalized, rel=1e-12, abs=1e-12)
    assert len(activations(sparse)) == kept + 1


# ---- State


def test_frozen_layers_stay_frozen_with_their_slopes():
    base = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, activation="relu", name="a"), layers.Dense(4)],
        name="base",
    )
    base.trainable = False
    inputs = keras.Input((4,))
    x = layers.Dense(4, activation="relu", name="b", trainable=False)(base(inputs))
    x = keras.activations.gelu(layers.Dense(4, name="c")(layers.ReLU(name="d")(x)))
    model = keras.Model(inputs, x)
    sparse, _ = sparsified(model, X[:, 0, 0, [0, 1, 2, 0]])
    assert not sparse.get_layer("base").trainable
    assert [layer.trainable for layer in activations(sparse)] == [False, False, True, True]
    names = [weight.path for weight in sparse.trainable_weights if weight.name != "side"]
    assert names[:3] == ["d/alpha", "c/kernel", "c/bias"]
    assert len(names) == 4
    model.trainable = False
    assert sparsify(model).trainable_weights == []


def small():
    inputs = keras.Input((3,))
    x = layers.BatchNormalization()(layers.Dense(4, activation="relu")(inputs))
    return keras.Model(inputs, layers.Dense(2)(keras.activations.silu(x)))


def train(model):
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(X[:, 0, 0], Y, batch_size=3, epochs=2, verbose=0)


def test_the_models_are_trained_apart():
    """On JAX, training deletes the arrays that weights had before."""
    model = small()
    train(model)
    sparse = sparsify(model)
    assert not sparse.compiled
    before = traces(model)
    train(sparse)
    assert traces(model) == before
    assert any((layer.slopes != 0).any() for layer in activations(sparse))
    before = traces(sparse)
    train(model)
    assert traces(sparse) == before


@pytest.mark.once
def test_pressed_by_the_schedule():
    sparse = sparsify(small())
    regularizers = [layer.alpha_regularizer for layer in activations(sparse)]
    assert len(set(map(id, regularizers))) == 2
    assert all(isinstance(regularizer, NonlinearitySparsity) for regularizer in regularizers)
    sparse.compile(keras.optimizers.SGD(0.1), "mse")
    sparse.fit(
        X[:, 0, 0], Y, batch_size=2, epochs=10, verbose=0, callbacks=[LinearizationSchedule(2.0)]
    )
    assert [regularizer.strength for regularizer in regularizers] == [2.0] * 2
    assert path_length(sparse) == 0.0


LOAD = """
import sys, warnings
warnings.simplefilter("error")
# Keras turns tensors into arrays in the way that NumPy 1 knew.
warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
import keras, numpy as np
import keras_nladv

folder = sys.argv[1]
saved = np.load(f"{folder}/data.npz")
model = keras.saving.load_model(f"{folder}/model.keras")
np.testing.assert_array_equal(model.predict(saved["x"], verbose=0), saved["y"])
assert keras_nladv.path_length(model) == saved["length"]
"""


@pytest.mark.once
def test_saved_models_load_in_another_process(tmp_path):
    sparse = sparsify(convolutional())
    for layer in activations(sparse):
        layer.alpha.assign([-0.5, 0.5, 1.0, 1.5])
    sparse.save(tmp_path / "model.keras")
    y = sparse.predict(X, verbose=0)
    np.savez(tmp_path / "data.npz", x=X, y=y, length=path_length(sparse))
    assert processes.run(LOAD, tmp_path) == (0, "")


def test_adapted_layers_keep_what_they_learned():
    normalization = layers.Normalization()
    normalization.adapt(X)
    inputs = keras.Input((8, 8, 3))
    x = layers.ReLU()(normalization(inputs))
    sparsified(keras.Model(inputs, x), X)


def test_vocabularies_are_kept():
    pytest.importorskip("tensorflow")
    lookup = layers.IntegerLookup()
    lookup.adapt(np.array([[7], [5], [7], [3]]))
    inputs = keras.Input((1,), dtype="int32")
    x = layers.Embedding(4, 3, embeddings_initializer="random_normal")(lookup(inputs))
    model = keras.Model(inputs, layers.ELU()(x))
    sparsified(model, np.array([[3], [7], [8]], "int32"), measured=False)


def test_weights_used_outside_of_their_layers_are_refused():
    dense = layers.Dense(3)
    inputs = keras.Input((3,))
    x = layers.ReLU()(dense(inputs))
    model = keras.Model(inputs, ops.matmul(x, dense.kernel))
    with pytest.raises(ValueError, match="uses a weight of a layer, outside of that layer"):
        sparsify(model)


# ---- Options


def test_select_by_pattern_and_by_function():
    model = convolutional()
    _, report = sparsified(model, X, select="s*")
    assert report.converted == ["stem"]
    assert {row["reason"] for row in report.rows if row["outcome"] == "left"} == {
        "it is not selected"
    }
    asked = []

    def select(name, operation):
        asked.append((name, type(operation).__name__))
        return isinstance(operation, layers.ReLU)

    _, report = sparsified(model, X, select=select)
    assert report.converted == ["relu6"]
    assert [kind for _, kind in asked] == ["Conv2D", "Gelu", "ReLU"]


@pytest.mark.parametrize(
    ("granularity", "sizes"), [("channel", [4, 4]), ("layer", [1, 1]), ("element", [144, 4])]
)
def test_options_of_the_layers(granularity, sizes):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.ReLU(),
        ]
    )
    regularizer = keras.regularizers.L2(0.1)
    sparse = sparsify(
        model, granularity=granularity, linear_threshold=0.3, alpha_regularizer=regularizer
    )
    for layer, size in zip(activations(sparse), sizes, strict=True):
        assert layer.nonlinear.size == size
        assert layer.linear_threshold == 0.3
        assert isinstance(layer.alpha_regularizer, keras.regularizers.L2)
        assert layer.alpha_regularizer is not regularizer


def inverted_residual(act, second=None, multiplier=1, strides=1):
    inputs = keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(layers.Conv2D(6, 1)(inputs))
    x = layers.ZeroPadding2D()(act()(x))
    x = layers.DepthwiseConv2D(3, strides=strides, depth_multiplier=multiplier)(x)
    x = (second or act)()(layers.BatchNormalization()(x))
    return randomize(keras.Model(inputs, layers.Conv2D(3, 1, activation="softplus")(x)))


@pytest.mark.once
@pytest.mark.parametrize(
    "act",
    [
        layers.ReLU,
        lambda: layers.ReLU(max_value=6.0),
        lambda: layers.Activation("hard_silu"),
        lambda: keras.activations.gelu,
        lambda: lambda x: ops.maximum(x, 0),
    ],
)
def test_activations_around_depthwise_convolutions_share(act):
    model = inverted_residual(act)
    assert len(activations(sparsify(model))) == 3
    sparse, report = sparsified(model, X, share_around_depthwise=True)
    shared, last = activations(sparse)
    assert len(shared._inbound_nodes) == 2
    assert len(report.converted) == 3
    # The name of the output, which was the convolution's.
    assert [last.name] == sparse.output_names == model.output_names


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "separate"),
    [
        ({"second": layers.ELU}, True),
        ({"second": lambda: layers.ReLU(max_value=6.0)}, True),
        ({"second": lambda: layers.PReLU(shared_axes=[1, 2])}, True),
        ({"act": lambda: layers.PReLU("random_normal", shared_axes=[1, 2])}, True),
        ({"multiplier": 2}, True),
        ({"act": lambda: layers.ReLU(activity_regularizer="l2")}, True),
        ({"strides": 2}, False),
    ],
)
def test_what_is_shared_around_depthwise_convolutions(options, separate):
    model = inverted_residual(**{"act": layers.ReLU, **options})
    sparse, _ = sparsified(model, X, share_around_depthwise=True)
    assert len(activations(sparse)) == 2 + separate


@pytest.mark.once
def test_slopes_of_elements_are_shared_where_there_are_as_many():
    for strides, count in [(1, 2), (2, 3)]:
        model = inverted_residual(layers.ReLU, strides=strides)
        sparse = sparsify(model, granularity="element", share_around_depthwise=True)
        assert len(activations(sparse)) == count


@pytest.mark.once
@pytest.mark.parametrize(
    ("between", "granularity", "acts"),
    [
        ([layers.BatchNormalization()], "channel", ["relu", "relu"]),
        ([layers.DepthwiseConv2D(3)], "channel", ["relu", "gelu"]),
        ([layers.DepthwiseConv2D(3, depth_multiplier=2)], "layer", ["relu", "relu"]),
        ([layers.ZeroPadding2D(), layers.DepthwiseConv2D(2)], "element", ["relu", "relu"]),
    ],
)
def test_what_is_not_alike_around_a_depthwise_convolution(between, granularity, acts):
    first, last = map(layers.Activation, acts)
    model = keras.Sequential([keras.Input((8, 8, 3)), first, *between, last])
    sparse = sparsify(model, granularity=granularity, share_around_depthwise=True)
    assert len(activations(sparse)) == 2


# ---- Errors


class Refusing(layers.Layer):
    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.kernel = self.add_weight(shape=(size,))

    def call(self, x):
        return x * self.kernel

    def get_config(self):
        raise NotImplementedError("not today")


class Fixed(layers.Dense):
    """Has an activation that its configuration cannot change."""

    def __init__(self, units, **kwargs):
        super().__init__(units, **{**kwargs, "activation": "relu"})

    @classmethod
    def from_config(cls, config):
        if config.pop("activation") != "relu":
            raise TypeError("It has to be relu.")
        return cls(**config)


class Strict(layers.Dense):
    """Has an activation that it does not take, and yet lists in its configuration."""

    def __init__(self, units, name=None, trainable=True, dtype=None):
        super().__init__(units, "relu", name=name, trainable=trainable, dtype=dtype)


def functional(*chain):
    inputs = x = keras.Input((4,))
    for layer in chain:
        x = layer(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sparsify(keras.Sequential([layers.Dense(2)])), "must be built"),
        (lambda: sparsify(type("Net", (keras.Model,), {})()), "a subclassed model. Wrap it"),
        (lambda: sparsify(layers.ReLU()), "must be a Keras model"),
        (lambda: sparsify(functional(layers.ReLU()), 3), "`select` must be .* Received: select=3"),
        (
            lambda: sparsify(functional(layers.ReLU()), granularity="unit"),
            "`granularity` must be one of",
        ),
        (
            lambda: sparsify(functional(layers.ReLU()), linear_threshold=2),
            "`linear_threshold` must be",
        ),
        (
            lambda: sparsify(functional(Refusing(4, name="odd"), layers.ReLU())),
            "Layer 'odd' of class Refusing cannot be copied: .*not today",
        ),
        (
            lambda: sparsify(functional(Fixed(4, name="fixed"))),
            "Layer 'fixed' of class Fixed cannot be copied",
        ),
        (
            lambda: sparsify(functional(Strict(4, name="strict"))),
            "Layer 'strict' of class Strict cannot be copied",
        ),
        (
            lambda: sparsify(functional(layers.Dense(2, "softmax"))),
            "found nothing to convert in model.*\n.*\n.*\ndense.* softmax .*it is not pointwise",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
