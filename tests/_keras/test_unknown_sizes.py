"""Blocks that compute with sizes that are not known are opened, and do the same for any sizes."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_nladv import sparsify
from tests.cases import once
from tests.copies import arrays, assert_close

X = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")
ROW = np.arange(4, dtype="float32")


def flat(x):
    return ops.reshape(x, (ops.shape(x)[0] * ops.shape(x)[1], 4))


def causal(x):
    batch, length, _ = ops.shape(x)
    mask = ops.arange(length)[:, None] >= ops.arange(length) - length + length
    mask = ops.tile(ops.reshape(mask, [1, length, length]), (batch, 1, 1))
    return ops.matmul(ops.cast(mask, "float32"), x)


KNOWN = {
    "as another": lambda x, y: ops.reshape(y, ops.shape(x)),
    "heads": lambda x, y: ops.reshape(y, (ops.shape(x)[0], ops.shape(x)[1], 2, 2)),
    "heads, batch left out": lambda x, y: ops.reshape(y, (-1, ops.shape(x)[1], 2, 2)),
    "heads, length left out": lambda x, y: ops.reshape(y, (ops.shape(x)[0], -1, 2, 2)),
    "positions as samples": lambda x, y: flat(y),
    "each second": lambda x, y: ops.reshape(y[:, ::2], (ops.shape(x)[0], -1, 4)),
    "ones and zeros": lambda x, y: y * ops.ones((ops.shape(x)[0], 1, 4)) + ops.zeros(
        (ops.shape(x)[1], 1)
    ),
    "full": lambda x, y: y + ops.full(ops.shape(y), 2.0),
    "broadcast": lambda x, y: y + ops.broadcast_to(ROW, (ops.shape(y)[0], 1, 4)),
    "tiled": lambda x, y: y + ops.tile(ROW[None], (ops.shape(y)[1], 1)),
    "a token": lambda x, y: ops.concatenate([ops.zeros((ops.shape(x)[0], 1, 4)), y], 1),
    "a count": lambda x, y: ops.sum(y, 1) / ops.cast(ops.shape(x)[1], x.dtype),
    "positions": lambda x, y: y[:, 1:] * ops.cast(ops.arange(1, ops.shape(y)[1]), "float32")[
        None, :, None
    ],
    "triangle": lambda x, y: ops.matmul(
        ops.tril(ops.ones((ops.shape(x)[1], ops.shape(x)[1]))), y
    ),
    "causal": lambda x, y: causal(y),
}  # fmt: skip
# What no operation of Keras does with several unknown sizes, or depends on values.
UNKNOWN = {
    "positions of samples": lambda x, y: ops.reshape(flat(y), ops.shape(x)),
    "swapped": lambda x, y: ops.reshape(ops.swapaxes(y, 0, 1), ops.shape(x)),
    "repeated": lambda x, y: ops.tile(y, (1, ops.shape(x)[1], 1)),
    "a sum of sizes": lambda x, y: y[:, 0] * ops.cast(
        ops.arange(ops.shape(x)[0] + ops.shape(x)[1]), "float32"
    )[0],
    "steps": lambda x, y: y[:, 0] * ops.cast(ops.arange(0, ops.shape(x)[1], 2), "float32")[0],
    "values": lambda x, y: ops.tile(y, (1, ops.cast(ops.max(x), "int32") * 0 + 1, 1)),
    "a choice": lambda x, y: y * 2 if ops.shape(x)[1] > 3 else y,
}  # fmt: skip


# Shapes that are tensors, as in published examples. Not all backends run them.
SYMBOLIC = {
    "concatenated": lambda x, y: y + ops.tile(
        ROW[None, None],
        ops.concatenate(
            [ops.expand_dims(ops.shape(x)[0], -1), ops.convert_to_tensor([1, 1])], axis=0
        ),
    ),
    "stacked": lambda x, y: ops.reshape(y, ops.stack([ops.shape(x)[0], ops.shape(x)[1] * 4])),
}  # fmt: skip


@keras.saving.register_keras_serializable(package="tests")
class Sized(layers.Layer):
    def __init__(self, case, **kwargs):
        super().__init__(**kwargs)
        self.case = case
        self.dense = layers.Dense(4, activation="relu")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return {**KNOWN, **UNKNOWN, **SYMBOLIC}[self.case](x, self.dense(x))

    def get_config(self):
        return {**super().get_config(), "case": self.case}


@pytest.mark.parametrize("length", [once(5), None])
@pytest.mark.parametrize("case", KNOWN)
def test_sizes_that_are_not_known(case, length, tmp_path):
    inputs = keras.Input((length, 4))
    model = keras.Model(inputs, layers.ReLU()(Sized(case)(inputs)))
    functions = {name: getattr(ops, name) for name in ("shape", "reshape", "tile", "arange")}
    sparse, report = sparsify(model, return_report=True)
    assert not report.left
    assert functions == {name: getattr(ops, name) for name in functions}
    sparse.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for x in (X, X[:2, : length or 4]):
        for copy in (sparse, loaded):
            assert_close(arrays(copy, x), arrays(model, x))


@pytest.mark.once
@pytest.mark.parametrize("case", SYMBOLIC)
def test_shapes_that_are_tensors(case):
    inputs = keras.Input((None, 4))
    sized = Sized(case)
    sized.compute_output_shape = lambda shape: (None, None, 4)[: 3 if case == "concatenated" else 2]
    _, report = sparsify(keras.Model(inputs, sized(inputs)), return_report=True)
    assert not report.left


@pytest.mark.once
@pytest.mark.parametrize("case", UNKNOWN)
def test_what_is_kept_whole(case):
    inputs = keras.Input((None, 4))
    sized = Sized(case, name="sized")
    # On some backends what a symbolic call assumes does not fit.
    sized.compute_output_shape = lambda shape: (None, None, 4)
    model = keras.Model(inputs, layers.ReLU()(sized(inputs)))
    _, report = sparsify(model, return_report=True)
    assert report.left == ["sized"]
    assert "a symbolic run of its `call` fails" in report.rows[0]["reason"]
