import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_nladv
from keras_nladv import (
    SparsePReLU,
    collapse,
    nonlinearity_report,
    path_length,
    register_path_rule,
    sparsify,
)
from keras_nladv.graph import activations
from keras_nladv.graph.path_graph import PathGraph
from tests.cases import since

LOWEST = np.finfo("float32").min
ONES = np.ones((1, 1, 3, 4), "float32")

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("cheap_weights")]


def both(model):
    return path_length(model), path_length(model, normalized=False)


def branches(make, shape=(4, 4, 3)):
    """A model whose two outputs show what `make` does with 3 channels of lengths 0, 1 and 0.

    Args:
        make: Function of the tensor.
        shape: The shape of the input.
    """
    inputs = keras.Input(shape)
    slopes = keras.initializers.Constant(1.0)
    x = SparsePReLU(alpha_initializer=slopes, name="units")(inputs)
    model = keras.Model(inputs, make(x))
    model.get_layer("units").alpha.assign([1.0, 0.0, 1.0])
    return model


@pytest.mark.parametrize(
    ("make", "normalized", "unnormalized"),
    [
        (lambda x: x[..., 1:], 1 / 2, 1 / 2),
        (lambda x: ops.split(x, 3, axis=-1)[1], 1, 1),
        (lambda x: ops.concatenate([x, x[..., :1]], axis=-1), 1 / 4, 1 / 4),
        (lambda x: layers.Dense(2)(ops.concatenate([x, x[..., :1]], axis=-1)), 1 / 4, 1 / 4),
        (lambda x: layers.Dense(2)(ops.concatenate([x] + [x[..., 2:]] * 2, axis=-1)), 0.2, 0.2),
        (lambda x: ops.concatenate([x, x], axis=1), 1 / 3, 1 / 3),
        (lambda x: x + x[..., 1:2], 4 / 6, 4 / 6),
        (lambda x: ops.maximum(x, 0.0), 4 / 3, 4 / 3),
        (lambda x: ops.maximum(x, np.array([LOWEST, 0, LOWEST], "float32")), 2 / 3, 2 / 3),
        (lambda x: ops.minimum(-LOWEST * np.ones((1, 1, 3), "float32"), x), 1 / 3, 1 / 3),
        (lambda x: ops.maximum(x, np.zeros((4, 3), "float32")), 4 / 3, 4 / 3),
        (lambda x: ops.maximum(x, ops.zeros_like(x)), 4 / 3, 4 / 3),
        (lambda x: ops.clip(x, 0.0, 6.0), 4 / 3, 4 / 3),
        (lambda x: ops.clip(x, LOWEST, -LOWEST), 1 / 3, 1 / 3),
        (lambda x: ops.clip(x, np.array([LOWEST, LOWEST, 0], "float32"), -LOWEST), 2 / 3, 2 / 3),
        (lambda x: ops.maximum(x1=0.0, x2=x), 4 / 3, 4 / 3),
        (lambda x: ops.maximum(x, -LOWEST * np.ones(3, "float32")), 4 / 3, 4 / 3),
        (lambda x: ops.where(np.array([False, False, True]), ops.relu(x), x), 2 / 3, 2 / 3),
        (lambda x: ops.where(np.array([True, False, False]), 7.0, x), 1 / 2, 1 / 2),
        (lambda x: ops.maximum(x, ops.relu(x)), (1 / 3 + 4 / 3) / 2, (1 / 3 + 4 / 3) / 2),
        (lambda x: 2.0 * x - 1.0, 1 / 3, 1 / 3),
        (lambda x: ops.mean(x, axis=(1, 2)), 1 / 3, 1 / 3),
        (lambda x: ops.transpose(x, (0, 3, 1, 2))[:, 1:2], 1, 1),
        (lambda x: ops.reshape(x, (-1, 16, 3))[:, 2:5, :2], 1 / 2, 1 / 2),
        (lambda x: ops.einsum("bhwc,bhwd->bcd", x, x)[:, 1], 2 / 3, 2 / 4),
        (lambda x: layers.Reshape((4, 12))(x), 1 / 3, 1 / 3),
        (lambda x: layers.Permute((3, 1, 2))(x)[:, 1], 1, 1),
        (lambda x: layers.UpSampling2D()(layers.ZeroPadding2D()(x))[..., 1:], 1 / 2, 1 / 2),
        (lambda x: layers.Conv2D(4, 1, groups=1, activation="gelu")(x), 4 / 3, 4 / 3),
        (lambda x: layers.Conv2DTranspose(4, 3, activation="softmax")(x), 1 / 3, 1 / 3),
        (lambda x: layers.SeparableConv2D(4, 3, depth_multiplier=2)(x), 1 / 3, 1 / 3),
        (lambda x: layers.DepthwiseConv2D(3, activation="relu")(x)[..., 1], 2, 2),
        (lambda x: layers.EinsumDense("bhwc,cd->bhwd", (4, 4, 5))(x), 1 / 3, 1 / 3),
        (lambda x: layers.EinsumDense("...c,c->...c", 3)(x)[..., 1], 1, 1),
        (lambda x: layers.GlobalMaxPooling2D(keepdims=True)(x)[..., :2], 1 / 2, 1 / 2),
        (lambda x: layers.TimeDistributed(layers.Dense(2, activation="relu"))(x), 4 / 3, 4 / 3),
        (lambda x: layers.SpectralNormalization(layers.Conv2D(2, 1))(x), 1 / 3, 1 / 3),
        (lambda x: layers.Lambda(lambda y: ops.relu(y) * 2.0)(x), 4 / 3, 4 / 3),
        (lambda x: layers.Dense(2, activation=SparsePReLU())(x), 4 / 3, 4 / 3),
        (lambda x: layers.Dense(2, SparsePReLU(granularity="layer"))(x), 4 / 3, 4 / 3),
        (
            lambda x: layers.Concatenate()(
                [ops.separable_conv(x, ONES[..., :1], ONES), x[..., :1]],
            ),
            *(4 / 15, 4 / 13),
        ),
        (lambda x: layers.Rescaling([0.0, 1.0, -1.0])(x), 1 / 2, 1 / 2),
        (lambda x: layers.Rescaling([1.0, -1.0, 0.0])(x), 1 / 2, 1 / 2),
        (lambda x: ops.concatenate([ops.relu(x[..., 1:]), x[..., 1:]], 1)[:, :1], 1.0, 1.0),
    ],
)
def test_layers_and_operations(make, normalized, unnormalized):
    assert both(branches(make)) == pytest.approx((normalized, unnormalized), rel=1e-12)


# Weights that do not lead all of 4 channels to all of 5, or the other way round.
SPARSE = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
SPARSE[[0, 2, 4], [1, 3, 0]] = SPARSE[:4, 2] = 0


