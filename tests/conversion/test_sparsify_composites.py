"""Layers made of layers, masks and Lambda layers."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_nladv import SparsePReLU, collapse, nonlinearity_report, path_length, prune, sparsify
from keras_nladv.merging.flattener import Flattener
from tests.cases import once
from tests.copies import activations, arrays, assert_close, randomize, sparsified
from tests.graph.test_opening import CausalBlock

pytestmark = pytest.mark.usefixtures("fast_weights")

X = np.random.default_rng(1).normal(size=(3, 5, 4)).astype("float32")
IDS = np.array([[3, 1, 4, 0, 0], [1, 5, 9, 2, 0], [6, 5, 3, 5, 8]])


@keras.saving.register_keras_serializable(package="tests")
class Block(layers.Layer):
    """Layers, operations and a switch."""

    def __init__(self, size=6, rate=0.5, **kwargs):
        super().__init__(**kwargs)
        self.size, self.rate = size, rate
        self.first = layers.Dense(size, activation="relu", name="first")
        self.norm = layers.BatchNormalization(name="norm")
        self.dropout = layers.Dropout(rate, name="dropout")
        self.second = layers.Dense(4, name="second")

    # The default is what Keras' own documentation shows, and what nobody means.
    def call(self, x, training=False):
        y = self.dropout(self.norm(self.first(x), training=training), training=training)
        return keras.activations.silu(self.second(ops.maximum(y, 0))) + x

    def get_config(self):
        return {**super().get_config(), "size": self.size, "rate": self.rate}


def model_of(layer, shape=(5, 4)):
    inputs = keras.Input(shape)
    return randomize(keras.Model(inputs, layer(inputs)))


def test_opened():
    model = model_of(Block(name="block"))
    sparse, report = sparsified(model, X)
    names = ["block_first", "block_maximum_3", "block_silu_5"]
    assert report.converted == names
    assert not any(isinstance(layer, Block) for layer in sparse.layers)
    assert [layer.name for layer in activations(sparse)] == [f"{names[0]}_activation", *names[1:]]
    # The names do not depend on what was made before.
    assert sparsify(model, return_report=True)[1].rows == report.rows
    assert [row["units"] for row in nonlinearity_report(sparse).rows] == [6, 6, 4]
    _, report = sparsified(model, X, select="block_silu*")
    assert report.left == names[:2]


def test_what_is_opened_is_trained_as_it_was():
    """Dropout drops in training and only there, and batch normalization takes its statistics."""
    sparse = sparsify(model_of(Block(rate=0.9)))
    (first,), (second,), (third,) = (
        arrays(sparse, X, training) for training in (True, True, False)
    )
    assert (first != second).any()
    np.testing.assert_array_equal(third, *arrays(sparse, X))
    norm = next(x for x in sparse.layers if isinstance(x, layers.BatchNormalization))
    before = ops.convert_to_numpy(norm.moving_mean.value) * 1
    sparse.compile("sgd", "mse")
    sparse.fit(X, X, epochs=1, verbose=0)
    assert (ops.convert_to_numpy(norm.moving_mean.value) != before).any()


def test_shared_blocks_share_what_is_in_them():
    block = Block()
    inputs = keras.Input((5, 4))
    model = randomize(keras.Model(inputs, block(block(inputs))))
    sparse, report = sparsified(model, X)
    assert len(report.rows) == 3
    assert [len(layer._inbound_nodes) for layer in activations(sparse)] == [2, 2, 2]
    assert len(sparse.trainable_weights) == len(model.trainable_weights) + 6


def test_frozen_blocks_stay_frozen():
    inputs = keras.Input((5, 4))
    block = Block()
    model = keras.Model(inputs, layers.ReLU(name="act")(block(inputs)))
    block.trainable = False
    assert model.trainable_weights == []
    sparse = sparsify(model)
    assert [weight.path for weight in sparse.trainable_weights] == ["act/alpha", "act/side"]


class Around(layers.Layer):
    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, x):
        return self.inner(x)


class Merging(layers.Layer):
    def __init__(self, merge, **kwargs):
        super().__init__(**kwargs)
        self.merge, self.dense = merge, layers.Dense(4, activation="relu", name="dense")

    def call(self, x):
        return self.merge([x, self.dense(x)])


class Halving(Merging):
    """Calls a layer with an argument beside the tensor."""

    def __init__(self, merge, **kwargs):
        super().__init__(None, **kwargs)
        self.scaling = Scaling(name="scaling")

    def call(self, x):
        return self.scaling(self.dense(x), by=0.5)


@keras.saving.register_keras_serializable(package="tests")
class Scaling(layers.Layer):
    def build(self, shape):
        self.weight = self.add_weight(shape=(), initializer="ones")

    def call(self, x, by=1.0):
        return x * self.weight * by


@pytest.mark.parametrize(
    "wrap",
    [
        lambda block: block,
        lambda block: keras.Sequential([block]),
        lambda block: keras.Sequential([keras.Input((5, 4)), block, layers.ReLU()]),
        lambda block: Around(keras.Sequential([keras.Sequential([block])])),
    ],
)
@pytest.mark.parametrize("block", [Merging, Halving])
def test_blocks_in_sequential_models(wrap, block):
    """What a block is opened into need not be a chain of layers."""
    model = keras.Sequential([keras.Input((5, 4)), wrap(block(layers.Add())), layers.ReLU()])
    sparse, report = sparsified(model, X, measured=block is Merging)
    assert not report.left
    assert len(activations(sparse)) >= 2


class Attending(Merging):
    def __init__(self, **kwargs):
        super().__init__(None, **kwargs)
        self.attention = layers.MultiHeadAttention(2, 3)

    def call(self, x):
        return self.dense(self.attention(x, x))


class Repeating(Merging):
    def call(self, x):
        return self.dense(self.dense(x))


@pytest.mark.once
@pytest.mark.parametrize("block", [Attending(), Repeating(None)])
def test_blocks_that_are_no_chains_of_layers_each_called_once_on_one_tensor(block):
    inner = keras.Sequential([keras.Input((5, 4)), block, layers.ReLU()])
    sparse, _ = sparsified(keras.Sequential([keras.Input((5, 4)), inner]), X)
    assert not isinstance(sparse.layers[-1], keras.Sequential)


@pytest.mark.once
def test_models_of_one_name_in_several_blocks():
    x = inputs = keras.Input((5, 4))
    for name in ("a", "b"):
        dense = layers.Dense(4, activation="relu")
        x = Around(keras.Sequential([keras.Input((5, 4)), dense], name="inner"), name=name)(x)
    model = keras.Model(inputs, layers.Softmax(name="last")(x))
    sparse, _ = sparsified(model, X)
    assert [layer.name for layer in sparse.layers[1:]] == ["a_inner", "b_inner", "last"]


def test_nested_composites(tmp_path):
    @keras.saving.register_keras_serializable(package="tests")
    class Stack(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.blocks = [Block(name="one"), Block(name="two")]
            self.head = keras.Sequential([layers.Dense(3, activation="elu", name="h")], name="head")

        def call(self, x):
            for block in self.blocks:
                x = block(x)
            return {"head": self.head(x), "same": x}

    sparse, report = sparsified(model_of(Stack(name="s")), X)
    assert report.converted[0] == "s_one_first"
    assert report.converted[-1] == "s_head/h"
    assert len(report.converted) == 7
    sparse.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for one, other in zip(arrays(again, X), arrays(sparse, X), strict=True):
        np.testing.assert_array_equal(one, other)


class Weighted(layers.Layer):
    """Has a weight of its own, so that its calls are not all that it does."""

    def __init__(self, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)
        self.dense = layers.Dense(4, activation=self.activation)

    def build(self, shape):
        self.scale = self.add_weight(shape=(4,), initializer="random_normal")
        self.dense.build(shape)

    def call(self, x):
        return ops.tanh(self.dense(x) * self.scale)

    def get_config(self):
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "activation": activation}


class Argumentless(Weighted):
    def get_config(self):
        return layers.Layer.get_config(self)


@pytest.mark.parametrize("activation", ["gelu", layers.ReLU(max_value=1.0)])
def test_converted_inside(activation):
    model = model_of(Weighted(activation, name="weighted"))
    model(X)
    sparse, report = sparsified(model, X)
    (row,) = report.rows
    assert (row["name"], row["outcome"]) == ("weighted", "converted")
    assert row["reason"] == "inside; the layer cannot be opened: it has weights of its own"
    (layer,) = activations(sparse)
    assert len(layer.slopes) == 4
    with pytest.raises(ValueError, match=r"weighted .*left .*it is not selected"):
        sparsify(model, "other")


class Noisy(layers.Layer):
    def call(self, x, training=None):
        x = ops.relu(x)
        return x * 0.5 if training else x


class Scaled(Noisy):
    def call(self, x, training=None):
        return ops.relu(x) * (0.5 if training else 1.0)


class Leaning(Noisy):
    def call(self, x, training=None):
        return ops.leaky_relu(x, 0.3 if training else 0.2)


class Swapping(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.last = (layers.Dense(4, activation="relu") for _ in range(2))

    def build(self, shape):
        self.first.build(shape)
        self.last.build(shape)

    def call(self, x, training=None):
        return self.first(x) if training else self.last(x)


class Fixing(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = layers.BatchNormalization()

    def call(self, x, training=None):
        return ops.relu(self.norm(x, training=False))


class Tied(layers.Layer):
    """Uses a weight of a layer inside it in an operation: its values must not be fixed."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(4, activation="relu")

    def call(self, x):
        return ops.matmul(self.dense(x), ops.transpose(self.dense.kernel))


