import contextlib
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
from keras_nladv.graph.path_graph import PathGraph
from tests.graph.reference import Reference

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("cheap_weights")]


@keras.saving.register_keras_serializable(package="tests")
class Values(keras.initializers.Initializer):
    """An initializer with given values; NumPy arrays are not accepted by Keras."""

    def __init__(self, values):
        self.values = np.asarray(values).tolist()

    def __call__(self, shape, dtype=None):
        return ops.convert_to_tensor(np.reshape(self.values, shape), dtype)

    def get_config(self):
        return {"values": self.values}


def both(model, weights=False):
    return (
        path_length(model, weights=weights),
        path_length(model, normalized=False, weights=weights),
    )


KINDS = (
    *("conv", "grouped", "depthwise", "separable", "transposed", "einsum", "norm", "scale"),
    *("act", "merge", "concat", "slice", "pool"),
)


def random_network(draw, sparse):
    """A random convolutional network, with what the reference says of it.

    Args:
        draw: What Hypothesis draws with.
        sparse: Boolean. Whether weights are zero at random.

    Returns:
        The model, both of its path lengths and its number of paths.
    """
    reference = Reference()
    count = draw(st.integers(1, 3))
    inputs = keras.Input((2, 2, count))
    tensors = [(inputs, reference.inputs(count))]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.3, 0.6, 0.9])) if sparse else 1.0

    def weights(*shape):
        """Where weights are not zero, over all taps, and their initializer."""
        nonzero = rng.random(shape) < density
        values = np.where(nonzero, rng.normal(size=shape), 0.0)
        return nonzero.reshape(-1, *shape[-2:]).any(axis=0), Values(values)

    for _ in range(draw(st.integers(1, 6))):
        x, nodes = draw(st.sampled_from(tensors))
        kind = draw(st.sampled_from(KINDS))
        count = len(nodes)
        size = draw(st.integers(1, 3))
        if kind == "conv":
            nonzero, kernel = weights(2, 2, count, size)
            x = layers.Conv2D(size, 2, padding="same", kernel_initializer=kernel)(x)
            nodes = reference.mixing(nodes, size, nonzero=nonzero)
        elif kind == "grouped":
            nonzero, kernel = weights(1, 1, 1, 2 * count)
            x = layers.Conv2D(2 * count, 1, groups=count, kernel_initializer=kernel)(x)
            nodes = reference.mixing(nodes, 2 * count, count, nonzero)
        elif kind == "depthwise":
            nonzero, kernel = weights(1, 1, count, size)
            x = layers.DepthwiseConv2D(1, depth_multiplier=size, depthwise_initializer=kernel)(x)
            nodes = reference.scaling(np.repeat(nodes, size).tolist(), nonzero.ravel())
        elif kind == "separable":
            nonzero, kernel = weights(1, 1, count, 2)
            mixed, pointwise = weights(1, 1, 2 * count, size)
            x = layers.SeparableConv2D(
                *(size, 1),
                depth_multiplier=2,
                depthwise_initializer=kernel,
                pointwise_initializer=pointwise,
            )(x)
            nodes = reference.scaling(np.repeat(nodes, 2).tolist(), nonzero.ravel())
            nodes = reference.mixing(nodes, size, nonzero=mixed)
        elif kind == "transposed":
            nonzero, kernel = weights(2, 2, size, count)
            x = layers.Conv2DTranspose(size, 2, padding="same", kernel_initializer=kernel)(x)
            nodes = reference.mixing(nodes, size, nonzero=nonzero.T)
        elif kind == "einsum":
            nonzero, kernel = weights(2, count, size)
            x = layers.EinsumDense("bhwc,hcd->bhwd", (2, 2, size), kernel_initializer=kernel)(x)
            nodes = reference.mixing(nodes, size, nonzero=nonzero)
        elif kind == "norm":
            nonzero, gamma = weights(1, count)
            x = layers.BatchNormalization(gamma_initializer=gamma)(x)
            nodes = reference.scaling(nodes, nonzero[0])
        elif kind == "scale":
            nonzero, scale = weights(1, count)
            x = x * ops.convert_to_numpy(scale((1, count), "float32"))
            nodes = reference.scaling(nodes, nonzero[0])
        elif kind == "act":
            values = draw(
                st.lists(
                    st.sampled_from([0.0, 0.5, 0.995, 1.0, 2.0]), min_size=count, max_size=count
                )
            )
            x = SparsePReLU(alpha_initializer=Values(values))(x)
            nodes = reference.activation(nodes, [abs(1 - value) >= 0.01 for value in values])
        elif kind == "merge":
            y, others = draw(st.sampled_from([t for t in tensors if len(t[1]) == count]))
            layer = draw(st.sampled_from([layers.Add, layers.Multiply, layers.Maximum]))
            x, nodes = layer()([x, y]), reference.merge(nodes, others)
        elif kind == "concat":
            y, others = draw(st.sampled_from(tensors))
            x, nodes = layers.Concatenate()([x, y]), nodes + others
        elif kind == "slice":
            x, nodes = x[..., :1], nodes[:1]
        else:
            x = layers.MaxPooling2D(1)(x)
        # Widths are bounded: the paths are enumerated.
        if len(nodes) <= 4:
            tensors.append((x, nodes))
    x, nodes = tensors[-1]
    pooling = draw(st.sampled_from([layers.GlobalAveragePooling2D, layers.Flatten]))
    x = pooling()(x)
    nonzero, kernel = weights(x.shape[-1] // len(nodes), len(nodes), 2)
    outputs = layers.Dense(2, activation="relu", kernel_initializer=kernel)(x)
    nodes = reference.activation(reference.mixing(nodes, 2, nonzero=nonzero), [1, 1])
    return keras.Model(inputs, outputs), *reference.path_lengths(nodes)


@settings(max_examples=60)
@given(st.data())
def test_random_graphs_agree_with_enumeration(data):
    model, *expected, _ = random_network(data.draw, sparse=False)
    assert both(model) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert both(model, weights=True) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@settings(max_examples=100)
@given(st.data())
def test_random_graphs_with_zeros_agree_with_enumeration(data):
    model, *expected, paths = random_network(data.draw, sparse=True)
    warned = contextlib.nullcontext() if paths else pytest.warns(UserWarning, match="cut every")
    with warned:
        assert both(model, weights=True) == pytest.approx(expected, rel=1e-12, abs=1e-12)


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
        act = SparsePReLU(alpha_initializer=Values([1.0] * linear + [0.0] * (64 - linear)))
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
    x = SparsePReLU(axis=axis, alpha_initializer=Values([0, 1, 0, 1]))(x)
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
            SparsePReLU(granularity=granularity, alpha_initializer=Values(np.array(values, float))),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    assert both(model) == pytest.approx((expected, expected))


def test_slopes_of_other_layers():
    inputs = keras.Input((4, 4, 3))
    x = layers.PReLU(shared_axes=[1, 2], alpha_initializer=Values([0.995, 1.5, 0.2]))(inputs)
    x = layers.LeakyReLU(negative_slope=1.0)(x)
    x = layers.LeakyReLU(negative_slope=0.1)(x)
    x = layers.ELU()(layers.ReLU(6.0)(x))
    x = layers.Softmax()(layers.Activation("linear")(layers.Activation("gelu")(x)))
    assert both(keras.Model(inputs, x)) == pytest.approx((4 + 2 / 3, 4 + 2 / 3))


def test_slopes_just_on_the_threshold():
    """What lies below it is linear; 1 itself is, also without a threshold."""
    for threshold, slopes in ((0.25, [0.75, 0.875, 1.0, 1.5]), (0.0, [1.0, 1.0, 0.5, 1.0078125])):
        layer = SparsePReLU(linear_threshold=threshold, alpha_initializer=Values(slopes))
        model = keras.Sequential([keras.Input((4,)), layer])
        assert path_length(model) == layer.nonlinear.mean() == 1 / 2


def test_slopes_are_read_anew():
    layer = SparsePReLU()
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8), layer, layers.Dense(1)])
    assert path_length(model) == 1.0
    layer.alpha.assign([1.0, 0.0] * 4)
    assert path_length(model) == 0.5


