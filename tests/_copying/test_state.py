"""What the layers of a copy are: adapted, quantized, frozen, regularized as their originals."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_nladv import SparsePReLU, collapse, prune, sparsify
from keras_nladv._copying.state import transfer_state
from keras_nladv._keras.private import sublayers
from tests.cases import once

IDS = np.random.default_rng(0).integers(0, 10, (4, 6))


class Twice(layers.Layer):
    """Is kept whole, for a weight of its own, with layers inside."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(8, name="inner")

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x) * self.scale


def network():
    """Every layer that takes an adapter, plain, nested, wrapped and inside of others."""
    ids = keras.Input((6,), dtype="int32")
    x = layers.Embedding(10, 8, name="embedding")(ids)
    x = layers.Conv1D(8, 3, padding="same", activation="relu", name="conv1d")(x)
    x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = layers.EinsumDense("abc,cd->abd", (6, 8), activation="relu", name="einsum")(x)
    x = layers.TimeDistributed(layers.Dense(8, name="each"), name="wrapper")(x)
    x = keras.Sequential([keras.Input((6, 8)), layers.Dense(8, name="nested")], name="model")(x)
    x = layers.Reshape((6, 8, 1))(Twice(name="twice")(x))
    x = layers.Conv2D(4, 3, activation="gelu", name="conv2d")(x)
    x = layers.Conv3D(4, (1, 3, 3), name="conv3d")(layers.Reshape((4, 6, 4, 1))(x))
    return keras.Model(ids, layers.Dense(3, "softmax", name="head")(layers.Flatten()(x)))


def adapt(model):
    rng = np.random.default_rng(1)
    for layer in sublayers(model):
        if hasattr(layer, "enable_lora"):
            layer.enable_lora(2, lora_alpha=3)
    for weight in model.weights:
        if "lora" in weight.name:
            weight.assign(rng.normal(0, 0.3, weight.shape))


def quantize(mode):
    def quantize(model):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Not all layers can be.
            model.quantize(mode)

    return quantize


def described(model):
    """What the weights of a model are, those of slopes left out."""
    return sorted(
        (weight.name, str(weight.dtype), tuple(weight.shape), weight.trainable)
        for layer in sublayers(model)
        if not isinstance(layer, (SparsePReLU, keras.Model))
        for weight in layer.weights
    )


ADAPTED = pytest.mark.parametrize(
    "steps",
    [
        [adapt],
        # What is quantized runs long.
        *(
            pytest.param(steps, marks=pytest.mark.slow)
            for steps in (
                [quantize("int8")],
                [quantize("int4")],
                [quantize("float8")],
                [adapt, quantize("int8")],
                [quantize("int8"), adapt],
            )
        ),
    ],
    ids=["lora", "int8", "int4", "float8", "lora-int8", "int8-lora"],
)


@pytest.mark.once
@ADAPTED
def test_adapters_and_quantization_are_kept(steps):
    model = network()
    for step in steps:
        step(model)
    expected, weights = ops.convert_to_numpy(model(IDS)), described(model)
    copies = [sparsify(model), collapse(model, cost="macs")]
    if adapt not in steps:
        copies.append(prune(model, 1.0))  # Else no kernel is trainable.
    for copy in copies:
        np.testing.assert_array_equal(ops.convert_to_numpy(copy(IDS)), expected)
    for copy in copies[::2]:
        assert described(copy) == weights
    assert described(copies[0]) == weights == described(model)


@pytest.mark.once
def test_quantized_layers_are_not_merged():
    chain = [layers.Dense(8), SparsePReLU(alpha_initializer="ones"), layers.Dense(2)]
    model = keras.Sequential([keras.Input((8,)), *chain])
    quantize("int8")(model)
    collapsed = collapse(model, cost="macs")
    assert sum(isinstance(layer, layers.Dense) for layer in collapsed.layers) == 2
    x = np.random.default_rng(0).normal(size=(4, 8))
    np.testing.assert_array_equal(*(ops.convert_to_numpy(each(x)) for each in (model, collapsed)))