# Factors for channels that come first: nothing of one of them, and a part of another.
HOLES = np.ones((4, 4, 4), "float32")
HOLES[1] = HOLES[2, 0] = 0


class Weighted(layers.Layer):
    """A user's layer that multiplies with a weight."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(4, 4), name="scale")

    def call(self, inputs):
        return ops.matmul(inputs, self.scale)


def feeds(model, x):
    """Which input channels change which output channels: a bool array, found by trying."""
    before = ops.convert_to_numpy(model(x))
    changes = []
    for channel in range(x.shape[-1]):
        shifted = x.copy()
        shifted[..., channel] += 0.5
        change = ops.convert_to_numpy(model(shifted)) != before
        changes.append(change.any(axis=tuple(range(change.ndim - 1))))
    return np.array(changes)


@pytest.mark.parametrize(
    "make",
    [
        layers.Dense(5),
        layers.Conv2D(5, 2),
        layers.Conv2D(6, 2, groups=2),
        # Torch could not before.
        pytest.param(
            layers.Conv2DTranspose(5, 2, padding="same"),
            marks=since("3.15", "A transposed convolution with strides of 1"),
        ),
        layers.DepthwiseConv2D((1, 2), depth_multiplier=2),
        layers.SeparableConv2D(5, 1),
        layers.EinsumDense("abcd,de->abce", (4, 4, 5)),
        layers.EinsumDense("abcd,bde->abce", (4, 4, 5)),
        layers.EinsumDense("...d,d->...d", 4),
        layers.BatchNormalization(),
        layers.TimeDistributed(layers.Dense(5)),
        layers.SpectralNormalization(layers.Conv2D(5, 1)),
        keras.Sequential([layers.Dense(3), layers.DepthwiseConv2D(1)]),
        Weighted(),
        lambda x: x * np.array([1.0, 0.0, -1.0, 0.0], "float32"),
        lambda x: layers.Permute((2, 3, 1))(layers.Permute((3, 1, 2))(x) * HOLES),
        lambda x: layers.EinsumDense("aebc,bcf->aef", (8, 3))(ops.reshape(x, (-1, 8, 2, 4))),
        lambda x: ops.reshape(
            layers.EinsumDense("abcd,cde->abce", (16, 2, 3))(ops.reshape(x, (-1, 16, 2, 2))),
            (-1, 16, 6),
        ),
        lambda x: ops.matmul(x, np.array([1.0, 0.0, 1.0, 1.0], "float32"))[..., None],
        lambda x: layers.Permute((2, 1))(
            layers.Dense(3)(layers.Permute((2, 1))(layers.Reshape((16, 4))(x)))
        ),
        lambda x: ops.separable_conv(x, SPARSE.T[None, None, :, :1], SPARSE[None, None, :4]),
    ],
)
def test_edges_are_those_through_which_something_passes(make):
    """Without units elsewhere, the length is the share of the edges that leave a nonlinear unit."""
    inputs = keras.Input((4, 4, 4))
    x = SparsePReLU(alpha_initializer="ones", name="units")(inputs)
    model = keras.Model(inputs, make(x))
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        if weight.name not in ("alpha", "side"):
            kept = rng.permutation(np.prod(weight.shape)).reshape(weight.shape) % 3 == 0
            weight.assign(kept * rng.normal(size=weight.shape))
    edges = feeds(model, rng.random((2, 4, 4, 4), "float32"))
    assert 0 < edges.mean() < 1
    for channel in range(4):
        model.get_layer("units").alpha.assign(np.arange(4) != channel)
        length = path_length(model, normalized=False, weights=True)
        assert length == pytest.approx(edges[channel].sum() / edges.sum())


def test_attention_has_three_operands_of_equal_weight():
    query, value = keras.Input((5, 4)), keras.Input((7, 4))
    x = layers.ReLU()(query)
    outputs = layers.MultiHeadAttention(2, 3)(x, value, key=layers.ReLU()(layers.ReLU()(value)))
    model = keras.Model([query, value], outputs)
    assert both(model) == pytest.approx((1.0, 1.0))
    model = keras.Model([query, value], layers.Attention()([x, value]))
    assert both(model) == pytest.approx((1 / 3, 1 / 3))
    model = keras.Model([query, value], layers.GroupQueryAttention(3, 4, 2)(x, value))
    assert both(model) == pytest.approx((1 / 3, 1 / 3))


@pytest.mark.parametrize("heads", [2, 1])
def test_zeros_in_attention_cut_heads(heads):
    """Channel 0 of query, key and value is nonlinear; what it feeds is counted by hand."""
    inputs = keras.Input((5, 3))
    slopes = keras.initializers.Constant(1.0)
    x = SparsePReLU(alpha_initializer=slopes, name="units")(inputs)
    if heads == 2:
        layer = layers.MultiHeadAttention(2, 2, use_bias=False)
        model = keras.Model(inputs, layer(x, inputs))
    else:
        layer = layers.GroupQueryAttention(2, 2, 1, use_bias=False)
        model = keras.Model(inputs, layer(x, inputs))
    model.get_layer("units").alpha.assign([0.0, 1.0, 1.0])
    query, key, value, output = (np.ones(each.shape) for each in layer.get_weights())
    output[1, :, 0] = 0  # Output 0 sees the first head alone,
    output[0, 1, 0] = 0  # and of that one channel of the values.
    query[0, 0] = 0  # Query channel 0 leads to the second head only.
    key[2] = 0
    value[1, 0, 0] = 0
    layer.set_weights([query, key, value, output])
    # Query: channel 0 feeds outputs 1 and 2, the others all three.
    # Key: two channels feed all three. Value: channel 1 does not feed output 0.
    paths = (2 + 3 + 3) + (3 + 3) + (3 + 2 + 3)
    assert path_length(model, normalized=False, weights=True) == pytest.approx(2 / paths)


def test_embedding_counts_no_positions():
    ids = keras.Input((9,), dtype="int32")
    tables = np.ones((20, 4), "float32"), ops.ones_like(ids[:, :4], "float32")
    for x in (layers.Embedding(20, 4)(ids), *(ops.take(table, ids, axis=0) for table in tables)):
        y = layers.Dense(4, activation="relu")(x)
        model = keras.Model(ids, layers.Add()([x, y]))
        assert both(model) == pytest.approx((1 / 2, 4 / 5))


def test_ids_of_a_row_that_are_encoded_are_mixed():
    ids, other = keras.Input((2,), dtype="int32"), keras.Input((1,))
    x = layers.CategoryEncoding(4, "multi_hot")(ids)
    model = keras.Model([ids, other], layers.Concatenate()([layers.ReLU()(x), other]))
    assert both(model) == (4 / 5, 8 / 9)


@since("3.12", "`ReversibleEmbedding`")
def test_zeros_in_embeddings():
    ids = keras.Input((9,), dtype="int32")
    embedding = layers.ReversibleEmbedding(5, 3, embeddings_initializer="ones")
    x = SparsePReLU(alpha_initializer="ones", name="units")(embedding(ids))
    model = keras.Model(ids, embedding(x, reverse=True))
    model.get_layer("units").alpha.assign([0.0, 1.0, 1.0])
    assert path_length(model, normalized=False, weights=True) == pytest.approx(5 / 15)
    table = np.ones((5, 3))
    table[:, 1] = table[4, 0] = 0
    embedding.embeddings.assign(table)
    # Channel 0 leads to four words, channel 2 to all five.
    assert path_length(model, normalized=False, weights=True) == pytest.approx(4 / 9)


def test_constants_are_no_operands():
    """What does not depend on an input starts no path: positions, masks, class tokens."""
    inputs = keras.Input((6, 4))
    x = ops.relu(inputs) + ops.zeros_like(inputs) + np.ones((6, 4), "float32")
    x = ops.where(ops.ones_like(inputs) > 0, x, ops.relu(x))
    model = keras.Model(inputs, ops.concatenate([np.zeros((1, 6, 2), "float32"), x], axis=-1))
    assert both(model) == pytest.approx((1.5, 1.5))


class Block(layers.Layer):
    """A user's layer, made of layers and operations that the rules know."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(4)
        self.units = SparsePReLU()

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.units.build(input_shape)
        self.scale = self.add_weight(shape=(4, 4), name="scale")

    def call(self, inputs):
        x = ops.matmul(self.units(self.dense(inputs)), self.scale)
        return inputs + ops.relu(x)