def test_zeros_are_read_anew():
    hidden, output, shortcut = (
        layers.Dense(size, act, kernel_initializer=keras.initializers.Constant(-2.0))
        for size, act in [(2, "relu"), (1, None), (1, None)]
    )
    inputs = keras.Input((2,))
    model = keras.Model(inputs, layers.Add()([output(hidden(inputs)), shortcut(inputs)]))
    assert both(model, weights=True) == pytest.approx((1 / 2, 4 / 6))
    output.kernel.assign([[-2.0], [0.0]])
    assert both(model, weights=True) == pytest.approx((1 / 2, 2 / 4))
    shortcut.kernel.assign([[0.0], [0.0]])
    # Biases are no edges.
    shortcut.bias.assign([1.0])
    assert both(model, weights=True) == pytest.approx((1.0, 1.0))
    assert both(model) == pytest.approx((1 / 2, 4 / 6))
    output.kernel.assign([[0.0], [0.0]])
    with pytest.warns(UserWarning, match="cut every path from the inputs of model"):
        assert both(model, weights=True) == (0.0, 0.0)
    output.kernel.assign([[0.0], [1.0]])
    assert both(model, weights=True) == pytest.approx((1.0, 1.0))


def test_outputs_that_are_reached():
    """Of two inputs, two channels made of one of them each, and a constant."""
    inputs, dense = keras.Input((2,)), layers.Dense(2)
    x = ops.concatenate([np.zeros((1, 1), "float32"), inputs, dense(inputs)], axis=-1)
    model = keras.Model(inputs, x)
    dense.kernel.assign([[1.0, 0.0], [1.0, 0.0]])
    assert PathGraph.of(model, weights=True).reached_outputs() == (3, 4)
    assert PathGraph.of(model).reached_outputs() == (4, 4)


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
        (lambda: layers.Dense(2), "must be a Keras model"),
    ],
)
def test_models_without_a_graph_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        path_length(model())