class Own(layers.Dense):
    """Layers of one's own are quantized if `type_check` is off."""


@pytest.mark.once
def test_what_was_quantized_inside_of_a_layer():
    """The configuration of the layer around it does not say so."""
    original, copy = Twice(), Twice()
    for block in (original, copy):
        block.dense = Own(8, name="inner")
        block.build((None, 8))
    original.dense.quantize("int8", type_check=False)
    transfer_state(original, copy)
    assert copy.dense.quantization_mode == "int8"
    x = np.random.default_rng(0).normal(size=(4, 8))
    np.testing.assert_array_equal(*(ops.convert_to_numpy(each(x)) for each in (original, copy)))


@pytest.mark.once
def test_what_weights_were_given_after_their_layer_was_made():
    """Keras has no other way to regularize a model that is built, or to freeze one weight."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3, "relu", kernel_regularizer="l1", name="a"),
            layers.Dense(2, kernel_constraint="non_neg", name="b"),
        ]
    )
    a, b = model.layers
    a.kernel.regularizer = keras.regularizers.L2(0.5)
    a.bias.trainable = False
    b.kernel.regularizer = keras.regularizers.L1(2.0)
    b.bias.constraint = keras.constraints.UnitNorm()
    for copy in (sparsify(model), prune(model, 1.0)):
        a, b = (copy.get_layer(name) for name in "ab")
        assert a.kernel.regularizer.get_config() == keras.regularizers.L2(0.5).get_config()
        assert not a.bias.trainable
        assert type(b.kernel.regularizer) is keras.regularizers.L1
        assert type(b.bias.constraint) is keras.constraints.UnitNorm
        losses = (sum(map(ops.convert_to_numpy, each.losses)) for each in (model, copy))
        np.testing.assert_allclose(*losses, rtol=1e-6)
    assert type(b.kernel.constraint.constraint) is keras.constraints.NonNeg


@pytest.mark.once
def test_a_dtype_of_a_part():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3, "relu", dtype="mixed_bfloat16", name="a"),
            layers.Dense(2, dtype=keras.DTypePolicy("float16"), name="b"),
        ]
    )
    for copy in (sparsify(model), prune(model, 1.0)):
        for name in "ab":
            each = [m.get_layer(name).dtype_policy.name for m in (model, copy)]
            assert each[0] == each[1]


class Growing(layers.Layer):
    """Makes as many weights as there were calls of its `build`."""

    count = 0

    def build(self, shape):
        Growing.count += 1
        for _ in range(Growing.count):
            self.add_weight(shape=(4,))

    def call(self, x):
        return x


def test_other_weights_are_refused():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.ReLU()(Growing(name="odd")(inputs)))
    with pytest.raises(ValueError, match=r"'odd' of class Growing cannot be copied.*\[\(4,\)\]"):
        sparsify(model)


@pytest.mark.once
def test_lambdas_as_activations():
    """By its configuration, Keras cannot make such a layer again."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(4, activation=lambda x: ops.maximum(x, 0.1 * x)),
            layers.Activation(lambda x: x * ops.sigmoid(x)),
            layers.Dense(2, "relu"),
        ]
    )
    x = np.random.default_rng(0).normal(size=(5, 4))
    right = ops.convert_to_numpy(model(x))
    for copied in (sparsify, collapse, lambda model: prune(model, 1.0)):
        np.testing.assert_allclose(ops.convert_to_numpy(copied(model)(x)), right, atol=1e-6)


class Several(layers.Layer):
    """A layer that does not say in its configuration how many weights and layers it has."""

    def __init__(self, weights, parts, **kwargs):
        super().__init__(**kwargs)
        self.parts = [layers.Dropout(0.5) for _ in range(parts)]
        for number in range(weights):
            self.add_weight(shape=(2,), name=f"weight{number}")
        self.built = True


