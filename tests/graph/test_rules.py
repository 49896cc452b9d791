import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_nladv
from keras_nladv import SparsePReLU, path_length, register_path_rule
from keras_nladv.graph import activations

LOWEST = np.finfo("float32").min

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
        (lambda x: ops.concatenate([x, x], axis=1), 1 / 3, 1 / 3),
        (lambda x: x + x[..., 1:2], 4 / 6, 4 / 6),
        (lambda x: ops.maximum(x, 0.0), 4 / 3, 4 / 3),
        (lambda x: ops.maximum(x, np.array([LOWEST, 0, LOWEST], "float32")), 2 / 3, 2 / 3),
        (lambda x: ops.minimum(-LOWEST * np.ones((1, 1, 3), "float32"), x), 1 / 3, 1 / 3),
        (lambda x: ops.maximum(x, np.zeros((4, 3), "float32")), 4 / 3, 4 / 3),
        (lambda x: ops.maximum(x, ops.zeros_like(x)), 4 / 3, 4 / 3),
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
    ],
)
def test_layers_and_operations(make, normalized, unnormalized):
    assert both(branches(make)) == pytest.approx((normalized, unnormalized), rel=1e-12)


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
        layers.Conv2DTranspose(5, 2, padding="same"),
        layers.DepthwiseConv2D(1, depth_multiplier=2),
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
        lambda x: layers.EinsumDense("aebc,bcf->aef", (8, 3))(ops.reshape(x, (-1, 8, 2, 4))),
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
    x = layers.Embedding(20, 4)(ids)
    y = layers.Dense(4, activation="relu")(x)
    model = keras.Model(ids, layers.Add()([x, y]))
    assert both(model) == pytest.approx((1 / 2, 4 / 5))


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

    @register_path_rule(Sorted)
    def wrong_rule(call):
        return np.zeros(3)

    with pytest.raises(ValueError, match="must return an array of labels for each output"):
        path_length(model)


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


@pytest.mark.parametrize(
    ("target", "rule", "error", "message"),
    [
        (3, "pass", TypeError, "`target` must be a class"),
        (int, "pass", TypeError, "`target` must be a class"),
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
        (lambda x: 1.0 / x, "operation 'true_divide|operation 'divide"),
    ],
)
def test_unknown_layers_are_named_and_never_guessed(make, name):
    inputs = keras.Input((5, 4))
    with pytest.raises(ValueError, match=name) as error:
        path_length(keras.Model(inputs, make(inputs)))
    assert "register_path_rule" in str(error.value)
