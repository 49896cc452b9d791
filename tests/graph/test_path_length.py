import gc
import weakref
from fractions import Fraction

import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from keras import layers, ops

from keras_nladv import SparsePReLU, path_length
from keras_nladv.graph import activations
from tests.graph.reference import Reference

pytestmark = pytest.mark.usefixtures("cheap_weights")


def slopes(values):
    """An initializer with given values; NumPy arrays are not accepted by Keras."""
    return lambda shape, dtype=None: ops.convert_to_tensor(np.reshape(values, shape), dtype)


def both(model):
    return path_length(model), path_length(model, normalized=False)


def random_network(draw):
    """A random convolutional network, with the reference graph that stands for it."""
    reference = Reference()
    count = draw(st.integers(1, 3))
    inputs = keras.Input((2, 2, count))
    tensors = [(inputs, reference.inputs(count))]
    for _ in range(draw(st.integers(1, 6))):
        x, nodes = draw(st.sampled_from(tensors))
        kind = draw(
            st.sampled_from(
                ["conv", "grouped", "depthwise", "act", "merge", "concat", "slice", "norm"]
            )
        )
        if kind == "conv":
            size = draw(st.integers(1, 3))
            x, nodes = layers.Conv2D(size, 3, padding="same")(x), reference.mixing(nodes, size)
        elif kind == "grouped":
            groups = len(nodes)
            x = layers.Conv2D(2 * groups, 1, groups=groups)(x)
            nodes = reference.mixing(nodes, 2 * groups, groups)
        elif kind == "depthwise":
            multiplier = draw(st.integers(1, 2))
            x = layers.DepthwiseConv2D(1, depth_multiplier=multiplier)(x)
            nodes = [reference.channel([[node]]) for node in nodes for _ in range(multiplier)]
        elif kind == "act":
            values = draw(
                st.lists(
                    st.sampled_from([0.0, 0.5, 0.995, 1.0, 2.0]),
                    min_size=len(nodes),
                    max_size=len(nodes),
                )
            )
            x = SparsePReLU(alpha_initializer=slopes(values))(x)
            nodes = reference.activation(nodes, [abs(1 - value) >= 0.01 for value in values])
        elif kind == "merge":
            y, others = draw(st.sampled_from([t for t in tensors if len(t[1]) == len(nodes)]))
            layer = draw(st.sampled_from([layers.Add, layers.Multiply, layers.Maximum]))
            x, nodes = layer()([x, y]), reference.merge(nodes, others)
        elif kind == "concat":
            y, others = draw(st.sampled_from(tensors))
            x, nodes = layers.Concatenate()([x, y]), nodes + others
        elif kind == "slice":
            x, nodes = x[..., :1], nodes[:1]
        else:
            x = layers.BatchNormalization()(layers.MaxPooling2D(1)(x))
        # Widths are bounded: the paths are enumerated.
        if len(nodes) <= 4:
            tensors.append((x, nodes))
    x, nodes = tensors[-1]
    pooling = draw(st.sampled_from([layers.GlobalAveragePooling2D, layers.Flatten]))
    outputs = layers.Dense(2, activation="relu")(pooling()(x))
    nodes = reference.activation(reference.mixing(nodes, 2), [1, 1])
    return keras.Model(inputs, outputs), reference.path_lengths(nodes)


@settings(max_examples=80)
@given(st.data())
def test_random_graphs_agree_with_enumeration(data):
    model, (normalized, unnormalized) = random_network(data.draw)
    assert path_length(model) == pytest.approx(normalized, rel=1e-12, abs=1e-12)
    assert path_length(model, normalized=False) == pytest.approx(unnormalized, rel=1e-12, abs=1e-12)


def residual_network(blocks, preactivation=False, channels=(16, 32, 64)):
    def activated(x):
        return SparsePReLU()(layers.BatchNormalization()(x))

    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(channels[0], 3, padding="same")(inputs)
    x = x if preactivation else activated(x)
    for stage, width in enumerate(channels):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = activated(x) if preactivation else x
            y = activated(layers.Conv2D(width, 3, stride, padding="same")(y))
            y = layers.Conv2D(width, 3, padding="same")(y)
            x = layers.Conv2D(width, 1, stride)(x) if stride > 1 else x
            x = layers.Add()([x, y])
            x = x if preactivation else activated(x)
    x = activated(x) if preactivation else x
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize(
    ("blocks", "preactivation", "normalized", "unnormalized"),
    [
        (3, False, 14.5, 18.94),
        (5, False, 23.5, None),
        (9, False, 41.5, 54.91),
        (18, False, 82.0, None),
        (3, True, 10.0, None),
        (9, True, 28.0, None),
    ],
)
def test_residual_networks_for_cifar(blocks, preactivation, normalized, unnormalized):
    model = residual_network(blocks, preactivation)
    assert path_length(model) == pytest.approx(normalized, rel=1e-12)
    if unnormalized is not None:
        assert path_length(model, normalized=False) == pytest.approx(unnormalized, abs=0.005)


def test_skip_around_four_layers():
    inputs = x = keras.Input((1,))
    for _ in range(4):
        x = layers.Dense(4, activation="relu")(x)
    model = keras.Model(inputs, layers.Add()([layers.Dense(1)(x), inputs]))
    assert both(model) == pytest.approx((2.0, 1024 / 257), rel=1e-14)


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_plain_chain_is_as_long_as_it_is_deep(depth):
    model = keras.Sequential([keras.Input((3,))])
    for _ in range(depth):
        model.add(layers.Dense(5))
        model.add(SparsePReLU())
    model.add(layers.Dense(2, activation="softmax"))
    assert both(model) == pytest.approx((depth, depth), rel=1e-14)