class Doing(layers.Layer):
    """Does something beside putting out what its layers make of the inputs."""

    def __init__(self, effect, **kwargs):
        super().__init__(**kwargs)
        self.effect = effect
        self.dense = layers.Dense(4, activation="relu")
        # Their variables are weights of its own, which would be a reason by itself.
        self.mean = keras.metrics.Mean() if effect in (measures, measures_inputs) else None
        self.seed = keras.random.SeedGenerator(0) if effect is draws else None

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.effect(self, x, self.dense(x))

    def get_config(self):
        return {**super().get_config(), "effect": self.effect}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def adds_a_loss(layer, x, y):
    layer.add_loss(ops.mean(ops.square(y)))
    return y


def adds_a_loss_of_weights(layer, x, y):
    layer.add_loss(ops.sum(ops.square(layer.dense.kernel)))
    return y


def adds_a_loss_to_another(layer, x, y):
    layer.dense.add_loss(ops.sum(ops.square(layer.dense.kernel)))
    return y


def assigns(layer, x, y):
    layer.dense.kernel.assign(layer.dense.kernel * 0.5)
    return y


def counts(layer, x, y):
    layer.dense.bias.assign_add(ops.ones((4,)))
    return y


def measures(layer, x, y):
    layer.mean.update_state(2.0)
    return y