def test_composite_layers_are_opened():
    """x + relu(W f(V x)): 16 paths of length 2 a channel, and one of length 0."""
    inputs = keras.Input((None, 4))
    block = Block()
    outputs = block(inputs)
    calls = [len(layer._inbound_nodes) for layer in block._flatten_layers()]
    model = keras.Model(inputs, outputs)
    assert both(model) == pytest.approx((1.0, 32 / 17))
    assert [activation.name for activation in activations(model)] == [
        f"{block.name}/{block.units.name}",
        f"{block.name}/relu_3",
    ]
    # The symbolic run leaves nothing behind.
    assert [len(layer._inbound_nodes) for layer in block._flatten_layers()] == calls


def test_shared_composite_layers_have_their_units_once():
    inputs = keras.Input((4,))
    block = Block()
    model = keras.Model(inputs, block(block(inputs)))
    assert path_length(model) == pytest.approx(2.0)
    assert [activation.units for activation in activations(model)] == [4, 4]


def test_nested_subclassed_model_is_opened():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.block = Block()

        def call(self, inputs):
            return self.block(inputs)

    inputs = keras.Input((4,))
    assert path_length(keras.Model(inputs, Net()(inputs))) == pytest.approx(1.0)


def test_subclass_with_its_own_call_is_not_taken_for_its_base():
    class Scaled(layers.Dense):
        def call(self, inputs):
            return ops.relu(super().call(inputs))

    class Named(layers.Dense):
        """A subclass that computes what its base does."""

    inputs = keras.Input((4,))
    assert path_length(keras.Model(inputs, Scaled(2)(inputs))) == 1.0
    assert path_length(keras.Model(inputs, Named(2, activation="relu")(inputs))) == 1.0


class Sorted(layers.Layer):
    def call(self, inputs):
        return ops.sort(inputs)


@pytest.fixture
def _forget_rules(monkeypatch):
    monkeypatch.setattr(keras_nladv.graph.rules, "_rules", dict(keras_nladv.graph.rules._rules))


@pytest.mark.usefixtures("_forget_rules")
def test_registered_rules():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, Sorted()(layers.ReLU()(inputs)))
    with pytest.raises(ValueError, match="do not know operation 'sorted/sort_0' of class Sort"):
        path_length(model)
    for rule, expected in [("pass", 1.0), ("mixing", 1.0), ("activation", 2.0), ("constant", None)]:
        register_path_rule(Sorted, rule)
        if expected is None:
            with pytest.raises(ValueError, match="No path leads"):
                path_length(model)
        else:
            assert path_length(model) == pytest.approx(expected)

    @register_path_rule(Sorted)
    def sort_rule(call):
        return call.mixed(call.first, axis=-1, size=4)

    assert path_length(model, normalized=False) == 1.0
    # 16 paths through a unit beside 4 without; a last axis of unknown size is one channel.
    register_path_rule(Sorted, "mixing")
    beside = layers.Concatenate()([model.output, inputs])
    assert path_length(keras.Model(inputs, beside), normalized=False) == 16 / 20
    unknown = keras.Input((None,))
    assert path_length(keras.Model(unknown, Sorted()(layers.ReLU()(unknown)))) == 1.0

    labels = np.ones((1, 4), int)
    for wrong in (labels[0], labels[None], labels[:, :3], [], [labels] * 2):
        register_path_rule(Sorted, lambda call, wrong=wrong: wrong)
        with pytest.raises(ValueError, match="must return an array of labels for each output"):
            path_length(model)


class Peaks(layers.Layer):
    def call(self, inputs):
        return ops.max(inputs, axis=1)


@pytest.mark.usefixtures("_forget_rules")
def test_what_passes_stays_where_it_is():
    """Also where channels differ along several axes, or an axis before theirs is gone."""
    register_path_rule(Peaks, "pass")
    for shape in ((6,), (4, 4, 2)):
        inputs = keras.Input(shape)
        x = layers.Concatenate()([layers.ReLU()(inputs), inputs])
        if shape == (6,):
            x = layers.Dropout(0.5)(layers.Reshape((6, 2))(x))
            parts = x[:, :3], x[:, 2:4], x[:, 3:]
        else:
            x = Peaks()(x)
            parts = x[..., :2], x[..., 1:3], x[..., 2:]
        lengths = [path_length(keras.Model(inputs, part)) for part in parts]
        assert lengths == [1.0, 0.5, 0.0]
    unknown = keras.Input((4, None))
    assert path_length(keras.Model(unknown, Peaks()(layers.ReLU()(unknown)))) == 1.0


def test_channels_along_several_axes_beside_none():
    inputs = keras.Input((4,))
    x = layers.Concatenate()([layers.ReLU()(inputs[:, :2]), inputs[:, 2:]])
    x = layers.Reshape((3, 2))(ops.pad(x, ((0, 0), (0, 2))))
    assert path_length(keras.Model(inputs, x[:, :1])) == 1.0
    model = keras.Model(inputs, layers.Conv1D(2, 1, name="conv")(x))
    model.get_layer("conv").kernel.assign([[[1, 1], [0, 0]]])
    assert path_length(model, weights=True) == 0.5


