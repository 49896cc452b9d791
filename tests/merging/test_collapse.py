import contextlib
import json
import re

import keras
import numpy as np
import pytest
from keras import layers

from keras_nladv import (
    CollapsePlan,
    SparsePReLU,
    collapse,
    collapse_plan,
    path_length,
    register_path_rule,
    sparsify,
)
from keras_nladv.merging import planner
from keras_nladv.merging.candidates import merge
from keras_nladv.merging.surgeon import Surgeon
from keras_nladv.merging.verification import verify
from tests import processes
from tests.cases import once, since
from tests.conversion.test_sparsify_activations import NAMES


@contextlib.contextmanager
def paying_everything():
    """Lets plans merge whatever can be merged."""
    choose = planner.choose
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "WORTHWHILE", np.inf)
        patch.setattr(
            planner, "choose", lambda gains: choose({each: len(each.before) for each in gains})
        )
        yield


@pytest.fixture
def everything_pays():
    with paying_everything():
        yield


def randomized(model, share, seed=0, slopes=(0.0,)):
    """Gives normalizations and biases random values, and makes a share of the units linear."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
        elif isinstance(layer, SparsePReLU):
            others = rng.choice(slopes, layer.alpha.shape)
            layer.alpha.assign(np.where(rng.random(layer.alpha.shape) < share, 1.0, others))
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(size=layer.bias.shape))
    return model


@keras.saving.register_keras_serializable("tests")
def own_function(inputs):
    return keras.ops.gelu(inputs)


register_path_rule(own_function, "activation")


def kinds(model):
    return [type(layer).__name__ for layer in model.layers if layer.name[:5] != "input"]


def difference(model, other, shape, seed=0):
    x = np.random.default_rng(seed).normal(size=shape).astype("float32")
    a, b = (keras.ops.convert_to_numpy(each(x, training=False)) for each in (model, other))
    return np.abs(a - b).max() / max(np.abs(a).max(), np.finfo("float32").tiny)


def inverted_residual(channels=8, strides=1, expansion=4, size=(9, 9)):
    inputs = keras.Input((*size, channels))
    x = layers.Conv2D(expansion * channels, 1, use_bias=False)(inputs)
    x = layers.ReLU(max_value=6.0)(layers.BatchNormalization()(x))
    if strides == 2:
        x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    padding = "same" if strides == 1 else "valid"
    x = layers.DepthwiseConv2D(3, strides, padding=padding, use_bias=False)(x)
    x = layers.ReLU(max_value=6.0)(layers.BatchNormalization()(x))
    x = layers.BatchNormalization()(layers.Conv2D(channels, 1, use_bias=False)(x))
    if strides == 1:
        x = layers.Add()([x, inputs])
    return keras.Model(inputs, x)


def linearized(model, share, seed=0):
    sparse = sparsify(model, share_around_depthwise=True)
    return randomized(sparse, share, seed)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_dense(share):
    model = randomized(
        keras.Sequential([keras.Input((16,)), layers.Dense(64), SparsePReLU(), layers.Dense(8)]),
        share,
    )
    collapsed = collapse(model, cost="macs")
    assert difference(model, collapsed, (5, 16)) < 1e-5
    expected = {
        0.0: ["Dense", "Dense"],
        0.5: ["Dense", "Dense", "Dense", "Add"],
        1.0: ["Dense"],
    }
    assert sorted(kinds(collapsed)) == sorted(expected[share])
    if share == 0.5:
        linear = int((model.layers[1].slopes == 1).sum())
        assert collapsed.count_params() == (64 - linear) * (16 + 1 + 8) + 16 * 8 + 8


@pytest.mark.once
def test_slopes_between_stay():
    model = keras.Sequential(
        [
            *(keras.Input((6, 6, 4)), layers.Conv2D(8, 3), SparsePReLU()),
            *(layers.Conv2D(8, 3), SparsePReLU(activation="gelu"), layers.MaxPooling2D()),
        ]
    )
    randomized(model, 0.3, slopes=(0.0, 0.25))
    collapsed = collapse(model, cost="macs")
    assert difference(model, collapsed, (2, 6, 6, 4)) < 1e-5
    assert "PReLU" in kinds(collapsed)
    assert "SparsePReLU" not in kinds(collapsed)


@pytest.mark.parametrize(
    ("activation", "operations"),
    [
        ("relu", ["Maximum"]),
        ("gelu", ["Gelu", "Where"]),
        (keras.ops.gelu, ["Gelu", "Where"]),
        ("relu6", ["Relu6", "Where"]),
        (own_function, ["Activation", "Where"]),
    ],
)
def test_units_that_stay_among_others(activation, operations):
    """Linear units that nothing is merged with stay linear, in one or two operations."""
    model = keras.Sequential(
        [
            *(keras.Input((6, 6, 4)), layers.Conv2D(8, 3), SparsePReLU(activation=activation)),
            *(layers.AveragePooling2D(2), layers.Dense(3)),
        ]
    )
    randomized(model, 0.5)
    collapsed = collapse(model, cost="macs")
    assert difference(model, collapsed, (2, 6, 6, 4)) < 1e-6
    assert path_length(collapsed) == path_length(model)
    assert [type(operation).__name__ for operation in collapsed.operations[2:-2]] == operations
    assert len(collapsed.weights) == 4  # The kernels and biases, no slopes.


def test_every_activation():
    inputs = keras.Input((6,))
    outputs = [SparsePReLU(activation=name)(layers.Dense(4)(inputs)) for name in NAMES]
    model = randomized(keras.Model(inputs, outputs), 0.5)
    collapsed = collapse(model, cost="macs")
    x = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    for name, *both in zip(NAMES, model(x), collapsed(x), strict=True):
        one, other = map(keras.ops.convert_to_numpy, both)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("pooling", "slopes", "operations"),
    [
        (layers.MaxPooling2D, (0.0,), ["Conv2D", "MaxPooling2D", "Maximum"]),
        (layers.MaxPooling2D, (0.25,), ["Conv2D", "MaxPooling2D", "PReLU"]),
        (layers.MaxPooling2D, (-0.25,), ["Conv2D", "PReLU", "MaxPooling2D"]),
        (layers.GlobalMaxPooling2D, (0.0,), ["Conv2D", "GlobalMaxPooling2D", "Maximum"]),
        (layers.AveragePooling2D, (0.0,), ["Conv2D", "Maximum", "AveragePooling2D"]),
    ],
)
def test_max_pooling_comes_first(pooling, slopes, operations):
    """What increases in each channel is computed for the largest only."""
    options = {} if "Global" in pooling.__name__ else {"pool_size": 3, "padding": "same"}
    model = keras.Sequential(
        [keras.Input((6, 7, 4)), layers.Conv2D(8, 3), SparsePReLU(), pooling(**options)]
    )
    randomized(model, 0.5, slopes=slopes)
    collapsed = collapse(model, cost="macs")
    assert difference(model, collapsed, (2, 6, 7, 4)) < 1e-6
    assert path_length(collapsed) == pytest.approx(path_length(model))
    assert [type(operation).__name__ for operation in collapsed.operations[1:]] == operations


@pytest.mark.once
def test_max_pooling_of_several_consumers_and_along_another_axis():
    inputs = keras.Input((6, 6, 4))
    first = SparsePReLU()(layers.Conv2D(8, 3)(inputs))
    other = SparsePReLU(axis=1)(layers.Conv2D(8, 3)(inputs))
    model = keras.Model(inputs, [layers.MaxPooling2D()(first), first, layers.MaxPooling2D()(other)])
    collapsed = collapse(randomized(model, 0.5), cost="macs")
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 4)).astype("float32")
    for one, two in zip(model(x), collapsed(x), strict=True):
        one, two = map(keras.ops.convert_to_numpy, (one, two))
        np.testing.assert_allclose(one, two, atol=1e-6)
    found = [type(operation).__name__ for operation in collapsed.operations]
    assert found.index("Maximum") < found.index("MaxPooling2D")
    assert found.count("Maximum") == 2


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_gelu_that_approximates(share, tmp_path):
    """By its name Keras would load `keras.activations.gelu`, which does not."""
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8), SparsePReLU(activation=keras.ops.gelu), layers.ReLU()]
    )
    collapsed = collapse(randomized(model, share), cost="macs")
    assert difference(model, collapsed, (2, 6)) < 1e-6
    collapsed.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert difference(model, loaded, (2, 6)) < 1e-6


@pytest.mark.once
def test_names_that_operations_have_too():
    inputs = x = keras.Input((6,))
    for name, activation in {"where": "gelu", "gelu": "silu", "maximum": "relu"}.items():
        x = SparsePReLU(activation=activation)(layers.Dense(8, name=name)(x))
        x = layers.LayerNormalization()(x)
    model = randomized(keras.Model(inputs, x), 0.5)
    assert difference(model, collapse(model, cost="macs"), (2, 6)) < 1e-5


@pytest.mark.once
def test_masks_go_on(everything_pays):
    """Behind a mask linear units are written as a layer, which passes it on."""
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(5, 6, mask_zero=True)(inputs)
    for activation in ("relu", "gelu"):
        x = SparsePReLU(activation=activation)(layers.Dense(6)(x))
        x = layers.LayerNormalization()(x)
    model = randomized(keras.Model(inputs, layers.LSTM(3)(x)), 0.5)
    collapsed = collapse(model)
    ids = np.array([[1, 2, 3, 0, 0, 0, 0], [4, 3, 2, 1, 1, 2, 0]])
    expected, actual = (keras.ops.convert_to_numpy(each(ids)) for each in (model, collapsed))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
    assert kinds(collapsed).count("PReLU") == 1


@pytest.mark.parametrize("strides", [1, once(2)])
@pytest.mark.parametrize("share", [once(0.5), 0.9, once(1.0)])
def test_inverted_residuals(share, strides, everything_pays):
    model = linearized(inverted_residual(strides=strides), share)
    plan = collapse_plan(model, cost="macs", verbose=False)
    collapsed = collapse(model, plan)
    assert difference(model, collapsed, (2, 9, 9, 8)) < 1e-5
    assert "BatchNormalization" not in kinds(collapsed)
    direct = [layer for layer in collapsed.layers if isinstance(layer, layers.Conv2D)]
    assert any(layer.kernel_size == (3, 3) for layer in direct)
    if share == 1.0:
        # One, and one more for what the bias of the first comes to at the borders.
        assert [each.name.endswith("_border") for each in direct] == [False, True]
        assert "Add" not in kinds(collapsed)


@pytest.mark.parametrize("share", [once(0.5), 1.0])
def test_separable_convolutions(share):
    """They are two layers, of which the pointwise one may be merged with what follows."""
    model = keras.Sequential([keras.Input((9, 9, 3))])
    for layer in (
        layers.SeparableConv2D(8, 3, 2, padding="same", depth_multiplier=2, name="one"),
        *(layers.BatchNormalization(), SparsePReLU()),
        layers.SeparableConv2D(4, 3, activation="relu", name="two"),
    ):
        model.add(layer)
    randomized(model, share)
    plan = collapse_plan(model, cost="macs", verbose=False)
    assert "one + two_depthwise + two" in {row["name"] for row in plan.rows}
    collapsed = collapse(model, plan)
    assert difference(model, collapsed, (2, 9, 9, 3)) < 1e-5
    assert kinds(collapsed)[:2] == ["DepthwiseConv2D", "Conv2D"]
    assert "BatchNormalization" not in kinds(collapsed)
    with paying_everything():
        collapsed = collapse(model, cost="macs")
    assert difference(model, collapsed, (2, 9, 9, 3)) < 1e-5


@pytest.mark.once
def test_depth_multipliers(everything_pays):
    """A channel goes directly if all that the depthwise convolution makes of it is linear."""
    inputs = keras.Input((7, 7, 3))
    x = SparsePReLU(name="first")(layers.Conv2D(4, 1)(inputs))
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x)
    x = layers.Conv2D(5, 1)(SparsePReLU(name="second")(x))
    model = randomized(keras.Model(inputs, x), 0.0)
    model.get_layer("first").alpha.assign([1, 1, 1, 0])
    model.get_layer("second").alpha.assign([1, 1, 1, 0, 1, 1, 1, 1])
    collapsed = collapse(model, cost="macs")
    assert difference(model, collapsed, (2, 7, 7, 3)) < 1e-5
    widths = [x.output.shape[-1] for x in collapsed.layers if isinstance(x, layers.Conv2D)]
    assert sorted(widths) == [2, 5, 5, 5]  # With what goes directly, and its borders.


@pytest.mark.once
@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="TensorFlow has no groups on a CPU."
)
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_groups_stay(share, everything_pays):
    inputs = keras.Input((7, 7, 4))
    x = SparsePReLU(name="act")(layers.Conv2D(12, 3, groups=2)(inputs))
    x = layers.Conv2D(6, 3, groups=2)(x)
    model = randomized(keras.Model(inputs, x), 0.0)
    linear = [1, 0, 1, 0, 1, 1, 0, 0, 1, 1, 0, 0] if share < 1 else np.ones(12)
    model.get_layer("act").alpha.assign(linear)
    collapsed = collapse(model, cost="macs")
    assert difference(model, collapsed, (2, 7, 7, 4)) < 1e-5
    convolutions = [x for x in collapsed.layers if isinstance(x, layers.Conv2D)]
    assert all(layer.groups == 2 for layer in convolutions)
    # Of the first group two of its four linear units go directly, as many as the second has.
    widths = [layer.filters for layer in convolutions]
    assert sorted(widths) == ([6] if share == 1 else [6, 6, 8])


def test_shortcuts_join():
    """A linear residual block with a projection becomes one convolution."""
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(6, 3, strides=2, padding="same")(inputs)
    x = layers.Add()([layers.BatchNormalization()(x), layers.Conv2D(6, 1, strides=2)(inputs)])
    model = randomized(keras.Model(inputs, x), 0.0)
    collapsed = collapse(model, cost="macs")
    assert kinds(collapsed) == ["Conv2D"]
    assert difference(model, collapsed, (2, 8, 8, 4)) < 1e-5


@pytest.mark.once
def test_shortcuts_join_what_several_are_merged_to():
    inputs = keras.Input((8, 4))
    x = SparsePReLU(alpha_initializer="ones")(layers.Conv1D(9, 1, name="one")(inputs))
    x = layers.Add(name="sum")([layers.Conv1D(4, 3, padding="same", name="two")(x), inputs])
    model = randomized(keras.Model(inputs, x), 1.0)
    plan = collapse_plan(model, cost="macs", verbose=False)
    assert [row["name"] for row in plan.rows] == ["one + two", "one + two + sum"]


@pytest.mark.once
@pytest.mark.parametrize(
    "combined",
    [
        *(keras.ops.subtract, keras.ops.multiply, lambda x, y: layers.Subtract()([x, y])),
        *(lambda x, y: layers.Average()([x, y]), lambda x, y: layers.Add()([x, y[:, :1]])),
    ],
)
def test_what_is_no_sum_is_not_merged_as_one(combined):
    inputs = keras.Input((8, 4))
    # As a sum it would go with them, which would save still more.
    x = layers.Conv1D(4, 3, padding="same")(layers.Conv1D(16, 1, use_bias=False)(inputs))
    model = randomized(keras.Model(inputs, combined(x, inputs)), 0.0)
    collapsed = collapse(model, cost="macs")
    assert [type(x).__name__ for x in (collapsed.operations[1], collapsed.operations[-1])] == [
        "Conv1D",
        type(model.operations[-1]).__name__,
    ]
    assert len(collapsed.operations) == len(model.operations) - 1
    assert difference(model, collapsed, (2, 8, 4)) < 1e-5


@pytest.mark.once
@pytest.mark.parametrize("pads", [None, ((0, 1), (0, 1)), ((1, 1), (0, 1))])
def test_padding_depends_on_each_size(pads):
    """9 rows and 8 columns: with strides, what Keras pads is not the same for both."""
    inputs = x = keras.Input((9, 8, 4))
    if pads is not None:
        x = layers.ZeroPadding2D(pads)(x)
    x = layers.Conv2D(3, 3, strides=2, padding="valid" if pads else "same")(x)
    model = randomized(keras.Model(inputs, layers.BatchNormalization()(x)), 0.0)
    collapsed = collapse(model, cost="macs")
    # The last are those of "same".
    assert kinds(collapsed) == ["ZeroPadding2D"] * (pads == ((0, 1), (0, 1))) + ["Conv2D"]
    assert difference(model, collapsed, (2, 9, 8, 4)) < 1e-5


@pytest.mark.once
def test_what_is_used_elsewhere_is_not_fused():
    """Neither an activation into its layer, nor normalization."""
    inputs = keras.Input((4, 3))
    one, two, three = (layers.Dense(5)(inputs) for _ in range(3))
    outputs = [
        layers.ReLU()(layers.BatchNormalization()(one)),
        *(layers.ReLU()(two), layers.Softmax()(two)),
        *(layers.ReLU()(three), three),
    ]
    model = randomized(keras.Model(inputs, outputs), 0.0)
    collapsed = collapse(model, cost="macs")
    assert sorted(kinds(collapsed)) == ["Dense", "Dense", "Dense", "ReLU", "ReLU", "Softmax"]
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    for one, two in zip(model(x), collapsed(x), strict=True):
        one, two = map(keras.ops.convert_to_numpy, (one, two))
        np.testing.assert_allclose(one, two, atol=1e-5)
    # Along the only axis, too.
    model = keras.Sequential([keras.Input((3,)), layers.Dense(5), layers.BatchNormalization(1)])
    assert kinds(collapse(model, cost="macs")) == ["Dense"]


@pytest.mark.once
def test_what_saves_most_is_merged():
    """Three layers would be one, but the middle is narrow."""
    model = keras.Sequential([keras.Input((32,)), *map(layers.Dense, (64, 2, 32))])
    assert [layer.units for layer in collapse(model, cost="macs").layers[1:]] == [2, 32]


@pytest.mark.once
def test_what_layers_and_normalization_become():
    """Normalization is none before it is in a layer; of a convolution and Dense, a convolution."""
    inputs = keras.Input((5, 5, 3))
    x = layers.BatchNormalization()(layers.BatchNormalization()(inputs))
    x = layers.Dense(2, "relu", name="dense")(layers.Conv2D(4, 2, name="conv")(x))
    model = randomized(keras.Model(inputs, x), 0.0)
    plan = collapse_plan(model, cost="macs", verbose=False)
    assert [row["name"] for row in plan.rows] == ["conv + dense_linear"]
    collapsed = collapse(model, plan)
    assert kinds(collapsed) == ["Conv2D"]
    assert collapsed.layers[-1].activation is keras.activations.relu
    assert difference(model, collapsed, (2, 5, 5, 3)) < 1e-5


@pytest.mark.once
@pytest.mark.parametrize("elsewhere", [False, True])
def test_shortcuts_that_do_not_join(elsewhere):
    """Those of another input, and those that are used elsewhere, too."""
    inputs, other = keras.Input((8, 4)), keras.Input((8, 4))
    shortcut = layers.Conv1D(6, 1)(inputs if elsewhere else other)
    x = layers.Add()([layers.Conv1D(6, 3, padding="same")(inputs), shortcut])
    outputs = [x, shortcut, layers.ReLU()(other)] if elsewhere else [x, other]
    model = randomized(keras.Model([inputs, other], outputs), 0.0)
    collapsed = collapse(model, cost="macs")
    assert kinds(collapsed).count("Conv1D") == 2
    data = np.random.default_rng(0).normal(size=(2, 2, 8, 4)).astype("float32")
    for one, two in zip(model(list(data)), collapsed(list(data)), strict=True):
        one, two = map(keras.ops.convert_to_numpy, (one, two))
        np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.once
def test_a_constant_channel_is_appended_once(everything_pays):
    """What is merged in a second round may have it already."""
    inputs = keras.Input((12, 2))
    x = layers.ZeroPadding1D(1)(layers.BatchNormalization()(inputs))
    x = layers.DepthwiseConv1D(1, use_bias=False)(x)
    x = layers.Add()([x, layers.BatchNormalization()(x)])
    model = randomized(keras.Model(inputs, x), 0.0)
    collapsed = collapse(model, cost="macs")
    assert [type(each).__name__ for each in collapsed.operations].count("OnesLike") == 1
    assert difference(model, collapsed, (2, 12, 2)) < 1e-5


@pytest.mark.once
@pytest.mark.parametrize("axis", [1, 2, 3, -1, -2, -3])
def test_axes_and_epsilons_of_batch_normalization(axis):
    """Of as many rows and columns as channels, nothing but the axis tells which is meant."""
    inputs = keras.Input((4, 4, 3))
    x = layers.BatchNormalization(axis, epsilon=0.5, scale=False)(layers.Conv2D(4, 1)(inputs))
    x = layers.BatchNormalization(axis, epsilon=0.05, center=False)(layers.Conv2D(4, 1)(x))
    model = randomized(keras.Model(inputs, x), 0.0)
    collapsed = collapse(model, cost="macs")
    assert difference(model, collapsed, (2, 4, 4, 3)) < 1e-5
    over_channels = axis in (3, -1)
    assert kinds(collapsed).count("BatchNormalization") == (0 if over_channels else 2)
    assert kinds(collapsed).count("Conv2D") == (1 if over_channels else 2)


@pytest.mark.once
@pytest.mark.parametrize(
    ("equation", "bias_axes", "is_dense"),
    [
        ("abc,cd->abd", "d", True),
        ("abc,cd->abd", None, True),
        ("abc,cd->abd", "bd", False),
        ("abc,cd->adb", "d", False),
        ("abc,bd->acd", None, False),
        ("abc,cde->abde", "e", False),
    ],
)
def test_what_of_einsum_is_dense(equation, bias_axes, is_dense):
    inputs = keras.Input((4, 4))
    shape = (4, 4, 4) if "e" in equation else (4, 4)
    x = layers.EinsumDense(equation, shape, bias_axes=bias_axes, name="first")(inputs)
    model = randomized(keras.Model(inputs, layers.Dense(3)(x)), 0.0)
    collapsed = collapse(model, cost="macs")
    assert kinds(collapsed) == (["Dense"] if is_dense else ["EinsumDense", "Dense"])
    assert difference(model, collapsed, (2, 4, 4)) < 1e-5


@pytest.mark.once
def test_borders_are_refused_and_said_so():
    model = keras.Sequential(
        [
            *(keras.Input((12, 12, 4)), layers.Conv2D(4, 3, padding="same")),
            *(SparsePReLU(alpha_initializer="ones"), layers.Conv2D(4, 3, padding="same")),
        ]
    )
    plan = collapse_plan(model, cost="macs", verbose=False)
    (row,) = plan.rows
    assert row["outcome"] == "refused"
    assert row["reason"].startswith("borders: the second kernel, of 3x3 taps")
    assert kinds(collapse(model, plan)) == ["Conv2D", "Conv2D"]


shared = layers.Conv2D(4, 1)
BARRIERS = {
    "several consumers: left, right": lambda x, gate: layers.Concatenate()(
        [layers.Conv2D(4, 1, name="left")(x), layers.Conv2D(4, 1, name="right")(x)]
    ),
    "layer MaxPooling2D is none that": lambda x, gate: layers.MaxPooling2D()(x),
    "layer Softmax is none that": lambda x, gate: layers.Softmax()(x),
    "layer Multiply is none that": lambda x, gate: layers.Multiply()([x, gate]),
    "operation Multiply mixes or moves elements": lambda x, gate: x * gate,
    "is shared: it is called several times": lambda x, gate: shared(shared(x)),
    "it is an output of the model": lambda x, gate: x,
    "a transposed convolution": lambda x, gate: layers.Conv2DTranspose(4, 3)(x),
    "not linear on the other side of deep": lambda x, gate: layers.Conv2D(2, 1)(
        SparsePReLU()(layers.DepthwiseConv2D(3, name="deep")(x))
    ),
    "einsum 'bhwc,cd->bwhd' is not that": lambda x, gate: layers.EinsumDense(
        "bhwc,cd->bwhd", (None, None, 4)
    )(x),
    "depends on the size": lambda x, gate: layers.Conv2D(4, 3, strides=2, padding="same")(x),
}


@pytest.mark.once
@pytest.mark.parametrize("reason", BARRIERS)
def test_barriers(reason):
    inputs = keras.Input((None, None, 4))
    x = SparsePReLU(name="act")(layers.Conv2D(4, 1)(inputs))
    gate = layers.Conv2D(4, 1, activation="sigmoid")(inputs)
    model = randomized(keras.Model(inputs, BARRIERS[reason](x, gate)), 0.0)
    model.get_layer("act").alpha.assign([1.0, 0.0, 0.0, 0.0])
    plan = collapse_plan(model, cost="macs", verbose=False)
    reasons = [row["reason"] for row in plan.rows if row["name"] == "act"]
    assert len(reasons) == 1
    assert reason in reasons[0]
    assert difference(model, collapse(model, plan), (2, 9, 9, 4)) < 1e-5


@pytest.mark.once
@pytest.mark.parametrize("elsewhere", ["a layer", "an output"])
def test_what_units_act_on_is_used_elsewhere(elsewhere):
    inputs = keras.Input((4,))
    x = layers.Dense(3)(inputs)
    units = SparsePReLU(alpha_initializer="ones", name="units")
    units.build((None, 3))
    units.alpha.assign([1.0, 0.0, 0.0])
    outputs = [layers.Dense(2)(units(x)), layers.Softmax()(x) if elsewhere == "a layer" else x]
    plan = collapse_plan(keras.Model(inputs, outputs), cost="macs", verbose=False)
    (row,) = plan.rows
    assert (row["name"], row["reason"]) == ("units", "what it acts on is used elsewhere, too")


@pytest.mark.once
@pytest.mark.parametrize("groups", [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_groups_are_given_no_channels_of_zeros(groups):
    """That an engine would like: they would be as many for each group."""
    inputs = keras.Input((9, 4))
    x = SparsePReLU(name="units")(layers.Conv1D(24, 1, groups=groups[0])(inputs))
    model = keras.Model(inputs, layers.Conv1D(2, 1, groups=groups[1])(x))
    model.get_layer("units").alpha.assign(np.arange(24) % 4 == 0)
    one, units, two = Surgeon(model).steps
    # Not where they would be all channels again.
    for multiple, left in ((5, 20), (8, 18)):
        _, parts = merge([one, two], [units], multiple)
        widths = [parts[0].map.outputs, len(parts[1].slopes), parts[2].map.inputs]
        assert widths == [left if groups == (1, 1) else 18] * 3
        # Only convolutions compute with channels in blocks.
        one.kind = two.kind = "dense"
        _, parts = merge([one, two], [units], multiple)
        assert parts[0].map.outputs == 18
        one.kind = two.kind = "conv"


@pytest.mark.once
@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="TensorFlow has no groups on a CPU."
)
def test_a_group_without_linear_units():
    inputs = keras.Input((9, 4))
    x = SparsePReLU(name="act")(layers.Conv1D(6, 1, groups=2)(inputs))
    model = randomized(keras.Model(inputs, layers.Conv1D(2, 1)(x)), 0.0)
    model.get_layer("act").alpha.assign([1, 1, 1, 0, 0, 0])
    (row,) = collapse_plan(model, cost="macs", verbose=False).rows
    assert "groups: each needs as many linear units" in row["reason"]


@pytest.mark.once
def test_units_along_another_axis():
    """As many rows as channels: nothing but the axis tells that they are others."""
    inputs = keras.Input((4, 6, 3))
    x = SparsePReLU(axis=1, name="act")(layers.Conv2D(4, 1)(inputs))
    model = keras.Model(inputs, layers.Conv2D(2, 1)(x))
    model.get_layer("act").alpha.assign([1.0, 0.0, 0.0, 1.0])
    plan = collapse_plan(model, cost="macs", verbose=False)
    assert "along another axis" in plan.rows[0]["reason"]
    assert difference(model, collapse(model, plan), (2, 4, 6, 3)) < 1e-5


@pytest.mark.once
def test_axes_that_the_layers_before_tell():
    """Of what has none itself: one slope for all, and plain activations."""
    for data_format, axis in (("channels_first", 1), ("channels_last", -1)):
        inputs = keras.Input((4, 5, 6))
        conv = layers.Conv2D(3, 1, data_format=data_format)
        x = SparsePReLU(granularity="layer")(layers.Dropout(0.1)(conv(inputs)))
        x = keras.ops.tanh(keras.ops.gelu(layers.Activation("silu")(x)))
        model = keras.Model(inputs, layers.ReLU()(layers.GlobalMaxPooling2D(data_format)(x)))
        *steps, _, last = Surgeon(model).steps
        assert [step.axis for step in steps] == [axis] * 5
        assert [len(step.slopes) for step in steps[1:]] == [3] * 4
        assert last.axis == -1
    inputs = keras.Input((4, 5))
    x = SparsePReLU(granularity="layer")(layers.Dense(3)(inputs))
    for step in Surgeon(keras.Model(inputs, layers.Activation("silu")(x))).steps:
        assert step.axis == -1


@pytest.mark.once
@pytest.mark.parametrize("name", ["net_0.35", "a b:c", "é"])
def test_names_of_nested_models(name):
    """On torch no layer with weights has a dot in its name, but models have."""
    inputs = keras.Input((4,))
    inner = keras.Model(inputs, SparsePReLU()(layers.Dense(6)(inputs)), name=name)
    outer = keras.Model(inputs, inner(inputs), name="outer." + name)
    model = randomized(keras.Model(inputs, layers.Dense(2)(outer(inputs))), 0.0)
    inner.layers[-1].alpha.assign([1, 0, 0, 1, 0, 0])
    assert difference(model, collapse(model, cost="macs"), (3, 4)) < 1e-5


PAIRS = {
    "one channel": layers.Conv2D(4, 3),
    "depthwise": layers.DepthwiseConv2D(3, depth_multiplier=4),
    "normalization": layers.BatchNormalization(),
}


@pytest.mark.parametrize("second", ["depthwise", "normalization"])
@pytest.mark.parametrize("first", PAIRS)
def test_both_sides_work_by_channel(first, second):
    """Linear units between them stay where they are."""
    first, second = (
        type(PAIRS[x]).from_config({**PAIRS[x].get_config(), "name": name})
        for x, name in ((first, "one"), (second, "two"))
    )
    channels = 1 if isinstance(first, layers.Conv2D) else 4
    inputs = keras.Input((8, 8, channels))
    units = SparsePReLU(name="units")
    x = second(units(first(inputs)))
    x = layers.Conv2D(4, 3, padding="same")(x)
    model = randomized(keras.Model(inputs, x), 0.0, seed=1)
    units.alpha.assign(np.arange(len(units.slopes)) % 3 == 0)
    plan = collapse_plan(model, cost="macs", verbose=False)
    (row,) = (row for row in plan.rows if row["name"] == "units")
    names = [layer.name for layer in (first, second)]
    # What has one input channel can be divided by outputs.
    names = " and ".join(names[channels == 1 :])
    assert row["reason"] == f"its units are not linear on the other side of {names}, too"
    assert difference(model, collapse(model, plan), (2, 8, 8, channels)) < 1e-5


@pytest.mark.once
def test_an_image_of_one_channel(everything_pays):
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(3, 2)(SparsePReLU()(layers.Conv2D(6, 3)(inputs)))
    model = randomized(keras.Model(inputs, x), 0.5)
    collapsed = collapse(model, cost="macs")
    assert difference(model, collapsed, (2, 8, 8, 1)) < 1e-5
    taps = [x.kernel_size for x in collapsed.layers if isinstance(x, layers.Conv2D)]
    assert sorted(taps) == [(2, 2), (3, 3), (4, 4)]


@pytest.mark.once
def test_lora_is_merged_and_quantized_layers_stay():
    model = keras.Sequential(
        [
            *(keras.Input((16,)), layers.Dense(32, name="first")),
            *(SparsePReLU(alpha_initializer="ones"), layers.Dense(8)),
        ]
    )
    model.get_layer("first").enable_lora(2)
    model.get_layer("first").lora_kernel_b.assign(np.ones((2, 32)))
    collapsed = collapse(model, cost="macs")
    assert kinds(collapsed) == ["Dense"]
    assert difference(model, collapsed, (3, 16)) < 1e-5


@pytest.mark.once
def test_nested_shared_and_several_outputs(everything_pays):
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(16), SparsePReLU(), layers.Dense(8)])
    inputs = {"a": keras.Input((8,), name="a"), "b": keras.Input((8,), name="b")}
    once = inner(inputs["a"])
    twice = layers.Dense(4, activation="gelu")(inner(inputs["b"]))
    model = keras.Model(inputs, {"x": layers.Dense(3)(once), "y": twice})
    randomized(inner, 0.5)
    collapsed = collapse(model, cost="macs")
    data = {key: np.random.default_rng(0).normal(size=(3, 8)) for key in "ab"}
    first, second = model(data), collapsed(data)
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_allclose(
            *(keras.ops.convert_to_numpy(each[key]) for each in (first, second)), rtol=1e-4
        )


@pytest.mark.once
@pytest.mark.parametrize("sparse_inside", [once(False), True])
def test_blocks_of_keras_hub(sparse_inside, tmp_path):
    """Blocks are opened, also where their activation is a `SparsePReLU` already."""
    keras_hub = pytest.importorskip("keras_hub")
    inputs = keras.Input((7, 8))
    activation = SparsePReLU(name="units") if sparse_inside else "relu"
    block = keras_hub.layers.TransformerEncoder(32, 2, activation=activation)
    model = keras.Model(inputs, block(inputs))
    if sparse_inside:
        model(np.zeros((1, 7, 8)))
    else:
        model = sparsify(model)
    units = [layer for layer in model._flatten_layers() if isinstance(layer, SparsePReLU)]
    units[0].alpha.assign(np.arange(32) % 4 > 0)
    plan = collapse_plan(model, cost="macs", verbose=False)
    plan.save(tmp_path / "plan.json")
    collapsed = collapse(model, CollapsePlan.load(tmp_path / "plan.json"))
    assert difference(model, collapsed, (2, 7, 8)) < 1e-5
    assert len(plan.taken) == 1
    # Slopes and two layers are gone; three 8 x 8 kernels, without biases that were 0, stay.
    gone = 2 * 32 + (8 + 1) * 32 + (32 + 1) * 8
    assert collapsed.count_params() == model.count_params() - gone + 3 * 64


def test_float64():
    if keras.backend.backend() == "jax":
        pytest.skip("JAX computes in float32 unless `jax_enable_x64` is set.")
    keras.config.set_dtype_policy("float64")
    try:
        collapse(linearized(inverted_residual(), 0.9), cost="macs")
        model = keras.Sequential(
            [
                *(keras.Input((9, 9, 4)), layers.Conv2D(8, 1), SparsePReLU()),
                *(layers.Conv2D(8, 3, padding="same"), SparsePReLU(), layers.Conv2D(4, 1)),
            ]
        )
        # Keras' batch normalization is not exact in float64 on torch.
        collapsed = collapse(randomized(model, 0.9), cost="macs", tolerance=1e-13)
        assert collapsed.layers[-1].compute_dtype == "float64"
        # Outputs are compared with all of their digits.
        one, other = (
            keras.Sequential([keras.Input((4,)), layers.Rescaling(scale)]) for scale in (1.0, 1.0)
        )
        verify(one, other, 0.0, 8)
        # TensorFlow takes a number of Python for one of 32 bits.
        other.layers[-1].scale = np.float64(1 + 1e-12)
        with pytest.raises(ValueError, match="more than `tolerance`"):
            verify(one, other, 1e-14, 8)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.once
@pytest.mark.parametrize(
    ("policies", "left"),
    [
        (["mixed_bfloat16", "float32", "mixed_bfloat16"], "Dense Activation Dense"),
        (["float32", "float32", "mixed_bfloat16"], "Dense Dense"),
        (["mixed_bfloat16"] * 3, "Dense"),
    ],
)
def test_dtypes_stay(policies, left):
    """Layers of different dtypes are not merged, and what casts is kept."""
    first, between, last = policies
    for end, kept in (
        (layers.Activation("linear", dtype="float32"), "Activation"),
        (layers.Dropout(0.1, dtype="float32"), "Dropout"),
        (SparsePReLU(alpha_initializer="ones", dtype="float32"), "Activation"),
        (SparsePReLU(dtype="float32"), "ReLU"),
        (layers.Dense(2, dtype="float32"), "Dense"),
        (None, ""),
    ):
        inputs = keras.Input((4,))
        x = layers.Dense(8, dtype=first)(inputs)
        x = SparsePReLU(alpha_initializer="ones", dtype=between)(x)
        x = layers.Dense(3, dtype=last)(x)
        model = randomized(keras.Model(inputs, end(x) if end else x), 1.0)
        if kept == "ReLU":
            end.alpha.assign([0.0, 1.0, 0.5])
            kept = "Activation PReLU"
        collapsed = collapse(model, cost="macs")
        assert kinds(collapsed) == [*left.split(), *kept.split()]
        assert collapsed.output.dtype == model.output.dtype
        assert difference(model, collapsed, (5, 4)) < 2e-2


@pytest.mark.once
def test_sums_of_several_dtypes_stay():
    inputs = keras.Input((4,))
    x = layers.Dense(8, dtype="mixed_bfloat16")(inputs)
    x = SparsePReLU(alpha_initializer="ones", dtype="mixed_bfloat16")(x)
    x = layers.Dense(4, dtype="mixed_bfloat16")(x)
    for outputs in (x + inputs, layers.Add()([x, inputs])):
        model = keras.Model(inputs, outputs)
        assert collapse(model, cost="macs").output.dtype == model.output.dtype == "float32"


def test_half_precision_inside():
    """What half precision rounds is no error of `collapse`, also where outputs are float32."""
    inputs = keras.Input((16,))
    x = layers.Dense(64, dtype="mixed_bfloat16")(inputs)
    x = SparsePReLU(alpha_initializer="ones", dtype="mixed_bfloat16")(x)
    x = layers.Dense(64, dtype="mixed_bfloat16")(x)
    model = keras.Model(inputs, layers.Dense(4, dtype="float32")(layers.Softmax()(x)))
    collapsed = collapse(model, cost="macs")
    assert kinds(collapsed) == ["Dense", "Softmax", "Dense"]
    assert 1e-6 < difference(model, collapsed, (5, 16)) < 2e-2


def test_time_decides(capsys):
    model = keras.Sequential(
        [
            *(keras.Input((512,)), layers.Dense(2048)),
            *(SparsePReLU(alpha_initializer="ones"), layers.Dense(512)),
        ]
    )
    plan = collapse_plan(model, batch_size=64)
    (row,) = plan.rows
    # Eight times fewer multiplications: what takes the time is in no doubt.
    assert row["outcome"] == "taken"
    assert row["ms_after"] < row["ms_before"]
    assert row["macs_before"] == 2 * 512 * 2048
    assert row["macs_after"] == 512 * 512
    assert row["name"] in capsys.readouterr().out


@pytest.mark.once
def test_plans_are_saved_and_belong_to_a_model(tmp_path):
    model = linearized(inverted_residual(), 0.9)
    plan = collapse_plan(model, cost="macs", verbose=False)
    plan.save(tmp_path / "plan.json")
    again = CollapsePlan.load(tmp_path / "plan.json")
    assert again.rows == plan.rows
    a, b = collapse(model, plan), collapse(model, again)
    assert kinds(a) == kinds(b)
    assert difference(a, b, (2, 9, 9, 8)) == 0
    with pytest.raises(ValueError, match="`plan` must be a `CollapsePlan` made for this model"):
        collapse(linearized(inverted_residual(), 0.5), plan)
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(ValueError, match=r"must be a JSON file that `CollapsePlan\.save` wrote"):
        CollapsePlan.load(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text(
        '{"version": 0, "rows": [], "fingerprint": "", "cost": "macs"}'
    )
    with pytest.raises(ValueError, match=r"of version 0\. Make it anew"):
        CollapsePlan.load(tmp_path / "plan.json")


@pytest.mark.once
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (b"[" * 100_000, "RecursionError"),
        (b'{"version": ' + b"9" * 5000 + b"}", "5000 digits"),
        (b'{"version": "\xff"}', "UnicodeDecodeError"),
        ([], "TypeError"),
        ({"rows": {}}, r"rows must be a list, not \{\}"),
        ({"rows": [3]}, "TypeError"),
        ({"rows": [{}]}, "KeyError: 'round'"),
        ({"round": 10**9}, r"rows\[0\]\.round must not be 1000000000"),
        ({"round": True}, r"rows\[0\]\.round must not be True"),
        ({"name": [1]}, r"rows\[0\]\.name must not be \[1\]"),
        ({"macs_after": "many"}, r"rows\[0\]\.macs_after must not be 'many'"),
        ({"cost": ["time"]}, "cost must not be"),
        ({"fingerprint": None}, "fingerprint must not be None"),
        ({"setting": []}, "setting must not be"),
    ],
)
def test_plans_that_are_nonsense(change, message, tmp_path):
    row = {"round": 1, "name": "a", "outcome": "taken", "reason": ""}
    row |= dict.fromkeys(("macs_before", "macs_after", "ms_before", "ms_after"))
    content = {"version": 2, "rows": [row], "fingerprint": "", "cost": "macs", "setting": {}}
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(content))
    assert CollapsePlan.load(file).taken == [["a"]]
    if isinstance(change, dict):
        row |= {key: value for key, value in change.items() if key in row}
        content |= {key: value for key, value in change.items() if key in content}
        change = content
    file.write_bytes(change if isinstance(change, bytes) else json.dumps(change).encode())
    with pytest.raises(ValueError, match=r"`CollapsePlan\.save` wrote") as error:
        CollapsePlan.load(file)
    assert re.search(message, str(error.value))
    assert str(file) in str(error.value)


@pytest.mark.once
def test_the_result_needs_nothing_of_this_library(tmp_path, everything_pays):
    model = linearized(inverted_residual(), 0.7)
    collapsed = collapse(model, cost="macs")
    collapsed.save(tmp_path / "collapsed.keras")
    x = np.random.default_rng(0).normal(size=(2, 9, 9, 8)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, warnings, keras, numpy as np\n"
        # Keras 3.10 warns of any model with one input that it has read from a file.
        "warnings.filterwarnings('ignore', 'The structure of `inputs`')\n"
        "folder = sys.argv[1]\n"
        "model = keras.models.load_model(f'{folder}/collapsed.keras')\n"
        "y = keras.ops.convert_to_numpy(model(np.load(f'{folder}/x.npy')))\n"
        "np.save(f'{folder}/y.npy', y)\n"
        "assert 'keras_nladv' not in sys.modules\n"
    )
    assert processes.run(code, tmp_path) == (0, "")
    expected = keras.ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=1e-3, atol=1e-4)


def exported(tmp_path, format):
    """A collapsed model, its inputs and outputs, and the path that it was exported to."""
    with paying_everything():
        collapsed = collapse(linearized(inverted_residual(), 0.7), cost="macs")
    assert any("border" in layer.name for layer in collapsed.layers)
    x = np.random.default_rng(0).normal(size=(2, 9, 9, 8)).astype("float32")
    path = str(tmp_path / ("model.onnx" if format == "onnx" else "model"))
    collapsed.export(path, format=format, verbose=False)
    return x, keras.ops.convert_to_numpy(collapsed(x)), path


@pytest.mark.skipif(
    keras.backend.backend() == "torch",
    reason="Keras 3.15 exports no model of unknown batch size from torch to a SavedModel.",
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorFlow's own.
def test_export_to_saved_model(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    x, expected, path = exported(tmp_path, "tf_saved_model")
    artifact = tensorflow.saved_model.load(path)
    np.testing.assert_allclose(artifact.serve(x).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="Keras 3.15 does not export to ONNX from JAX alone."
)
@pytest.mark.filterwarnings("ignore")  # The converters' own.
@since("3.14", "Exporting a batch of any size")
def test_export_to_onnx(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    x, expected, path = exported(tmp_path, "onnx")
    session = onnxruntime.InferenceSession(path)
    (actual,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.once
def test_names_of_a_model_from_a_file(tmp_path):
    """Operations are numbered in a session, and a model that comes into it has such names."""
    model = linearized(inverted_residual(size=(None, None)), 0.7)
    model.layers[-1].name = "add"
    model.save(tmp_path / "model.keras")
    keras.utils.clear_session()
    loaded = keras.models.load_model(tmp_path / "model.keras")
    with paying_everything():
        collapsed = collapse(loaded, cost="macs")
    assert any(not isinstance(x, keras.Layer) for x in collapsed.operations)
    assert difference(model, collapsed, (2, 9, 9, 8)) < 1e-4
    assert collapsed.output_names == ["add"]


@pytest.mark.once
def test_the_original_is_left_alone():
    model = linearized(inverted_residual(), 0.9)
    before = [w.copy() for w in model.get_weights()]
    collapse(model, cost="macs")
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.once
def test_differences_are_errors(monkeypatch):
    model = linearized(inverted_residual(), 0.9)
    with pytest.raises(ValueError, match="more than `tolerance`=0"):
        collapse(model, cost="macs", tolerance=0.0)
    # What is not changed does not differ.
    collapse(keras.Sequential([keras.Input((4,)), layers.Dense(3)]), tolerance=0.0)


@pytest.mark.once
def test_bad_arguments():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(ValueError, match="`cost` must be"):
        collapse(model, cost="flops")
    with pytest.raises(ValueError, match="`batch_size` must be an integer of at least 1"):
        collapse(model, batch_size=0)
    with pytest.raises(ValueError, match=r"a subclassed model\. Wrap it"):
        collapse(type("Net", (keras.Model,), {})())
    with pytest.raises(ValueError, match="Received: dict for another"):
        collapse(model, {})
    model.layers[-1].bias.assign([np.nan, 0, 0])
    with pytest.raises(ValueError, match=r"'sequential.*bias' .*not finite"):
        collapse(model)