def measures_inputs(layer, x, y):
    layer.mean.update_state(ops.mean(x))
    return y


def draws(layer, x, y):
    return y * keras.random.uniform((), seed=layer.seed)


def chooses(layer, x, y):
    return ops.cond(ops.mean(x) > 0, lambda: layer.dense(x), lambda: y)


def maps(layer, x, y):
    return ops.vectorized_map(lambda each: each * ops.sum(layer.dense.bias), y)


def reverses_gradients(layer, x, y):
    @ops.custom_gradient
    def reversed_gradient(x):
        return x, lambda *args, upstream=None: -(args[0] if upstream is None else upstream)

    return reversed_gradient(y)


def remembers(layer, x, y):
    layer.last = y
    return y


class Failing(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.act = layers.ReLU()

    def call(self, x):
        return self.act(x) if isinstance(x, keras.KerasTensor) is False else 1 / 0

    def compute_output_shape(self, shape):
        return shape


class Fading(Halving):
    def call(self, x, training=None):
        return self.scaling(self.dense(x), by=0.5 if training else 1.0)

    def get_config(self):
        return {"merge": None, "name": self.name}


class Unsaid(layers.Dense):
    def get_config(self):
        raise NotImplementedError


class Holding(Around):
    def __init__(self, **kwargs):
        super().__init__(Unsaid(4, activation="relu", name="dense"), **kwargs)

    def build(self, shape):
        self.inner.build(shape)

    def get_config(self):
        return {"name": self.name}


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (Argumentless(name="odd"), "it has weights of its own"),
        (
            Doing(remembers, name="odd", activity_regularizer="l2"),
            "it has an activity regularizer",
        ),
        (Holding(name="odd"), "layer 'dense' inside it has no `get_config` that works"),
        (Noisy(name="odd"), "it makes other calls in training"),
        *((kind(name="odd"), "it makes other calls in training") for kind in (Scaled, Leaning)),
        (Swapping(name="odd"), "it makes other calls in training"),
        (Fading(None, name="odd"), "it makes other calls in training"),
        (Fixing(name="odd"), "it fixes `training` for a layer inside it"),
        (Tied(name="odd"), "it calls operations on tensors that are not made of its inputs"),
        (Failing(name="odd"), "a symbolic run of its `call` fails with ZeroDivisionError"),
        (layers.ReLU(name="odd"), None),
    ],
)
def test_what_cannot_be_opened_is_left(layer, why):
    inputs = keras.Input((5, 4))
    model = randomize(keras.Model(inputs, layers.ReLU(name="last")(layer(inputs))))
    sparse, report = sparsified(model, X, measured=why is None or "fails" not in why)
    if why is None:
        assert report.left == []
    else:
        assert report.left == ["odd"]
        assert report.converted == ["last"]
        assert report.rows[0]["reason"].startswith(f"the layer cannot be opened: {why}")
        assert type(sparse.get_layer("odd")) is type(layer)