def test_scales_of_zero_along_another_axis():
    inputs = keras.Input((3, 2))
    x = layers.Concatenate()([layers.ReLU()(inputs[..., :1]), inputs[..., 1:]])
    norm = layers.BatchNormalization(axis=1)
    model = keras.Model(inputs, norm(layers.Permute((2, 1))(x)))
    for gamma, expected in (([1, 0], 1.0), ([0, 1], 0.0)):
        norm.gamma.assign(gamma)
        assert path_length(model, weights=True) == expected


@pytest.mark.parametrize(
    ("bound", "expected", "extremum", "gate"),
    [
        ([0.0, 1.0], 0.5, ops.maximum, ops.sigmoid),
        ([1.0, 0.3], 1.0, ops.maximum, ops.sigmoid),
        (1.0, 1.0, ops.maximum, ops.sigmoid),
        (np.ones((3, 2)), 1.0, ops.maximum, ops.sigmoid),
        ([0.0, 1.0], 1.0, ops.minimum, ops.sigmoid),
        # Keras 3.10 has none.
        ([0.0, 1.0], 1.0, getattr(ops, "fmin", ops.minimum), ops.sigmoid),
        ([0.0, 1.0], 1.0, ops.maximum, ops.relu),
    ],
)
def test_a_gate_with_another_bound_is_an_operand(bound, expected, extremum, gate):
    """It is as `collapse` writes SiLU only with bounds of 0 and 1, for each unit one."""
    inputs = keras.Input((3, 2))
    gate = extremum(gate(inputs), np.array(bound, "float32"))
    assert path_length(keras.Model(inputs, inputs * gate)) == expected


def relu6(x):
    return ops.minimum(ops.maximum(x, 0.0), 6.0)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda x, y: relu6(x), 1.0),
        (lambda x, y: ops.minimum(ops.maximum(x, np.array([LOWEST, 0.0], "float32")), 6.0), 1.5),
        (lambda x, y: ops.minimum(ops.maximum(x, LOWEST), np.array([-LOWEST, 1], "float32")), 0.5),
        (lambda x, y: ops.maximum(ops.maximum(x, 0.0), 1.0), 2.0),
        (lambda x, y: ops.maximum(ops.clip(x, 0.0, 6.0), 1.0), 2.0),
        (lambda x, y: ops.maximum(ops.minimum(x, 6.0), np.zeros((3, 2), "float32")), 2.0),
        (lambda x, y: ops.maximum(ops.minimum(x, np.ones((3, 2), "float32")), 0.0), 2.0),
        (lambda x, y: ops.maximum(ops.minimum(x, y), 0.0), 1.0),
        (lambda x, y: relu6(relu6(x)), 2.0),
        (lambda x, y: ops.maximum(relu6(x), np.array([LOWEST, 0.0], "float32")), 1.5),
        (lambda x, y: ops.minimum(ops.maximum(relu6(x), 1.0), 5.0), 2.0),
        (lambda x, y: ops.clip(x, None, -LOWEST), 0.0),
    ],
)
def test_a_bound_behind_another(make, expected):
    """Opposite ones are of the same unit, which is linear where neither is ever reached, if that
    is so of the same units."""
    x = keras.Input((3, 2))
    assert path_length(keras.Model(x, make(x, layers.Dense(2)(x)))) == expected


def test_opposite_bounds_in_what_is_called_twice():
    inputs, x = keras.Input((2,)), keras.Input((2,))
    clipped = keras.Model(inputs, relu6(inputs))
    assert path_length(keras.Model(x, clipped(layers.Dense(2)(clipped(x))))) == 2.0


def test_a_gate_of_its_own_tensor_without_some_units():
    """What they put in is a number, as `collapse` writes: they are linear, the others units."""
    inputs = keras.Input((1, 1, 4))
    keeps, shift = [1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 40.0]
    scaled = layers.Rescaling(keeps, shift)
    other = layers.Conv2D(4, 1)(inputs)
    for tensor, expected in ((inputs, 3 / 4), (other, 3 / 8)):
        model = keras.Model(inputs, inputs * ops.sigmoid(scaled(tensor)))
        assert path_length(model) == expected
    for trainable, expected in ((False, 3 / 4), (True, 1 / 2)):
        scaled = layers.DepthwiseConv2D(1, trainable=trainable)
        model = keras.Model(inputs, inputs * ops.sigmoid(scaled(inputs)))
        scaled.set_weights([np.reshape(keeps, (1, 1, 4, 1)), np.array(shift)])
        assert path_length(model) == expected
        counts = [(row["units"], row["nonlinear"]) for row in nonlinearity_report(model).rows]
        assert counts == [(4, 4 if trainable else 3)]
    # Two channels of each are others than it.
    twice = layers.DepthwiseConv2D(1, depth_multiplier=2, trainable=False)
    model = keras.Model(inputs, twice(layers.ReLU()(inputs)))
    twice.kernel.assign(np.ones((1, 1, 4, 2)))
    assert model.output_shape[-1] == 8
    assert path_length(model) == 1.0


def test_one_channel_at_all_places():
    """Where elements cannot be followed through a shape, and where groups share what they read."""
    inputs = keras.Input((None, 3))
    x = layers.Reshape((-1, 7))(layers.ReLU()(inputs))
    assert path_length(keras.Model(inputs, x), normalized=False) == 1.0
    inputs = keras.Input((4, 1))
    x = ops.repeat(layers.ReLU()(inputs), 3, axis=-1)
    x = layers.Conv1D(3, 1, groups=3, activation="relu")(x)
    assert path_length(keras.Model(inputs, x)) == 2.0


def in_front(count, shape):
    """An input of 6 numbers, and them in another shape, the first of them behind units."""
    inputs = keras.Input((6,))
    x = layers.Concatenate()([layers.ReLU()(inputs[:, :count]), inputs[:, count:]])
    return inputs, layers.Reshape(shape)(x)


