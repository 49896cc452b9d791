"""Every kind of activation: separate, fused, an operation."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_nladv import (
    SparsePReLU,
    collapse,
    nonlinearity_report,
    path_length,
    register_path_rule,
    sparsify,
)
from tests.copies import activations, arrays, assert_close, sparsified
from tests.swish import Swish

pytestmark = pytest.mark.usefixtures("fast_weights")

X = np.random.default_rng(1).normal(0, 2, (2, 4, 5)).astype("float32")
SLOPES = np.linspace(-0.5, 1.5, 5)
QUARTERS = keras.initializers.Constant(0.25)


def single(applied, shape=(4, 5)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, applied(inputs))


NAMES = (
    *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid"),
    *("sparse_sigmoid", "hard_sigmoid", "log_sigmoid", "hard_silu", "softplus", "tanh"),
    *("hard_tanh", "tanh_shrink", "hard_shrink", "soft_shrink", "softsign", "sparse_plus"),
    *("squareplus", "exponential"),
)
LAYERS = {
    "relu": lambda: layers.ReLU(),
    "relu6": lambda: layers.ReLU(max_value=6.0),
    "leaky relu": lambda: layers.ReLU(negative_slope=0.3),
    "threshold": lambda: layers.ReLU(threshold=0.5),
    "all": lambda: layers.ReLU(max_value=3.0, negative_slope=0.1, threshold=0.2),
    "LeakyReLU": lambda: layers.LeakyReLU(0.2),
    "ELU": lambda: layers.ELU(0.7),
    "Activation of a layer": lambda: layers.Activation(layers.ELU(0.3)),
}
OPERATIONS = {
    "activations.relu": lambda x: keras.activations.relu(x),
    "activations.relu all": lambda x: keras.activations.relu(x, 0.1, 3.0, 0.2),
    "leaky_relu": lambda x: keras.activations.leaky_relu(x, 0.3),
    "elu": lambda x: keras.activations.elu(x, 0.4),
    "gelu": lambda x: keras.activations.gelu(x),
    "gelu exact": lambda x: keras.activations.gelu(x, approximate=False),
    "gelu approximate": lambda x: keras.activations.gelu(x, approximate=True),
    "threshold": lambda x: ops.threshold(x, 0.5, 0.1),
    "hard_shrink": lambda x: ops.hard_shrink(x, 0.3),
    "ops.relu": ops.relu,
    "ops.relu6": ops.relu6,
    "tanh": ops.tanh,
    "maximum": lambda x: ops.maximum(x, 0),
    "maximum of float": lambda x: ops.maximum(x, 0.0),
    "maximum turned": lambda x: ops.maximum(0, x),
    "clip": lambda x: ops.clip(x, 0, 0.5),
    "clip of floats": lambda x: ops.clip(x, -1.0, np.float32(0.5)),
}


@pytest.mark.once
@pytest.mark.parametrize(
    "applied",
    [
        *(pytest.param(lambda x, n=n: layers.Activation(n)(x), id=n) for n in NAMES),
        *(pytest.param(lambda x, make=make: make()(x), id=n) for n, make in LAYERS.items()),
        *(pytest.param(function, id=f"{n} operation") for n, function in OPERATIONS.items()),
    ],
)
def test_separate(applied):
    model = single(applied)
    sparse, report = sparsified(model, X)
    (layer,) = sparse.layers[1:]
    assert isinstance(layer, SparsePReLU)
    assert layer.name == model.operations[1].name
    assert report.converted == [layer.name]
    assert report.left == []
    assert layer.slopes.tolist() == [0.0] * 5
    layer.alpha.assign(SLOPES)
    assert_close(arrays(sparse, X), [SLOPES * X + (1 - SLOPES) * arrays(model, X)[0]])


@pytest.mark.parametrize("plain", ["relu", "activations.relu", "ops.relu", "maximum turned"])
def test_what_is_a_relu_becomes_one(plain):
    function = OPERATIONS.get(plain) or layers.ReLU()
    (layer,) = activations(sparsify(single(function)))
    assert layer.activation is keras.activations.relu


def test_fused_operations():
    """`keras.ops.gelu` approximates, `keras.activations.gelu`, of the same name, does not."""
    inputs = keras.Input((4, 5))
    x = layers.Dense(5, activation=ops.gelu)(layers.Dense(5, activation=ops.relu)(inputs))
    sparse, report = sparsified(keras.Model(inputs, x), X)
    relu, gelu = activations(sparse)
    assert relu.activation is keras.activations.relu
    again = type(gelu).from_config(gelu.get_config())
    assert_close(arrays(single(again), X), arrays(single(ops.gelu), X))
    assert [row["function"] for row in report.rows] == ["relu", "gelu"]


def test_fused_operations_that_are_left():
    inputs = keras.Input((4, 5))
    x = layers.Dense(5, activation=ops.gelu)(layers.ReLU(name="chosen")(inputs))
    sparsified(keras.Model(inputs, x), X, select="chosen")


@pytest.mark.parametrize(
    ("shared_axes", "shape", "granularity", "axis"),
    [
        ([1, 2], (3, 4, 5), "channel", -1),
        ([2, 3], (3, 4, 5), "channel", 1),
        ([1, 3], (3, 4, 5), "channel", 2),
        ([2, 3], (2, 4, 5), "channel", 1),
        ([1, 2], (3, 4, 2), "channel", -1),
        ([1, 2, 3], (3, 4, 5), "layer", -1),
        (None, (3, 4, 5), "element", -1),
        (None, (5,), "channel", -1),
    ],
)
def test_prelu_keeps_its_slopes(shared_axes, shape, granularity, axis):
    initializer = keras.initializers.RandomUniform(-0.5, 1.5, seed=3)
    model = single(layers.PReLU(initializer, shared_axes=shared_axes), shape)
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    sparse, _ = sparsified(model, x)
    layer = sparse.layers[-1]
    assert (layer.granularity, layer.axis) == (granularity, axis)
    alpha = keras.ops.convert_to_numpy(model.layers[-1].alpha.value)
    np.testing.assert_array_equal(layer.slopes.ravel(), alpha.ravel())
    # On JAX, this deletes the arrays that weights had before.
    sparse.predict(x, verbose=0)
    arrays(model, x)


def test_prelu_with_slopes_for_some_positions_is_left():
    inputs = keras.Input((3, 4, 5))
    x = layers.PReLU(shared_axes=[1], name="partly")(layers.ReLU(name="other")(inputs))
    _, report = sparsified(
        keras.Model(inputs, x), np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    )
    assert report.left == ["partly"]
    assert report.converted == ["other"]
    assert "some positions only" in report.rows[1]["reason"]


FUSING = {
    "dense": (layers.Dense, (6,), {}),
    "einsum": (layers.EinsumDense, ("abc,cd->abd", (4, 6)), {"bias_axes": "d"}),
    "conv1d": (layers.Conv1D, (6, 3), {"padding": "causal"}),
    "conv2d": (layers.Conv2D, (6, 2), {"strides": 2}),
    "conv3d": (layers.Conv3D, (6, 2), {}),
    "transposed1d": (layers.Conv1DTranspose, (6, 2), {"strides": 2}),
    "transposed2d": (layers.Conv2DTranspose, (6, 2), {"strides": 2}),
    "transposed3d": (layers.Conv3DTranspose, (6, 2), {}),
    "depthwise1d": (layers.DepthwiseConv1D, (2,), {"depth_multiplier": 2}),
    "depthwise2d": (layers.DepthwiseConv2D, (2,), {}),
    "separable1d": (layers.SeparableConv1D, (6, 2), {}),
    "separable2d": (layers.SeparableConv2D, (6, 2), {}),
}


@pytest.mark.parametrize("kind", FUSING)
def test_fused(kind):
    cls, arguments, options = FUSING[kind]
    options["bias_initializer"] = "random_normal"
    rank = next((int(digit) for digit in kind if digit in "123"), 1)
    x = np.random.default_rng(0).normal(size=(2, *(4,) * rank, 4)).astype("float32")
    fused = cls(*arguments, activation="elu", name="fused", **options)
    # The unknown sizes are those that are unknown in most models.
    model = single(fused, (*[None] * rank, 4) if cls is not layers.EinsumDense else (4, 4))
    sparse, report = sparsified(model, x)
    assert [layer.name for layer in sparse.layers[1:]] == ["fused_linear", "fused"]
    assert report.rows == [
        {"name": "fused", "function": "elu", "outcome": "converted", "reason": ""}
    ]
    linear = cls(*arguments, **options)
    linear.build(x.shape)
    linear.set_weights(fused.get_weights())
    z = keras.ops.convert_to_numpy(linear(x))
    slopes = np.linspace(-0.5, 1.5, z.shape[-1])
    sparse.layers[-1].alpha.assign(slopes)
    expected = slopes * z + (1 - slopes) * np.where(z > 0, z, np.expm1(z))
    assert_close(arrays(sparse, x), [expected], 2e-6)


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow",
    reason="TensorFlow has no channels-first convolution on CPUs.",
)
def test_channels_first():
    inputs = keras.Input((3, 6, None))
    x = layers.Conv2D(7, 3, data_format="channels_first", activation="relu", name="a")(inputs)
    x = layers.ReLU(name="b")(layers.BatchNormalization(axis=1)(x))
    x = layers.PReLU("random_normal", shared_axes=[2, 3], name="c")(x)
    x = layers.GlobalAveragePooling2D(data_format="channels_first")(x)
    x = layers.Dense(5, activation="tanh", name="d")(layers.ReLU(name="e")(x))
    data = np.random.default_rng(0).normal(size=(2, 3, 6, 7)).astype("float32")
    sparse, _ = sparsified(keras.Model(inputs, x), data)
    shapes = {layer.name: layer.slopes.shape for layer in activations(sparse)}
    assert shapes == {"a_activation": (7,), "b": (7,), "c": (7,), "e": (7,), "d": (5,)}


def test_unknown_channels_are_left():
    inputs = keras.Input((None, None))
    x = ops.max(layers.ReLU(name="unknown")(inputs), axis=-1, keepdims=True)
    model = keras.Model(inputs, layers.ELU(name="known")(x))
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    _, report = sparsified(model, x)
    assert (report.left, report.converted) == (["unknown"], ["known"])
    assert report.rows[0]["reason"] == "its slopes would lie along an axis of unknown size"
    # One slope needs no size.
    _, report = sparsified(model, x, granularity="layer")
    assert report.left == []
    with pytest.raises(ValueError, match="nothing to convert"):
        sparsify(model, granularity="element")


@pytest.mark.once
def test_numbers_have_no_axis_of_channels():
    model = single(lambda x: layers.ReLU(name="last")(layers.ReLU(name="first")(x)[:, None]), ())
    _, report = sparsify(model, return_report=True)
    assert (report.left, report.converted) == (["first"], ["last"])
    assert report.rows[0]["reason"] == "its input has no axis of channels"
    for granularity in ("layer", "element"):
        _, report = sparsify(model, granularity=granularity, return_report=True)
        assert report.left == []


@pytest.mark.once
@pytest.mark.parametrize("bound", [0.5, -0.5])
def test_bounds_that_are_no_relu(bound):
    model = single(lambda x: layers.ReLU()(ops.maximum(x + 0.0, bound)))
    _, report = sparsify(model, return_report=True)
    assert [row["reason"] for row in report.rows] == ["it is no ReLU", ""]


@pytest.mark.once
@pytest.mark.parametrize(
    "function",
    [
        lambda x: ops.minimum(ops.maximum(x, 0.0), 6.0),
        lambda x: ops.maximum(0.0, ops.minimum(6, x)),
        # As before a logarithm.
        lambda x: ops.clip(x, 1e-3, 1.0),
    ],
)
def test_bounds_on_both_sides_that_are_left(function):
    """As they are one activation, no half of them becomes another."""
    model = single(lambda x: layers.ReLU(name="other")(function(x + 0.0)))
    sparse, report = sparsified(model, X)
    assert report.converted == ["other"]
    assert 1 <= len(report.left) <= 2
    assert path_length(sparse) == path_length(model) == 2.0
    assert path_length(collapse(model, cost="macs")) == 2.0


@pytest.mark.once
def test_maximum_and_minimum_of_two_tensors():
    """No bound is on both sides there."""
    inputs = keras.Input((5,))
    shared, other = layers.Minimum(), layers.Dense(5)(inputs)
    x = ops.minimum(ops.maximum(layers.Dense(5)(inputs), 0.0), other)
    x = shared([other, ops.maximum(shared([x, other]), 0.0)])
    _, report = sparsified(keras.Model(inputs, x), X[:, 0])
    assert (len(report.converted), report.left) == (2, [])


@pytest.mark.once
def test_a_shared_activation_of_several_ranks():
    """Channels that come last are the same ones; an axis from the front is one of its rank."""
    act = layers.ReLU()
    inputs = keras.Input((4, 5))
    sparse = sparsify(keras.Model(inputs, act(ops.max(act(inputs), axis=1))))
    assert len(activations(sparse)) == 1
    pool = layers.GlobalMaxPooling1D(data_format="channels_first")
    sparse = sparsify(keras.Model(inputs, act(pool(act(inputs)))))
    assert [layer.axis for layer in activations(sparse)] == [1, 1]


def test_a_shared_activation_of_several_sizes():
    act = layers.ReLU(max_value=1.0, name="act")
    inputs = keras.Input((3,))
    x = act(layers.Dense(4)(act(layers.Dense(6)(act(layers.Dense(4)(inputs))))))
    model = keras.Model(inputs, x)
    sparse, report = sparsified(model, X[:, 0, :3])
    assert [layer.name for layer in activations(sparse)] == ["act", "act_1"]
    rows = [nonlinearity_report(each, X[:, 0, :3]).rows for each in (model, sparse)]
    assert [row["units"] for row in rows[0]] == [row["units"] for row in rows[1]] == [4, 6]
    assert [row["dead"] for row in rows[0]] == [row["dead"] for row in rows[1]]
    assert [len(layer.slopes) for layer in activations(sparse)] == [4, 6]
    assert report.converted == ["act"]


@keras.saving.register_keras_serializable(package="tests")
def unknown(x):
    return x * ops.sigmoid(2 * x)


def test_what_is_no_pointwise_activation_is_left_and_reported():
    inputs = keras.Input((4, 5))
    x = layers.Activation(unknown, name="custom")(layers.Dense(5, activation="relu")(inputs))
    regularized = layers.Dense(5, activation="tanh", activity_regularizer="l2")
    x = layers.TimeDistributed(regularized, name="wrapped")(x)
    x = ops.minimum(x, 0.5)
    x = layers.Dense(6, activation="log_softmax", name="scores")(x)
    x = layers.Softmax(name="softmax")(layers.Activation("linear")(x))
    x = layers.LSTM(3, activation="relu", name="recurrent")(x)
    x = layers.Activation("softmax", name="last")(x)
    model = keras.Model(inputs, x)
    _, report = sparsified(model, X, measured=False)
    rows = {row["name"]: (row["function"], row["reason"]) for row in report.rows[1:]}
    names = [
        "custom",
        "wrapped",
        model.operations[4].name,
        "scores",
        "softmax",
        "recurrent",
        "last",
    ]
    assert list(rows) == report.left == names
    assert rows["custom"] == ("unknown", "the path rules do not know it, see `register_path_rule`")
    assert rows["wrapped"] == ("tanh", "it is applied inside a wrapper")
    assert rows[names[2]] == ("minimum", "it is no ReLU")
    assert rows["scores"] == ("log_softmax", "it is not pointwise")
    assert rows["softmax"] == rows["last"] == ("softmax", "it is not pointwise")
    assert rows["recurrent"] == ("cell", "it is applied inside a recurrent cell")
    assert str(report).endswith("1 converted, 7 left")


def test_integers_are_no_units():
    inputs = keras.Input((4,), dtype="int32")
    x = layers.Embedding(9, 5)(ops.maximum(inputs, 0))
    ids = np.array([[-1, 2, 3, 8], [0, 4, 1, 7]])
    x = ops.maximum(layers.ReLU(name="only")(x), x)
    sparse, report = sparsified(keras.Model(inputs, x), ids, measured=False)
    # The larger of two tensors is no unit, either.
    assert report.converted == ["only"]
    assert [row["reason"] for row in report.rows] == ["it is applied to integers", ""]
    assert len(activations(sparse)) == 1


@keras.saving.register_keras_serializable(package="tests")
def sharpened(x):
    return ops.softmax(2.0 * x)


register_path_rule(sharpened, "activation")


@pytest.mark.parametrize("fused", [False, True])
def test_activations_with_weights_keep_them(fused):
    act = Swish(name="swish")
    model = single((lambda x: layers.Dense(5, activation=act)(x)) if fused else act)
    sparse, _ = sparsified(model, X)
    (layer,) = activations(sparse)
    assert isinstance(layer.activation, Swish)
    assert len(sparse.trainable_weights) == len(model.trainable_weights) + 2


@pytest.mark.once
def test_what_is_no_function_of_one_number_is_left():
    """Users say by rules how paths lead, and not that each unit may be linear by itself."""

    def applied(x):
        x = layers.Dense(5, "relu", name="relu")(x)
        return layers.Activation(sharpened, name="sharpened")(x)

    _, report = sparsified(single(applied), X)
    assert {row["name"]: row["reason"] for row in report.rows} == {
        "relu": "",
        "sharpened": "it is not applied to each element by itself",
    }


def test_sparse_layers_are_kept_with_their_slopes():
    initializer = keras.initializers.RandomUniform(-0.5, 1.5, seed=3)
    inputs = keras.Input((4, 5))
    x = layers.Dense(6, activation=SparsePReLU(alpha_initializer=initializer), name="a")(inputs)
    x = SparsePReLU(alpha_initializer=initializer, linear_threshold=0.2, name="b")(x)
    x = layers.Activation(SparsePReLU(alpha_initializer=initializer), name="c")(x)
    model = keras.Model(inputs, layers.ReLU(name="d")(x))
    model(X)
    sparse, report = sparsified(model, X)
    assert report.rows == [{"name": "d", "function": "relu", "outcome": "converted", "reason": ""}]
    kept = activations(sparse)[:3]
    assert len(activations(sparse)) == 4
    for old, new in zip(activations(model), kept, strict=True):
        np.testing.assert_array_equal(new.slopes, old.slopes)
        assert np.abs(new.slopes).min() > 0
        assert new.linear_threshold == old.linear_threshold


@pytest.mark.parametrize("policy", ["float64", "mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_precision(policy):
    """Functions, layers and operations get the policy that they had."""
    if policy == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX needs a process of its own for float64.")
    kind = "float64" if policy == "float64" else "float32"
    inputs = keras.Input((4, 5), dtype=kind)
    x = layers.Dense(6, activation="gelu", dtype=policy)(inputs)
    x = keras.activations.silu(layers.ELU(dtype=policy)(x))
    model = keras.Model(inputs, layers.Dense(2, dtype=kind)(x))
    # Exactly equal but for float32's rounding of constants.
    sparse, _ = sparsified(model, X.astype(kind), 1e-15 if kind == "float64" else 1e-6)
    assert len(activations(sparse)) == 3
    for layer in activations(sparse):
        assert layer.compute_dtype == policy.removeprefix("mixed_")
        assert layer.variable_dtype in (kind, policy)


def test_activity_regularizers_see_what_they_saw():
    inputs = keras.Input((4, 5))
    x = layers.Dense(6, activation="relu", activity_regularizer=keras.regularizers.L1(0.1))(inputs)
    x = layers.ReLU(activity_regularizer=keras.regularizers.L2(0.3))(layers.Dense(3)(x))
    model = keras.Model(inputs, x)
    sparse, _ = sparsified(model, X)
    arrays(model, X), arrays(sparse, X)
    expected, actual = (
        [float(ops.convert_to_numpy(loss)) for loss in each.losses] for each in (model, sparse)
    )
    assert len(expected) == 2
    assert sum(actual) == pytest.approx(sum(expected), rel=1e-6)


def test_saved(tmp_path):
    """All base activations at once."""
    inputs = keras.Input((4, 5))
    functions = [make() for make in LAYERS.values()] + list(OPERATIONS.values())
    sparse = sparsify(keras.Model(inputs, [function(inputs) for function in functions]))
    for layer in activations(sparse):
        layer.alpha.assign(SLOPES)
    sparse.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(arrays(again, X), arrays(sparse, X))


@pytest.mark.parametrize("activation", ["relu", "gelu", layers.ReLU(max_value=1.0)])
def test_wrapped_layers(activation):
    model = keras.Sequential(
        [
            keras.Input((5, 6, 6, 1)),
            layers.TimeDistributed(layers.Conv2D(4, 3, activation=activation), name="convs"),
            layers.TimeDistributed(layers.Flatten()),
            layers.TimeDistributed(layers.Dense(6, activation=activation), name="each"),
            layers.SpectralNormalization(layers.Dense(3, activation="relu"), name="spectral"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(2),
        ]
    )
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 6, 1)).astype("float32")
    sparse, report = sparsified(model, x)
    assert report.converted == ["convs", "each", "spectral"]
    assert not report.left
    shapes = {layer.name: layer.slopes.shape for layer in activations(sparse)}
    assert shapes == {
        "convs_activation": (4,),
        "each_activation": (6,),
        "spectral_activation": (3,),
    }
    _, report = sparsified(model, x, select="each")
    assert report.converted == ["each"]


def test_models_and_activations_in_wrappers():
    inner = keras.Sequential(
        [
            keras.Input((4, 6, 6)),
            layers.Conv2D(3, 3, activation="gelu", data_format="channels_first", name="conv"),
            layers.PReLU(shared_axes=[2, 3], alpha_initializer=QUARTERS, name="prelu"),
            layers.GlobalAveragePooling2D(data_format="channels_first"),
        ],
        name="inner",
    )
    first = layers.PReLU(shared_axes=[2, 3], alpha_initializer=QUARTERS)
    same = layers.Conv2D(4, 3, padding="same", data_format="channels_first", activation=first)
    inputs, other = keras.Input((None, 4, 6, 6)), keras.Input((4, 6, 6))
    x = layers.TimeDistributed(same, name="same")(inputs)
    x = layers.TimeDistributed(inner, name="each")(
        layers.TimeDistributed(layers.ReLU(), name="plain")(x)
    )
    x = layers.Dense(2)(layers.Add()([x, inner(other)[:, None]]))
    model = keras.Model([inputs, other], x)
    rng = np.random.default_rng(0)
    data = [rng.normal(size=(2, *shape)).astype("float32") for shape in ((3, 4, 6, 6), (4, 6, 6))]
    sparse, report = sparsified(model, data)
    assert not report.left
    assert report.converted == ["inner/conv", "inner/prelu", "same", "plain"]
    slopes = {layer.name: layer.slopes for layer in activations(sparse)}
    shapes = {name: each.shape for name, each in slopes.items()}
    assert shapes == {
        "same_activation": (4,),
        "plain": (4,),
        "conv_activation": (3,),
        "prelu": (3,),
    }
    # The model inside is one still, in the wrapper and beside it.
    states = sum(layer.count_params() for layer in activations(sparse)) - 4 - 3
    assert sparse.count_params() == model.count_params() + states
    sparse.compile("sgd", "mse")
    sparse.train_on_batch(data, np.ones((2, 3, 2)))
    # The ReLU right behind the first keeps what is negative from being seen.
    seen = [layer for layer in activations(sparse) if layer.name != "same_activation"]
    assert all((slopes[layer.name] != layer.slopes).any() for layer in seen)


@pytest.mark.once
def test_axes_of_wrapped_layers():
    inputs = keras.Input((5, 3, 6, 6))
    conv = layers.Conv2D(4, 3, activation="relu", data_format="channels_first")
    model = keras.Model(inputs, layers.TimeDistributed(conv)(inputs))
    for granularity, shape in (("channel", (4,)), ("layer", ())):
        (layer,) = activations(sparsify(model, granularity=granularity))
        assert (layer.slopes.shape, layer.axis) == (shape, 2)


def test_elements_of_wrapped_layers_are_left():
    """Their slopes would differ between time steps."""
    wrapped = layers.TimeDistributed(layers.Dense(3, activation="relu"), name="each")
    model = keras.Sequential([keras.Input((5, 4)), wrapped, layers.ReLU(name="last")])
    _, report = sparsified(model, np.resize(X, (2, 5, 4)), granularity="element")
    assert report.left == ["each"]
    assert report.rows[0]["reason"] == "it is applied inside a wrapper"
