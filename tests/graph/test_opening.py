"""What layers may do in their `call`, on each backend, and still be opened or known."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_nladv import path_length, sparsify
from keras_nladv.graph import activations
from tests.graph.test_rules import both


class OnTheLeft(layers.Layer):
    """A layer that calls a function of its weight and the input."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def build(self, input_shape):
        self.weight = self.add_weight(shape=(4,), initializer="ones", name="scale")

    def call(self, inputs):
        return self.function(self.weight, inputs)


@pytest.mark.parametrize(
    "function",
    [
        lambda w, x: w * x,
        lambda w, x: w - x,
        lambda w, x: w[None] + x,
        lambda w, x: ops.ones(4) + x,
        lambda w, x: np.float32(2) * x,
        lambda w, x: ops.maximum(w, -1e38) * x,
        lambda w, x: ops.matmul(x, w[:, None]) + ops.zeros((1,)),
        lambda w, x: x[None][0],
    ],
)
def test_weights_and_arrays_on_the_left(function):
    inputs = keras.Input((3,))
    operators = keras.Variable.__mul__, type(ops.zeros(())).__add__
    x = OnTheLeft(function)(layers.Dense(4, activation="relu")(inputs))
    assert path_length(keras.Model(inputs, x)) == pytest.approx(1.0)
    # What the symbolic run changes is as it was.
    assert (keras.Variable.__mul__, type(ops.zeros(())).__add__) == operators
    assert not hasattr(keras.KerasTensor, "__array_ufunc__")