def test_channels_along_positions():
    """Weights that mix channels do not tell positions apart, even where channels lie along them."""
    inputs, x = in_front(2, (3, 2))
    assert path_length(keras.Model(inputs, layers.Dense(2)(x)[:, :1])) == 1 / 3
    # Those of an activation are along the last axis then.
    assert [each.units for each in activations(keras.Model(inputs, ops.relu(x)))] == [2, 2]
    # With other tensors beside the weights, they are those of the product.
    other = keras.Input((3, 1))
    y = ops.einsum("bpc,bpd,ce->bpe", x, other, np.ones((2, 4), "float32"))
    assert path_length(keras.Model([inputs, other], y[:, :1])) == 1 / 2
    # By channel, it is the mean over the positions.
    inputs, x = in_front(2, (2, 3))
    assert path_length(keras.Model(inputs, layers.DepthwiseConv1D(1)(x))) == 1 / 3
    # An axis of size 1 is that of one channel.
    inputs, x = in_front(1, (6, 1))
    assert path_length(keras.Model(inputs, layers.DepthwiseConv1D(1)(x))) == 1 / 6
    model = keras.Model(inputs, layers.Dense(3, "relu")(x)[:, :1])
    assert path_length(model) == 1 + 1 / 6
    # All positions of one channel, behind each other.
    inputs = keras.Input((4, 1))
    x = layers.Flatten()(inputs)
    model = keras.Model(inputs, layers.Concatenate()([layers.Dense(3, "relu")(x), x[:, :1]]))
    assert both(model) == (3 / 4, 3 / 4)
    model = keras.Model(inputs, ops.relu(ops.einsum("bcd,e->bcde", inputs, np.ones(5, "float32"))))
    assert [activation.units for activation in activations(model)] == [5]


def test_two_tokens_are_mixed():
    inputs = keras.Input((2, 3))
    x = layers.Concatenate()([layers.ReLU()(inputs[..., :1]), inputs[..., 1:]])
    assert path_length(keras.Model(inputs, layers.Dense(4)(layers.Permute((2, 1))(x))[:, :1])) == 1


def test_steps_whose_channels_differ():
    """Of each channel the mean over the steps: here 3 and 2 of them, one behind a unit."""
    inputs = keras.Input((5,))
    x = layers.Concatenate()([inputs[:, :1], layers.ReLU()(inputs[:, 1:2]), inputs[:, 2:]])
    x = layers.Reshape((3, 2))(ops.pad(x, ((0, 0), (0, 1))))
    outputs = layers.TimeDistributed(layers.Dense(2))(x)
    assert path_length(keras.Model(inputs, outputs)) == pytest.approx(1 / 4)
    assert path_length(keras.Model(inputs, layers.GRU(2)(x))) == pytest.approx(1 + 1 / 4)


def test_inputs_of_all_shapes():
    """Numbers, channels that come first, an unknown last axis, numbers of few bits."""
    number = keras.Input(())
    x = number[:, None]
    model = keras.Model(number, layers.Concatenate()([layers.Dense(3, "relu")(x), x]))
    assert both(model) == (3 / 4, 3 / 4)
    first = keras.Input((2, 5))
    x = layers.Conv1D(2, 1, data_format="channels_first", activation="relu")(first)
    model = keras.Model(first, layers.Concatenate(axis=1)([x, first]))
    assert both(model) == (1 / 2, 4 / 6)
    assert [activation.units for activation in activations(model)] == [2]
    one = keras.Input((5, 1))
    for x in (one, one[:, :2]):
        assert [each.units for each in activations(keras.Model(one, ops.relu(x)))] == [1]
    unknown, other = keras.Input((None,)), keras.Input((1,))
    x = layers.ReLU()(ops.mean(unknown, axis=-1, keepdims=True))
    assert both(keras.Model([unknown, other], x + other)) == (1 / 2, 1 / 2)
    another = keras.Input((None,))
    x = ops.flip(layers.Concatenate()([layers.ReLU()(unknown), another]), -1)
    assert path_length(keras.Model([unknown, another], x[:, :1])) == 0
    assert path_length(keras.Model(other, ops.outer(ops.relu(other), np.ones(3, "float32")))) == 1
    # These are no masks.
    half = keras.Input((1,), dtype="bfloat16")
    x = other * ops.cast(ops.relu(half), "float32")
    assert path_length(keras.Model([half, other], x)) == 1 / 2


def cube(x):
    return x * x * x


@pytest.mark.usefixtures("_forget_rules")
def test_activation_functions_of_a_user():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2, activation=cube)(inputs))
    with pytest.raises(ValueError, match="do not know activation function 'cube' of layer 'dense"):
        path_length(model)
    register_path_rule(cube, "activation")
    assert path_length(model) == 1.0
    assert path_length(keras.Model(inputs, layers.Lambda(cube)(inputs))) == 1.0
    assert path_length(keras.Model(inputs, inputs * layers.ReLU()(inputs))) == 0.5


@pytest.mark.usefixtures("_forget_rules")
@pytest.mark.parametrize(
    ("function", "make", "rule", "name", "length"),
    [
        (ops.exp, ops.exp, "activation", "keras.ops.exp", 2.0),
        (ops.abs, ops.abs, "activation", "keras.ops.absolute", 2.0),
        (ops.sin, lambda x: ops.sin(3.0 * x), "pass", "keras.ops.sin", 1.0),
        (ops.top_k, lambda x: list(ops.top_k(x, 2)), "mixing", "keras.ops.top_k", 1.0),
        (ops.image.hsv_to_rgb, None, "mixing", "keras.ops.image.hsv_to_rgb", 1.0),
    ],
)
def test_registered_operations(function, make, rule, name, length):
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, (make or function)(layers.ReLU()(inputs)))
    with pytest.raises(ValueError, match=rf"register_path_rule\({name}, rule\)"):
        path_length(model)
    register_path_rule(function, rule)
    assert path_length(model) == length


def test_what_is_padded_is_a_mask():
    """Made by comparing data with a number, by Keras or by hand; what is compared else is none."""
    inputs = keras.Input((5, 4))
    x = layers.Dense(3, activation="relu")(layers.Masking()(inputs))
    x = layers.LSTM(3, return_sequences=True)(x)
    known = ops.any(ops.not_equal(inputs, -1.0), axis=-1, keepdims=True)
    kept = ops.cast(known, "float32") * ops.cast(ops.not_equal(inputs[..., :1], -2.0), "float32")
    x = ops.where(ops.isnan(inputs[..., :1]), 0.0, x) * kept
    assert path_length(keras.Model(inputs, x)) == 2.0
    both = layers.Concatenate()([inputs, layers.ReLU()(inputs)])
    behind = layers.Dense(3)(both)
    steps = [ops.equal(each, 0.0) for each in (x, behind)]
    for step in (*steps, ops.equal(inputs, ops.max(inputs)), inputs > 0.0):
        with pytest.raises(ValueError, match="do not know operation"):
            path_length(keras.Model(inputs, ops.cast(step, "float32") * inputs[..., :1]))