@pytest.mark.once
@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([(2, 0), (1, 0)], "has weights of shapes"),
        ([(1, 0), (2, 0)], "has weights of shapes"),
        ([(0, 2), (0, 1)], "has other layers inside"),
        ([(0, 1), (0, 2)], "has other layers inside"),
    ],
)
def test_a_copy_that_has_more_or_less(counts, message):
    with pytest.raises(ValueError, match=f"of class Several cannot be copied: .*{message}"):
        transfer_state(*(Several(*count) for count in counts))


@pytest.mark.once
def test_constraints_are_those_of_each_layer():
    model = keras.Sequential([keras.Input((3,)), SparsePReLU(), layers.ReLU()])
    for layer in sparsify(model).layers:
        assert layer.alpha.constraint._function.__self__ is layer


def partly_frozen(frozen):
    """All that `collapse` writes anew, with some parts frozen.

    Args:
        frozen: Function that freezes layers of the model, which it is given.
    """

    def block(x, name):
        y = layers.Conv2D(8, 1, name=f"{name}_expand")(x)
        y = SparsePReLU(name=f"{name}_units")(layers.BatchNormalization(name=f"{name}_norm")(y))
        y = layers.Conv2D(4, 3, padding="same", name=f"{name}_project")(y)
        return layers.Add(name=f"{name}_add")([x, y])

    inputs = keras.Input((6, 6, 4))
    inner = keras.Input((6, 6, 4))
    x = keras.Model(inner, block(inner, "nested"), name="model")(block(inputs, "first"))
    x = layers.SeparableConv2D(4, 3, activation="relu", name="separable")(x)
    x = SparsePReLU(alpha_initializer=keras.initializers.Constant(0.5), name="leaky")(x)
    x = layers.Dense(3, name="head")(layers.Flatten()(x))
    model = keras.Model(inputs, x)
    model(np.zeros((1, 6, 6, 4)))
    for layer in sublayers(model):
        if layer.name.endswith("_units"):
            layer.alpha.assign(np.arange(8) < 4)
    frozen(model)
    return model


def freeze(*patterns):
    def freeze(model):
        for layer in sublayers(model):
            if any(layer.name.startswith(pattern) for pattern in patterns):
                layer.trainable = False

    return freeze


def freeze_weights(model):
    for weight in model.get_layer("separable").weights:
        weight.trainable = False


def freeze_all_but_one(model):
    """The model as a whole is not trained then, whatever its layers say."""
    model.trainable = False
    model.get_layer("head").trainable = True


@pytest.mark.parametrize(
    ("frozen", "names"),
    [
        (freeze("first_expand", "nested_", "separable", "leaky"), ["nested", "separable", "leaky"]),
        once(freeze("model"), ["nested"]),
        once(freeze("first_"), ["first"]),
        once(freeze_weights, ["separable"]),
        once(freeze_all_but_one, ["first", "nested", "separable", "leaky"]),
        once(freeze(), []),
    ],
    ids=["some", "model", "block", "weights", "all", "nothing"],
)
def test_what_is_written_anew_is_frozen_if_all_was(frozen, names):
    """What was made of some layers that were trained, too, is trained."""
    model = partly_frozen(frozen)
    collapsed = collapse(model, cost="macs")
    rewritten = {layer.name.removeprefix("model_"): layer for layer in collapsed.layers}
    rewritten = {name: layer for name, layer in rewritten.items() if layer.weights}
    # Normalization, shortcuts and linear units went into these.
    assert rewritten.keys() == {
        *("first_expand", "first_project", "first_project_direct"),
        *("nested_expand", "nested_project", "nested_project_direct"),
        *("separable_depthwise", "separable", "leaky", "head"),
    }
    frozen = {name for name, layer in rewritten.items() if not layer.trainable_weights}
    assert frozen == {name for name in rewritten if name.partition("_")[0] in names}
    assert bool(collapsed.trainable_weights) == bool(model.trainable_weights)