@pytest.mark.once
def test_activations_of_what_cannot_be_opened():
    """Those that are unknown are reported, none that is linear."""
    inputs = keras.Input((4,))

    class Own(layers.Layer):
        def __init__(self, activation, **kwargs):
            super().__init__(**kwargs)
            self.activation = activation
            self.kernel = self.add_weight(shape=(4, 4))

        def call(self, x):
            return self.activation(ops.matmul(x, self.kernel))

        def get_config(self):
            return {**super().get_config(), "activation": self.activation}

    def unknown(x):
        return ops.sin(x)

    for activation, left in ((keras.activations.linear, []), (unknown, ["odd"])):
        x = layers.ReLU(name="last")(Own(activation, name="odd")(inputs))
        _, report = sparsify(keras.Model(inputs, x), return_report=True)
        assert report.left == left


EFFECTS = [
    *(adds_a_loss, adds_a_loss_of_weights, adds_a_loss_to_another, assigns, counts, measures),
    *(measures_inputs, draws, chooses, maps, reverses_gradients),
]


@pytest.mark.parametrize("effect", EFFECTS)
def test_what_does_more_is_kept_whole(effect):
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, layers.ReLU(name="last")(Doing(effect, name="doing")(inputs)))
    layer = model.get_layer("doing")
    before = [ops.convert_to_numpy(variable.value).copy() for variable in layer.variables]
    sparse, report = sparsify(model, return_report=True)
    flat = Flattener().copy(model)
    after = [ops.convert_to_numpy(variable.value) for variable in layer.variables]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not layer.losses
    assert report.converted == ["last"]
    assert "cannot be opened: " in report.rows[0]["reason"]
    for copy in (sparse, flat):
        assert type(copy.get_layer("doing")) is Doing
    results = []
    for each in (model, sparse):
        outputs = ops.convert_to_numpy(each(X))
        kept = each.get_layer("doing")
        losses = np.array([ops.convert_to_numpy(loss) for loss in kept.losses])
        values = [ops.convert_to_numpy(variable.value) for variable in kept.variables]
        results.append([outputs, losses, *values])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@keras.saving.register_keras_serializable(package="tests")
class WithContext(Block):
    """Adds a second input where there is one."""

    def call(self, x, context=None):
        x = super().call(x)
        return x if context is None else x + context

    def compute_output_spec(self, x, context=None):
        return keras.KerasTensor(x.shape, x.dtype)


@pytest.mark.once
def test_what_may_be_missing_is_no_part_of_a_graph():
    """A block that takes an optional input is kept whole: opened, it would always need it."""
    inputs, context = keras.Input((5, 4)), keras.Input((5, 4), optional=True)
    block = WithContext(name="block")
    block(X)
    outputs = layers.ReLU(name="last")(block(inputs, context))
    model = randomize(keras.Model([inputs, context], outputs))
    sparse, report = sparsify(model, return_report=True)
    assert report.converted == ["last"]
    assert "cannot be opened: an optional input of the model" in report.rows[0]["reason"]
    for copy in (sparse, collapse(sparse, cost="macs")):
        for given in (X, None):
            assert_close(arrays(copy, [X, given]), arrays(model, [X, given]), 1e-6)