@pytest.mark.parametrize(
    ("target", "rule", "error", "message"),
    [
        (3, "pass", TypeError, "`target` must be a class"),
        (int, "pass", TypeError, "`target` must be a class"),
        (layers.Dense(1), "pass", TypeError, "`target` must be a class .*, not one of them"),
        (Sorted, "passes", ValueError, "`rule` must be a function or one of"),
        (Sorted, 3, ValueError, "`rule` must be a function or one of"),
    ],
)
def test_wrong_registrations_are_refused(target, rule, error, message):
    with pytest.raises(error, match=message):
        register_path_rule(target, rule)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda x: ops.exp(x), "operation 'exp"),
        (lambda x: ops.where(x > 0, x, 0.1 * x), "operation 'greater"),
        (lambda x: 2.0**x, "operation 'power"),
        (lambda x: x**x, "operation 'power"),
        (lambda x: ops.where(ops.relu(x), x, 0.0), "operation 'where"),
        (lambda x: ops.average(x, axis=-1, weights=ops.relu(x)), "operation 'average"),
    ],
)
def test_unknown_layers_are_named_and_never_guessed(make, name):
    inputs = keras.Input((5, 4))
    with pytest.raises(ValueError, match=name) as error:
        path_length(keras.Model(inputs, make(inputs)))
    assert "register_path_rule" in str(error.value)


def test_scores_and_caches_of_attention():
    """What attention gives back besides is one channel, fed by what is scored."""
    query, value = keras.Input((5, 4)), keras.Input((7, 4))
    x, y = layers.ReLU()(query), layers.ReLU()(layers.ReLU()(value))
    given = {"return_attention_scores": True}
    _, scores = layers.MultiHeadAttention(2, 3)(x, y, **given)
    assert path_length(keras.Model([query, value], scores)) == pytest.approx(3 / 2)
    _, scores = layers.Attention()([x, y], **given)
    assert path_length(keras.Model([query, value], scores)) == 1.0


def ids_of(shape, make):
    """A model whose first output is embedded ids, behind a unit, and the second its other input."""
    ids, other = keras.Input(shape, dtype="int32"), keras.Input((4,))
    x = layers.GlobalAveragePooling1D()(layers.Embedding(10, 4)(make(ids)))
    x = layers.Dense(4, activation="relu")(x)
    return keras.Model([ids, other], layers.Concatenate()([x, other]))


@pytest.mark.parametrize(
    "make",
    [
        lambda x: ops.minimum(x, 9),
        lambda x: ops.maximum(0, x),
        lambda x: ops.clip(x - 1, 0, 9),
        lambda x: ops.mod(x, 9),
        lambda x: x // 2,
        lambda x: ops.abs(x),
        lambda x: ops.cast(x > 3, "int32"),
        lambda x: ops.cast(ops.logical_and(x > 3, x < 7), "int32"),
        lambda x: ops.where(ops.equal(x, 3), 0, ops.ones_like(x)),
        lambda x: ops.where(ops.equal(x, 3), 0, x),
        lambda x: ops.cast(ops.cast(x, "float32") / 2.0, "int32"),
        lambda x: ops.pad(x, ((0, 0), (1, 0))),
        pytest.param(
            lambda x: ops.where(ops.isin(x, np.array([1, 2])), x, 0), marks=since("3.12", "`isin`")
        ),
    ],
)
def test_ids_are_followed(make):
    """Half of the outputs are behind a unit, which only the ids feed."""
    assert path_length(ids_of((5,), make)) == pytest.approx(1 / 2)


def test_masks_are_no_operands():
    """They choose among values: the mean of those that are not padded, as in sentence encoders."""
    ids = keras.Input((5,), dtype="int32")
    mask = ids != 0
    x = layers.Dense(3, activation="relu")(layers.Embedding(10, 4)(ids))
    weights = ops.expand_dims(ops.cast(mask, "float32"), -1)
    mean = ops.sum(x * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1e-9)
    chosen = ops.where(ops.expand_dims(mask, -1), x, 0.0)
    model = keras.Model(ids, ops.concatenate([mean, ops.max(chosen, axis=1)], axis=-1))
    assert both(model) == pytest.approx((1.0, 1.0))
    summed = ops.einsum("bl,blc->bc", ops.cast(mask, "float32"), x)
    assert path_length(keras.Model(ids, summed)) == 1.0
    # Where nothing but a mask leads on, the path is that of the mask.
    counts = layers.Dense(2, activation="relu")(ops.sum(weights, axis=1))
    assert both(keras.Model(ids, counts)) == pytest.approx((1.0, 1.0))
    # One that is an input chooses, too.
    given = keras.Input((5, 1), dtype="bool")
    model = keras.Model([ids, given], x * ops.cast(given, "float32"))
    assert both(model) == pytest.approx((1.0, 1.0))


def test_products_of_two_tensors():
    """`Dot` and `matmul` follow channels alike; the quotient of two tensors has two operands."""
    left, z = keras.Input((4, 2)), keras.Input((3,))
    pair = layers.Concatenate()([layers.Dense(2)(z), layers.Dense(2, activation="relu")(z)])
    right = layers.Permute((2, 1))(layers.Reshape((2, 2))(pair))
    for output in (layers.Dot((2, 1))([left, right]), ops.matmul(left, right)):
        assert both(keras.Model([left, z], output[..., 0:1])) == (0.0, 0.0)
        assert path_length(keras.Model([left, z], output[..., 1:2])) == pytest.approx(1 / 2)
    x = ops.relu(z)
    model = keras.Model(z, x / ops.sum(z, axis=-1, keepdims=True))
    assert both(model) == pytest.approx((1 / 2, 1 / (1 + 3)))


def test_tokens_that_are_mixed_keep_their_channels():
    """An MLP-Mixer: positions are not channels, whatever dense layer mixes them."""
    inputs = x = keras.Input((4, 4, 3))
    x = ops.reshape(ops.image.extract_patches(x, 2), (-1, 4, 12))
    x = layers.Dense(5)(x)
    y = layers.Permute((2, 1))(x)
    y = layers.Dense(4)(layers.Dense(7, activation="gelu")(y))
    x = layers.Add()([x, layers.Permute((2, 1))(y)])
    x = layers.Add()([x, layers.Dense(5)(layers.Dense(6, activation="gelu")(x))])
    model = keras.Model(inputs, layers.GlobalAveragePooling1D()(x))
    # Each of the 5 channels has 2 branches in the first block, one of them behind a unit; in the
    # second, 6 units are fed by 5 channels.
    assert path_length(model) == pytest.approx(1.0)
    straight, behind = 2, 6 * 5 * 2
    expected = (1 + 6 * 5 * (2 + 1)) / (straight + behind)
    assert path_length(model, normalized=False) == pytest.approx(expected)
    assert [activation.units for activation in activations(model)] == [7, 6]