def test_exact_where_path_counts_overflow():
    """Residual layers of 64 channels, compared with exact integers channel by channel."""
    inputs = x = keras.Input((64,))
    counts, totals = [1] * 64, [0] * 64
    for layer in range(220):
        linear = (layer * 7) % 64
        act = SparsePReLU(alpha_initializer=slopes([1.0] * linear + [0.0] * (64 - linear)))
        y = act(layers.Dense(64)(x))
        x = layers.Add()([x, y])
        mixed, mixed_total = sum(counts), sum(totals)
        units = [0] * linear + [1] * (64 - linear)
        totals = [t + mixed_total + mixed * unit for t, unit in zip(totals, units)]
        counts = [c + mixed for c in counts]
    model = keras.Model(inputs, x)
    assert sum(counts) > 10**308
    expected = float(Fraction(sum(totals), sum(counts)))
    assert path_length(model, normalized=False) == pytest.approx(expected, rel=1e-12)


def test_shared_and_nested_models():
    """Every call is its own node: a block that is called twice in a row counts twice."""
    block = keras.Sequential([keras.Input((4,)), layers.Dense(4), SparsePReLU()], name="block")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Add()([block(block(inputs)), inputs]))
    assert path_length(model) == pytest.approx(1.0)
    assert path_length(model, normalized=False) == pytest.approx(2 * 16 / 17)
    (activation,) = activations(model)
    assert (activation.units, activation.positions) == (4, 2)


def test_several_inputs_and_outputs():
    a, b = keras.Input((2,)), keras.Input((3,))
    x = layers.Dense(2, activation="relu")(a)
    model = keras.Model([a, b], [layers.Concatenate()([x, b]), layers.Dense(1)(b)])
    assert path_length(model) == pytest.approx(2 / 6)
    assert path_length(model, normalized=False) == pytest.approx(4 / (4 + 3 + 3))


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_data_formats_agree(data_format):
    inputs = keras.Input((3, 8, 8) if data_format == "channels_first" else (8, 8, 3))
    axis = 1 if data_format == "channels_first" else -1
    x = layers.Conv2D(4, 3, padding="same", data_format=data_format)(inputs)
    x = SparsePReLU(axis=axis, alpha_initializer=slopes([0, 1, 0, 1]))(x)
    x = layers.Concatenate(axis=axis)([x, inputs])
    x = layers.GlobalMaxPooling2D(data_format=data_format)(x)
    model = keras.Model(inputs, layers.Dense(2)(x))
    assert path_length(model) == pytest.approx(2 / 7)
    assert path_length(model, normalized=False) == pytest.approx(3 * 2 / (3 * 4 + 3))


def test_positions_are_not_paths():
    """Flattening 5 x 5 positions leaves 4 channels beside the 3 they are concatenated with."""
    a, b = keras.Input((5, 5, 2)), keras.Input((3,))
    x = layers.Flatten()(layers.Conv2D(4, 1, activation="relu")(a))
    model = keras.Model([a, b], layers.Dense(1)(layers.Concatenate()([x, b])))
    assert path_length(model) == pytest.approx(4 / 7)
    assert path_length(model, normalized=False) == pytest.approx(8 / 11)


@pytest.mark.parametrize("granularity", ["channel", "layer", "element"])
def test_granularities(granularity):
    values = {"channel": [1, 0, 0], "layer": [0], "element": np.arange(12) % 4 == 0}[granularity]
    expected = {"channel": 2 / 3, "layer": 1.0, "element": 9 / 12}[granularity]
    model = keras.Sequential(
        [
            keras.Input((2, 2, 3)),
            SparsePReLU(granularity=granularity, alpha_initializer=slopes(np.array(values, float))),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    assert both(model) == pytest.approx((expected, expected))


def test_slopes_of_other_layers():
    inputs = keras.Input((4, 4, 3))
    x = layers.PReLU(shared_axes=[1, 2], alpha_initializer=slopes([0.995, 1.5, 0.2]))(inputs)
    x = layers.LeakyReLU(negative_slope=1.0)(x)
    x = layers.LeakyReLU(negative_slope=0.1)(x)
    x = layers.ELU()(layers.ReLU(6.0)(x))
    x = layers.Softmax()(layers.Activation("linear")(layers.Activation("gelu")(x)))
    assert both(keras.Model(inputs, x)) == pytest.approx((4 + 2 / 3, 4 + 2 / 3))


def test_slopes_are_read_anew():
    layer = SparsePReLU()
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8), layer, layers.Dense(1)])
    assert path_length(model) == 1.0
    layer.alpha.assign([1.0, 0.0] * 4)
    assert path_length(model) == 0.5


def test_grown_sequential_model_is_traced_anew():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, activation="relu")])
    assert path_length(model) == 1.0
    model.add(layers.Dense(8, activation="relu"))
    assert path_length(model) == 2.0
    model.pop()
    assert path_length(model) == 1.0


def test_measured_models_are_released():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, activation="relu")])
    path_length(model)
    released = weakref.ref(model)
    del model
    gc.collect()
    assert released() is None


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: keras.Sequential([layers.Dense(2)]), "must be built"),
        (lambda: type("Net", (keras.Model,), {})(), "a subclassed model. Wrap it"),
        (lambda: layers.Dense(2), "must be a Functional or Sequential Keras model"),
    ],
)
def test_models_without_a_graph_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        path_length(model())