class CausalBlock(layers.Layer):
    """A decoder's block, that makes its causal mask of positions."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(2, 4)
        self.units = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(4)])

    def call(self, inputs):
        positions = ops.arange(ops.shape(inputs)[1])
        mask = (positions[:, None] >= positions)[None]
        x = inputs + self.attention(inputs, inputs, attention_mask=mask)
        return x + self.units(x)


class BatchMaskBlock(CausalBlock):
    """The same, with a mask for each sample, as in the examples of Keras."""

    def call(self, inputs):
        batch, length = ops.shape(inputs)[:2]
        positions = ops.arange(length)
        mask = positions[:, None] >= positions - length + length
        mask = ops.tile(ops.reshape(mask, (1, length, length)), (batch, 1, 1))
        x = inputs + self.attention(inputs, inputs, attention_mask=mask)
        return x + self.units(x)


@pytest.mark.parametrize("length", [6, None])
@pytest.mark.parametrize("block", [CausalBlock, BatchMaskBlock])
def test_causal_masks(block, length):
    ids = keras.Input((length,), dtype="int32")
    model = keras.Model(ids, block()(layers.Embedding(9, 4)(ids)))
    assert path_length(model) == pytest.approx(1 / 2)


class MaskedBlock(CausalBlock):
    """Makes the mask of its attention of the one that Keras gives it, as decoders do."""

    def __init__(self, combine, **kwargs):
        super().__init__(**kwargs)
        self.combine = combine
        self.supports_masking = True

    def build(self, shape):
        self.attention.build(shape, shape)
        self.units.build(shape)

    def call(self, inputs, mask=None):
        batch, length = ops.shape(inputs)[:2]
        mask = self.combine(mask, batch, length)
        x = inputs + self.attention(inputs, inputs, attention_mask=mask)
        return x + self.units(x)


def causal_and(mask, length):
    positions = ops.arange(length)
    return ops.logical_and((positions[:, None] >= positions)[None], mask)


@pytest.mark.once
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize(
    "combine",
    [
        lambda mask, batch, length: ops.reshape(mask, (batch, 1, length)),
        lambda mask, batch, length: ops.broadcast_to(mask[:, None], (batch, length, length)),
        lambda mask, batch, length: causal_and(ops.reshape(mask, (-1, 1, length)), length),
        lambda mask, batch, length: ops.ones((batch, length, 1), "bool") & mask[:, None],
    ],
)
def test_masks_are_as_long_as_what_they_are_masks_of(combine, given):
    """Whether Keras attaches them, or they are an input of their own."""
    ids = keras.Input((None,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=not given)(ids)
    mask = keras.Input((None,), dtype="bool") if given else None
    x = MaskedBlock(combine)(x, mask=mask) if given else MaskedBlock(combine)(x)
    model = keras.Model([ids, mask] if given else ids, x)
    assert path_length(model) == pytest.approx(1 / 2)
    assert path_length(sparsify(model)) == pytest.approx(1 / 2)


class Choosy(layers.Layer):
    """A layer that takes sequences of some lengths only, and batches of known size."""

    def __init__(self, takes, axis=1, **kwargs):
        super().__init__(**kwargs)
        self.takes, self.axis = takes, axis
        self.within = Inner()

    def build(self, input_shape):
        self.within.build(input_shape)

    def call(self, inputs):
        if inputs.shape[self.axis] not in self.takes:
            raise ValueError("not of this length")
        return self.within(ops.relu(inputs))

    def compute_output_shape(self, input_shape):
        return input_shape[:1] + input_shape[2:]


class Inner(layers.Layer):
    def call(self, inputs):
        return ops.relu(ops.mean(ops.tanh(inputs), axis=1))


@pytest.mark.once
@pytest.mark.parametrize("length", [1, 2, 4, 8, 16])
def test_sizes_that_are_tried(length):
    """Positions of what was assumed are not reported, those of all else are."""
    inputs = keras.Input((None, 3))
    x = layers.ReLU()(Choosy([length])(inputs))
    model = keras.Model(inputs, x)
    assert path_length(model) == 4
    assert [each.positions for each in activations(model)] == [None, None, None, 1]


@pytest.mark.once
def test_what_stopped_the_run_is_said():
    inputs = keras.Input((None, 3))
    with pytest.raises(ValueError, match=r"Choosy.*cannot be opened.*not of this length"):
        path_length(keras.Model(inputs, Choosy([3])(inputs)))


@pytest.mark.once
@pytest.mark.parametrize(("length", "positions"), [(None, [None, None, 1, 1]), (5, [5, 5, 1, 1])])
def test_positions_where_nothing_was_assumed(length, positions):
    inputs = keras.Input((length, 3))
    x = layers.ReLU()(Choosy([None, 5])(inputs))
    assert [each.positions for each in activations(keras.Model(inputs, x))] == positions
    if length:
        # The size of a batch is none of those that count.
        x = layers.ReLU()(Choosy([8], axis=0)(inputs))
        assert [each.positions for each in activations(keras.Model(inputs, x))] == positions


@pytest.mark.parametrize(
    ("make", "dtype", "size"),
    [
        (lambda: layers.Hashing(4, output_mode="one_hot"), "int32", 1),
        (lambda: layers.Hashing(4, output_mode="multi_hot"), "string", 2),
        (lambda: layers.IntegerLookup(vocabulary=[1, 2]), "int32", 3),
        (lambda: layers.IntegerLookup(vocabulary=[1, 2], output_mode="one_hot"), "int32", 1),
        (lambda: layers.StringLookup(vocabulary=["a"], output_mode="count"), "string", 2),
        (lambda: layers.TextVectorization(vocabulary=["a", "b"]), "string", 1),
        (
            lambda: layers.TextVectorization(vocabulary=["a"], output_mode="multi_hot"),
            "string",
            1,
        ),
    ],
)
def test_layers_that_need_tensorflow(make, dtype, size):
    """What prepares ids and text is in front of all units."""
    pytest.importorskip("tensorflow")
    inputs = keras.Input((size,), dtype=dtype)
    x = make()(inputs)
    if "int" in x.dtype:
        x = layers.GlobalMaxPooling1D()(layers.Embedding(9, 4)(x))
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(4, activation="relu")(x)))
    assert both(model) == pytest.approx((1.0, 1.0))


def test_crossed_features_are_operands():
    pytest.importorskip("tensorflow")
    one, other = (keras.Input((1,), dtype="int32") for _ in range(2))
    x = layers.HashedCrossing(5, output_mode="one_hot")([one, other])
    model = keras.Model([one, other], [layers.Dense(4, activation="relu")(x), x])
    assert both(model) == pytest.approx((4 / 9, 5 * 4 / (5 * 4 + 5)))