# Keras compares them with those that it gets, and does not take them for the same.
@pytest.mark.filterwarnings("ignore:[\\s\\S]*The structure of `inputs` doesn't match")
def test_features_of_a_feature_space():
    """They are put together by a layer that has no public name, in a model of tracked inputs."""
    kind = keras.utils.FeatureSpace
    features = {"a": kind.float("float32"), "b": kind.float_rescaled(0.5)}
    space = kind(features, output_mode="concat")
    space._is_adapted = True  # There is nothing to be adapted, and data sets are TensorFlow's.
    x = layers.Dense(4, "relu")(space.get_encoded_features())
    model = keras.Model(space.get_inputs(), layers.Dense(2)(x))
    assert path_length(model) == 1.0
    data = {"a": np.ones((2, 1)), "b": np.full((2, 1), 3.0)}
    collapsed = collapse(sparsify(model), cost="macs", example_inputs=data)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(collapsed(data)), keras.ops.convert_to_numpy(model(data)), 1e-6
    )


def test_shifted_windows():
    inputs = x = keras.Input((4, 4, 3))
    y = ops.roll(ops.relu(x), (-1, -1), axis=(1, 2))
    y = ops.reshape(y, (-1, 2, 2, 2, 2, 3))
    y = ops.reshape(ops.transpose(y, (0, 1, 3, 2, 4, 5)), (-1, 4, 3))
    y = layers.Dense(3)(y)
    y = ops.transpose(ops.reshape(y, (-1, 2, 2, 2, 2, 3)), (0, 1, 3, 2, 4, 5))
    y = ops.roll(ops.reshape(y, (-1, 4, 4, 3)), (1, 1), axis=(1, 2))
    assert both(keras.Model(inputs, x + y)) == pytest.approx((1 / 2, 3 / 4))


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x[:, 1:],
        lambda x: x[:, 1:-1],
        lambda x: ops.concatenate([x[:, 1:], x[:, :1]], axis=1),
        lambda x: ops.pad(x, ((0, 0), (1, 1), (0, 0)), constant_values=2.0),
        lambda x: ops.reshape(x, (-1, 8, 3)),
        lambda x: ops.stack([x, 3 * ops.ones_like(x)], axis=-1)[..., 0],
    ],
)
def test_positions_of_unknown_number(make):
    inputs = keras.Input((None, 3))
    assert both(keras.Model(inputs, make(ops.relu(inputs)))) == pytest.approx((1.0, 1.0))


def assert_edges(model, x, units="units"):
    """Compares path lengths with the edges that are found by trying, a unit at a time."""
    edges = feeds(model, x)
    assert 0 < edges.mean() < 1
    for channel in range(len(edges)):
        model.get_layer(units).alpha.assign(np.arange(len(edges)) != channel)
        length = path_length(model, normalized=False, weights=True)
        assert length == pytest.approx(edges[channel].sum() / edges.sum())


@pytest.mark.parametrize(
    "layer",
    [
        layers.SimpleRNN(3, return_sequences=True),
        layers.GRU(3),
        layers.LSTM(3),
        layers.ConvLSTM1D(3, 2, padding="same"),
    ],
)
def test_zeros_in_recurrent_layers(layer):
    """A unit that the input does not feed is fed by other units, a step later."""
    shape = (4, 5, 4) if "conv" in layer.name else (6, 4)
    inputs = keras.Input(shape)
    x = SparsePReLU(alpha_initializer="ones", name="units")(inputs)
    model = keras.Model(inputs, layer(x))
    kernel, recurrent, *_ = layer.get_weights()
    rng = np.random.default_rng(0)
    cut = [(0, 0), (0, 1), (1, 0), (1, 2), (3, 1), (3, 2)]
    for array, zeros in ((kernel, cut), (recurrent, [])):
        array[...] = rng.normal(size=array.shape)
        for source, unit in zeros:
            array[..., source, unit::3] = 0
    recurrent[...] = 0
    for source, unit in ((0, 1), (1, 2)):
        recurrent[..., source, unit::3] = rng.normal(size=recurrent[..., source, unit::3].shape)
    layer.set_weights([kernel, recurrent, *layer.get_weights()[2:]])
    edges = feeds(model, rng.normal(size=(2, *shape)).astype("float32"))
    assert 0 < edges.mean() < 1
    for channel in range(4):
        model.get_layer("units").alpha.assign(np.arange(4) != channel)
        # Every path has the layer's unit, too.
        length = path_length(model, normalized=False, weights=True)
        assert length == pytest.approx(1 + edges[channel].sum() / edges.sum())


def test_recurrent_layers_by_hand():
    """Input and state are operands; time steps make no paths."""
    inputs, state = keras.Input((None, 3)), keras.Input((2,))
    x = layers.ReLU()(inputs)
    y, last = layers.GRU(2, return_sequences=True, return_state=True)(x, initial_state=[state])
    model = keras.Model([inputs, state], y)
    # A unit of the layer; half of the walks, 3 of 5 paths, lead through another before it.
    assert both(model) == pytest.approx((1 + 1 / 2, 1 + 3 / 5))
    assert both(keras.Model([inputs, state], last)) == pytest.approx((1 + 1 / 2, 1 + 3 / 5))
    stacked = layers.RNN([layers.LSTMCell(4), layers.GRUCell(2)])(inputs)
    assert both(keras.Model(inputs, stacked)) == (2.0, 2.0)
    # The states of each cell are its own: that of the second, behind a unit, is the third of them.
    states = [keras.Input((size,)) for size in (4, 4)] + [layers.ReLU()(state)]
    stacked = layers.RNN([layers.LSTMCell(4), layers.GRUCell(2)])(
        inputs, initial_state=[states[:2], states[2]]
    )
    model = keras.Model([inputs, *states[:2], state], stacked)
    assert path_length(model) == 2.0
    linear = layers.SimpleRNN(2, activation="linear")(inputs)
    assert both(keras.Model(inputs, linear)) == (0.0, 0.0)
    both_ways = layers.Bidirectional(layers.LSTM(2), merge_mode="sum")(x)
    model = keras.Model(inputs, layers.Concatenate()([both_ways, layers.LSTM(2)(inputs)]))
    assert path_length(model) == pytest.approx((2 + 1) / 2)
    assert path_length(model, normalized=False) == pytest.approx((12 * 2 + 6) / (12 + 6))
    # Each way has states of its own, here behind one unit and behind two.
    other = keras.Input((2,))
    states = [layers.ReLU()(state), layers.ReLU()(layers.ReLU()(other))]
    y = layers.Bidirectional(layers.GRU(2))(inputs, initial_state=states)
    for part, expected in ((y[:, :2], 1 + 1 / 2), (y[:, 2:], 1 + 2 / 2)):
        assert path_length(keras.Model([inputs, state, other], part)) == expected