def test_what_only_remembers_is_opened():
    model = model_of(Doing(remembers, name="doing"))
    remembered = model.layers[1].last
    sparse, _ = sparsified(model, X)
    assert model.layers[1].last is not remembered  # By the calls of the test.
    assert not any(isinstance(layer, Doing) for layer in sparse.layers)
    remembered = model.layers[1].last
    sparsify(model)
    assert model.layers[1].last is remembered


def test_a_layer_that_calls_its_activation():
    """Its `activation` is that of an inner layer, which `SparsePReLU` inside keeps."""
    model = model_of(Weighted(SparsePReLU(alpha_initializer="random_normal")))
    model(X)
    inputs = keras.Input((5, 4))
    outer = keras.Model(inputs, layers.ReLU(name="only")(model.layers[1](inputs)))
    sparse, report = sparsified(outer, X)
    kept, _ = activations(sparse)
    np.testing.assert_array_equal(kept.slopes, activations(model)[0].slopes)
    assert np.abs(kept.slopes).min() > 0
    assert "only" in report.converted


OFFSET = 0.25


def test_lambdas_keep_the_names_around_them():
    near = 0.5
    inputs = keras.Input((5, 4))
    x = layers.Lambda(lambda x, c: ops.sin(x) * c + near + OFFSET, arguments={"c": 2.0})(inputs)
    x = layers.Lambda(lambda x: ops.relu(x) - OFFSET, name="relu")(x)
    sparse, report = sparsified(keras.Model(inputs, x), X, measured=False)
    assert report.converted == ["relu_relu_0"]
    assert_close(arrays(sparse, X), [np.maximum(2 * np.sin(X) + 0.75, 0) - 0.25])


# ---- Masks


def masked(applied, end):
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(10, 4, mask_zero=True, embeddings_initializer="random_normal")(inputs)
    return randomize(keras.Model(inputs, end(applied(x))))


def through_a_block(x):
    y = Block()(x)
    return y + x


@pytest.mark.parametrize(
    "applied",
    [
        layers.ReLU(),
        layers.Dense(4, activation="gelu"),
        pytest.param(keras.activations.silu, id="operation"),
        pytest.param(lambda x: ops.maximum(x, 0), id="maximum"),
        pytest.param(through_a_block, id="block"),
    ],
)
@pytest.mark.parametrize("end", [layers.GlobalAveragePooling1D, layers.Flatten])
@pytest.mark.filterwarnings("ignore:Layer '.*' .* was passed an input with a mask")
def test_masks_reach_what_they_reached(applied, end):
    """Layers pass masks on and operations do not: the comparison of outputs says all."""
    sparsified(masked(applied, end()), IDS, measured=False)


def test_explicit_masks():
    inputs, mask = keras.Input((5, 4)), keras.Input((5,), dtype="bool")
    x = layers.Dense(4, activation="relu")(inputs)
    x = layers.MultiHeadAttention(2, 3)(x, x, attention_mask=mask[:, None, :])
    x = layers.GlobalAveragePooling1D()(keras.activations.gelu(x), mask=mask)
    data = [X, IDS > 0]
    model = keras.Model([inputs, mask], x)
    sparse, _ = sparsified(model, data)
    # The mask makes a difference.
    assert (arrays(sparse, [X, IDS > 1])[0] != arrays(sparse, data)[0]).any()


@keras.saving.register_keras_serializable(package="tests")
class MaskedSum(layers.Layer):
    """Takes the mask of its input, in the form of a list, too."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(4, activation="relu")

    def call(self, x, mask=None):
        if isinstance(x, list):
            (x,), (mask,) = x, mask or [None]
        weights = 1.0 if mask is None else ops.cast(mask, "float32")[..., None]
        return ops.sum(self.dense(x) * weights, axis=1)


@pytest.mark.once
@pytest.mark.filterwarnings("ignore:Layer '.*' .* was passed an input with a mask")
def test_masks_that_models_are_called_with():
    inputs, mask = keras.Input((5, 4)), keras.Input((5,), dtype="bool")
    inner = keras.Sequential([keras.Input((5, 4)), MaskedSum()])
    model = keras.Model([inputs, mask], inner(inputs, mask=mask))
    data = [X, IDS > 0]
    sparse, _ = sparsified(model, data, measured=False)
    assert_close(arrays(collapse(sparse, cost="macs"), data), arrays(model, data), 1e-5)
    # The mask makes a difference.
    assert (arrays(sparse, [X, IDS > 1])[0] != arrays(sparse, data)[0]).any()


@keras.saving.register_keras_serializable(package="tests")
class Passing(layers.Layer):
    """Passes its mask on, as encoders do."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(4, activation="relu")
        self.supports_masking = True

    def call(self, x):
        return ops.tanh(self.dense(x)) + x