def test_recurrent_layers_on_images():
    """Units and positions, also where the channels come first, of one filter, or of two ways."""
    first, last = keras.Input((5, 2, 6, 7)), keras.Input((5, 6, 7, 2))
    for filters in (3, 1):
        for x, data_format in ((first, "channels_first"), (last, "channels_last")):
            layer = layers.ConvLSTM2D(filters, 2, data_format=data_format)
            both_ways = layers.Bidirectional(layer)(x)
            found = activations(keras.Model(x, [layer(x), both_ways]))
            assert [each.units for each in found] == [filters] * 3
            assert [each.positions for each in found] == [5 * 5 * 6] * 3
            # Keras puts both ways beside each other along the last axis, whatever it is.
            side = filters * (1 if data_format == "channels_first" else 2)
            assert len(np.unique(PathGraph.of(keras.Model(x, both_ways))._ends)) == side


class Cell(layers.Layer):
    """A recurrent cell of a user, with states of several sizes and weights that Keras' lack."""

    def __init__(self, *names, **kwargs):
        super().__init__(**kwargs)
        self.names = names
        self.state_size = [3, 2]

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(3,), name="scale")
        for name in self.names:
            rows = 3 if name == "recurrent_kernel" else input_shape[-1]
            setattr(self, name, self.add_weight(shape=(rows, 3), name=name, initializer="ones"))

    def call(self, inputs, states):
        x = self.scale * ops.tanh(sum(ops.matmul(inputs, getattr(self, n)) for n in self.names[:1]))
        return x, [x, x[:, :2]]


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        (["kernel", "recurrent_kernel"], False),
        (["kernel"], True),
        (["kernel", "recurrent_kernel", "gate"], True),
    ],
)
def test_cells_of_a_user(names, refused):
    """Zeros are followed through those that have the weights of a plain cell."""
    inputs = keras.Input((5, 3))
    layer = layers.RNN(Cell(*names))
    x = layers.Concatenate()([layers.ReLU()(inputs[..., :1]), inputs[..., 1:]])
    model = keras.Model(inputs, layer(x))
    assert path_length(model, weights=True) == path_length(model) == 1 + 1 / 3
    layer.cell.kernel.assign([[0, 0, 0], [1, 1, 1], [1, 1, 1]])
    if refused:
        with pytest.raises(ValueError, match="with a recurrent cell of class Cell some of whose"):
            path_length(model, weights=True)
    else:
        assert path_length(model, weights=True) == 1


def test_global_pooling_of_channels_that_come_first():
    inputs = keras.Input((3, 4, 5))
    x = SparsePReLU(axis=1, alpha_initializer="ones", name="units")(inputs)
    for pool in (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D):
        pooled = pool(data_format="channels_first")(x)
        for channel in range(3):
            model = keras.Model(inputs, pooled[:, channel : channel + 1])
            model.get_layer("units").alpha.assign([0.0, 1.0, 1.0])
            assert both(model) == (float(channel == 0), float(channel == 0))


@pytest.mark.parametrize("name", ["Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"])
def test_zeros_in_transposed_convolutions(name):
    """More filters than channels, and the other way round: kernels have them in the other order."""
    dimensions = int(name[4])
    for filters in (2, 6):
        inputs = keras.Input((*(3,) * dimensions, 4))
        x = SparsePReLU(alpha_initializer="ones", name="units")(inputs)
        layer = getattr(layers, name)(filters, 2)
        model = keras.Model(inputs, layer(x))
        rng = np.random.default_rng(filters)
        cut = rng.permutation(filters * 4).reshape(filters, 4) % 3 > 0
        kernel = rng.normal(size=layer.kernel.shape) * cut
        layer.set_weights([kernel, np.zeros(filters)])
        assert_edges(model, rng.normal(size=(2, *inputs.shape[1:])).astype("float32"))


def test_zeros_in_a_transposed_convolution_of_two_tensors():
    """Counted by hand: Keras mixes up its arguments where a model calls it."""
    inputs = keras.Input((3, 4))
    x = SparsePReLU(alpha_initializer="ones", name="units")(inputs)
    model = keras.Model(inputs, ops.conv_transpose(x, SPARSE[None], 1))
    for channel, edges in enumerate(np.count_nonzero(SPARSE, axis=0)):
        model.get_layer("units").alpha.assign(np.arange(4) != channel)
        length = path_length(model, normalized=False, weights=True)
        assert length == pytest.approx(edges / np.count_nonzero(SPARSE))


@pytest.mark.parametrize("cut", ["query", "key", "value"])
def test_zeros_in_grouped_query_attention(cut):
    """Four query heads share two of keys and values: heads 0 and 1 the first, 2 and 3 the other."""
    inputs = keras.Input((5, 4))
    x = SparsePReLU(alpha_initializer="ones", name="units")(inputs)
    layer = layers.GroupQueryAttention(2, 4, 2, use_bias=False)
    other = keras.Input((5, 4))
    outputs = {
        "query": lambda: layer(x, other),
        "key": lambda: layer(other, other, x),
        "value": lambda: layer(other, x, other),
    }[cut]()
    model = keras.Model([inputs, other], outputs)
    rng = np.random.default_rng(0)
    query, key, value, output = (rng.normal(size=each.shape) for each in layer.get_weights())
    # Heads of the outputs: two see query heads 0 and 1, one sees 2, the last sees 3.
    for head, seen in enumerate([[0, 1], [0, 1], [2], [3]]):
        output[head] = 0
        output[head][:, seen] = rng.normal(size=(2, len(seen)))
    query[0, :2] = key[0, 1] = value[0, 0] = 0
    layer.set_weights([query, key, value, output])
    arrays = [rng.normal(size=(2, 5, 4)).astype("float32") for _ in range(2)]
    base = ops.convert_to_numpy(model(arrays))
    edges = np.zeros((4, 4), bool)
    for channel in range(4):
        changed = arrays[0].copy()
        changed[..., channel] += rng.normal(size=(2, 5))
        change = np.abs(ops.convert_to_numpy(model([changed, arrays[1]])) - base)
        edges[channel] = (change > 1e-5).any(axis=(0, 1))
    assert 0 < edges.mean() < 1
    lengths = []
    for channel in range(4):
        model.get_layer("units").alpha.assign(np.arange(4) != channel)
        lengths.append(path_length(model, normalized=False, weights=True))
    # The paths of the other input are the same for all.
    assert np.array(lengths) / sum(lengths) == pytest.approx(edges.sum(axis=1) / edges.sum())