@pytest.mark.filterwarnings("ignore:Layer '.*' .* was passed an input with a mask")
@pytest.mark.parametrize(
    "end",
    [
        lambda x: keras.Sequential([MaskedSum()])(x),
        lambda x: keras.Sequential([keras.Input((5, 4)), Passing(), layers.LSTM(3)])(x),
        lambda x: MaskedSum()([Passing()(x)]),
        lambda x: keras.Sequential([layers.Dense(4, "relu"), MaskedSum()])(Passing()(x)),
    ],
)
def test_masks_that_arrive_as_the_model_runs(end, tmp_path):
    """Keras does not note the masks of nested models and of lists of tensors."""
    model = masked(Passing(), end)
    sparse, report = sparsified(model, IDS)
    assert all("lstm" in name for name in report.left)
    for layer in activations(sparse):
        layer.alpha.assign(np.arange(len(layer.slopes)) % 2)
    sparse.save(tmp_path / "model.keras")
    collapsed = collapse(sparse, cost="macs", example_inputs=IDS)
    for each in (keras.saving.load_model(tmp_path / "model.keras"), collapsed):
        assert_close(arrays(each, IDS), arrays(sparse, IDS), 1e-5)


def test_losses_find_the_masks():
    model = masked(lambda x: x, lambda x: layers.Dense(2)(Passing()(x)))
    sparse = sparsify(model)
    y = np.ones((3, 5, 2))
    losses = []
    for each in (model, sparse):
        each.compile("sgd", "mse")
        losses.append(each.test_on_batch(IDS, y))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    (right,) = arrays(model, IDS)
    assert losses[0] == pytest.approx(np.square(right - y)[IDS > 0].mean(), rel=1e-5)


def test_recurrent_layers_are_left():
    inputs = keras.Input((5, 4))
    x = layers.Bidirectional(layers.GRU(3, return_sequences=True), name="both")(inputs)
    x = layers.ReLU(name="act")(layers.SimpleRNN(3, name="simple", return_sequences=True)(x))
    _, report = sparsified(keras.Model(inputs, x), X, measured=False)
    assert report.left == ["both", "simple"]
    assert report.converted == ["act"]


@pytest.mark.parametrize("length", [5, None])
def test_blocks_that_make_causal_masks_are_opened(length):
    """Of positions, whose number may not be known; the mask is not taken for one of weights."""

    @keras.saving.register_keras_serializable(package="tests")
    class Doubling(CausalBlock):
        def call(self, inputs):
            return super().call(np.float32(2) * inputs)

    inputs = keras.Input((length, 4))
    model = keras.Model(inputs, Doubling()(inputs))
    copy = sparsify(model)
    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    assert_close(arrays(copy, x), arrays(model, x))
    assert path_length(copy) == path_length(model) == pytest.approx(1 / 2)
    again = keras.Model.from_config(copy.get_config())
    again.set_weights(copy.get_weights())
    x = x if length else x[:, :3]
    assert_close(arrays(again, x), arrays(model, x))


def test_what_blocks_multiply_with_numbers_is_not_sparse():
    """As Keras has it; layers on TensorFlow could not be called with it."""

    class Kept(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = layers.Dense(4, activation="relu")
            self.shift = self.add_weight(shape=(4,))

        def call(self, inputs):
            return self.dense(inputs) + self.shift

    class Scaled(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense, self.kept = layers.Dense(4, activation="relu"), Kept()

        def call(self, inputs):
            return self.kept(2 * self.dense(2 * inputs)) + self.kept(np.float32(3) * inputs)

    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, Scaled(name="scaled")(inputs))
    _, report = sparsified(model, X)
    assert report.left == ["scaled_kept"]


@pytest.mark.parametrize(
    "function",
    [
        lambda y, kernel: ops.matmul(y, ops.transpose(kernel)),
        lambda y, kernel: y * ops.sum(kernel),
        lambda y, kernel: ops.clip(y, 0.0, ops.max(kernel)),
    ],
)
def test_blocks_that_make_tensors_of_weights_are_not_opened(function):
    """Such a tensor would be a constant from then on."""

    class Tied(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = layers.Dense(4, activation="relu")

        def call(self, inputs):
            return function(self.dense(inputs), self.dense.kernel)

    inputs = keras.Input((4,))
    with pytest.raises(ValueError, match="tensors that are not made of its inputs"):
        sparsify(keras.Model(inputs, Tied()(inputs)))


@keras.saving.register_keras_serializable(package="tests")
class Attending(layers.Layer):
    """A block with attention; one with a weight of its own is kept whole."""

    def __init__(self, weighted=False, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.weighted = weighted
        self.attention = layers.MultiHeadAttention(2, 4)
        self.dense = layers.Dense(8, activation="relu")

    def build(self, shape):
        self.attention.build(shape, shape)
        self.dense.build(shape)
        self.scale = self.add_weight(shape=(), initializer="ones") if self.weighted else 1.0

    def call(self, x):
        return self.dense(self.attention(x, x)) * self.scale

    def get_config(self):
        return {**super().get_config(), "weighted": self.weighted}


def attending_model():
    x = keras.Input((5, 8))
    return keras.Model(x, layers.Dense(8, activation="relu")(layers.MultiHeadAttention(2, 4)(x, x)))


@pytest.mark.filterwarnings("ignore:Layer '.*' .* was passed an input with a mask")
@pytest.mark.parametrize(
    "attend",
    [
        lambda: lambda x: layers.MultiHeadAttention(2, 4)(x, x),
        *map(once, (Attending, lambda: Attending(weighted=True), attending_model)),
    ],
    ids=["layer", "opened", "whole", "model"],
)
def test_attention_takes_masks_off(attend):
    """Whatever uses the same tensors after it is given no mask: so it is in Keras, as models run,
    and so it has to be in a copy, where masks are given to layers as arguments."""
    ids = keras.Input((5,), dtype="int32")
    x = layers.Dense(8, activation="relu")(layers.Embedding(9, 8, mask_zero=True)(ids))
    y = layers.Add()([attend()(x), x])
    y = layers.LayerNormalization()(y)
    y = layers.Add()([layers.MultiHeadAttention(2, 4)(y, y), y])
    model = keras.Model(ids, layers.Attention()([y, x]))
    data = np.array([[3, 1, 0, 0, 0], [1, 2, 5, 8, 0], [4, 4, 4, 4, 4]])
    right = arrays(model, data)
    for copied in (sparsify, lambda model: prune(model, 1.0)):
        assert_close(arrays(copied(model), data), right)
    assert_close(arrays(collapse(model, cost="macs", example_inputs=data), data), right, 1e-5)


@pytest.mark.once
@pytest.mark.parametrize(
    "attention",
    [
        lambda x, layer, other, causal: layer(x, x),
        lambda x, layer, other, causal: layer(query=x, value=x, use_causal_mask=True),
        lambda x, layer, other, causal: layer(x, other),
        lambda x, layer, other, causal: layer(x, x, attention_mask=causal),
    ],
)
def test_masks_of_queries_behind_what_is_opened(attention):
    """Keras looks for those on the tensor as the model runs, whatever attention is given."""
    ids, other = keras.Input((5,), dtype="int32"), keras.Input((5, 8))
    x = Attending()(layers.Embedding(9, 8, mask_zero=True)(ids))
    causal = ops.cumsum(ops.ones_like(other[:, :, :1] @ other[:, :1, :5]), axis=2) < 4
    x = attention(x, layers.MultiHeadAttention(2, 4), other, causal)
    model = keras.Model([ids, other], layers.Add()([x, other]))
    rng = np.random.default_rng(0)
    data = [np.array([[3, 1, 0, 0, 0], [0, 2, 5, 8, 0]]), rng.normal(size=(2, 5, 8))]
    right = arrays(model, data)
    assert_close(arrays(sparsify(model), data), right)
    assert_close(arrays(collapse(model, cost="macs", example_inputs=data), data), right, 1e-5)
