"""Every operation and layer of Keras has a rule that agrees with what is found by trying.

Whatever `keras.ops` and `keras.layers` hold is listed here: with cases, or as refused, for a
reason. What a later Keras adds fails the tests until it is.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_nladv.graph.operation_rules import OPERATION_RULES
from tests.graph.oracle import by_label, traced, tried

pytestmark = pytest.mark.once


@dataclass
class Case:
    """A function of one or several tensors.

    Attributes:
        make: The function.
        shape: Shape of each input, with the batch axis.
        inputs: Number of inputs.
        units: Number of nonlinear units.
        claim: How much the rules say: "exact", of each element; "positions", of each channel, some
            of whose elements are fed by less; "mean", where channels are not followed; "passes",
            where what each channel is divided by is no edge, by definition.
        dtype: Dtype of the inputs.
        draw: Function of a generator and a shape that draws an input.
        axis: The channels' axis.
        chooses: Whether there is one more input, of ids, that choose from the others.
    """

    make: Any
    shape: tuple[int, ...] = (1, 4, 6)
    inputs: int = 1
    units: int = 0
    claim: str = "exact"
    dtype: str = "float32"
    draw: Any = None
    axis: int = -1
    chooses: bool = False

    def model(self, batch):
        kinds = [self.dtype] * self.inputs + ["int32"] * self.chooses
        shape = (batch, *self.shape[1:])
        inputs = [keras.Input(batch_shape=shape, dtype=dtype) for dtype in kinds]
        return keras.Model(inputs, self.make(*inputs))

    def drawers(self):
        rng = np.random.default_rng(0)

        def integers(rng, shape):
            return rng.integers(0, 4, shape)

        def truths(rng, shape):
            return rng.random(shape) < 0.5

        def normal(rng, shape):
            return rng.normal(size=shape)

        drawn = {"int32": integers, "bool": truths, "float32": normal}[self.dtype]
        drawn = self.draw or drawn
        values = lambda: drawn(rng, self.shape).astype(self.dtype)  # noqa: E731
        return [values] * self.inputs + [lambda: integers(rng, self.shape)] * self.chooses


def words(names):
    return names.split()


def array(*shape):
    """Constants without zeros."""
    return np.random.default_rng(1).uniform(0.5, 1.5, shape).astype("float32")


def positive(rng, shape):
    return rng.uniform(0.5, 1.5, shape)


def only(index):
    """A function that returns one of several results."""
    return lambda results: results[index]


IMAGE = (1, 4, 4, 3)
KERNEL = array(2, 2, 3, 5)
SQUARE = (1, 4, 4)


def image(make, **arguments):
    return Case(make, IMAGE, **arguments)


def ids(make, **arguments):
    return Case(make, dtype="int32", **arguments)


def masks(make, **arguments):
    return Case(make, dtype="bool", **arguments)


def two(make, **arguments):
    return Case(make, inputs=2, **arguments)


def each(function):
    """A function of one or two tensors: of two tensors, and of a tensor and a constant."""
    return [two(function), Case(lambda x: function(x, array(6))), Case(lambda x: function(x, 2.0))]


def of_two_ids(function):
    return [
        ids(function, inputs=2, draw=natural),
        ids(lambda x: function(x, np.array(2, "int32")), draw=natural),
    ]


def statistic(function):
    return [
        Case(lambda x: function(x, axis=1), draw=positive),
        Case(lambda x: function(x, axis=-1, keepdims=True), draw=positive),
    ]


def activation(function):
    return [Case(function, units=6)]


def spread(rng, shape):
    """Values on all pieces of activations that are made of pieces."""
    return rng.normal(size=shape) * 5


def close(rng, shape):
    return 0.1 * rng.normal(size=shape)


def colors(rng, shape):
    return 255 * rng.random(shape)


def signed(rng, shape):
    return rng.integers(-3, 4, shape)


def holed(rng, shape):
    return rng.choice([1.0, np.nan, np.inf, -np.inf], shape)


def natural(rng, shape):
    return rng.integers(1, 6, shape)


def quantiles(function, whole):
    return [
        Case(lambda x: function(x, np.array([0.2, 0.7], "float32") * whole, axis=-1)),
        Case(lambda x: function(x, 0.5 * whole, axis=1, keepdims=True)),
    ]


def along(function, **arguments):
    return lambda x: function(x, **arguments)


def chosen(make, **arguments):
    """Values that ids, of another input that only chooses, choose from."""
    return Case(make, (1, 4, 4), chooses=True, **arguments)


ACTIVATIONS = words(
    """
            celu elu gelu hard_shrink hard_sigmoid hard_silu hard_swish
            hard_tanh leaky_relu log_sigmoid relu relu6 selu sigmoid silu
            soft_shrink softplus softsign sparse_plus sparse_sigmoid squareplus
            swish tanh tanh_shrink
            """
)

CASES = {
    **{name: [Case(getattr(ops, name), units=6, draw=spread)] for name in ACTIVATIONS},
    "threshold": [Case(lambda x: ops.threshold(x, 0.0, 0.0), units=6)],
    "glu": [
        *(Case(ops.glu, (1, 4, size), units=size // 2) for size in (6, 2)),
        Case(lambda x: ops.glu(x, axis=1), units=6, claim="positions"),
    ],
    # Each channel goes on.
    **{
        name: [Case(getattr(ops, name))]
        for name in words(
            """
            array convert_to_tensor copy deg2rad nan_to_num negative rad2deg
            """
        )
    },
    "stop_gradient": [Case(ops.stop_gradient)],
    "cast": [Case(lambda x: ops.cast(x, "float16")), ids(lambda x: ops.cast(x, "float32"))],
    "saturate_cast": [Case(lambda x: ops.saturate_cast(x, "float16"))],
    **{
        name: [Case(getattr(ops, name), claim="passes")]
        for name in words(
            """
            softmax log_softmax normalize layer_normalization
            """
        )
    },
    "sparsemax": [Case(ops.sparsemax, claim="passes", draw=close)],
    "rms_normalization": [Case(lambda x: ops.rms_normalization(x, array(6)), claim="passes")],
    "batch_normalization": [
        Case(lambda x: ops.batch_normalization(x, array(6), array(6), -1, array(6), array(6)))
    ],
    **{
        name: [
            image(partial(lambda f, x: f(x, (2, 2)), getattr(ops, name))),
            image(
                partial(
                    lambda f, x: f(x, (2, 2), data_format="channels_first"), getattr(ops, name)
                ),
                axis=1,
            ),
        ]
        for name in ("average_pool", "max_pool")
    },
    # With the channels last, Keras 3.15 takes the shape of the output for one of five axes.
    "adaptive_average_pool": [
        image(lambda x: ops.adaptive_average_pool(x, (2, 2), data_format="channels_first"), axis=1)
    ],
    "adaptive_max_pool": [
        image(lambda x: ops.adaptive_max_pool(x, (2, 2), data_format="channels_first"), axis=1)
    ],
    # Operands.
    "add": each(ops.add),
    "subtract": each(ops.subtract),
    "multiply": each(ops.multiply),
    "divide": [*each(ops.divide), two(lambda x, y: x[..., :1] / ops.mean(y, axis=1)[:, None])],
    "true_divide": each(ops.true_divide),
    "divide_no_nan": each(ops.divide_no_nan),
    **{
        name: [
            two(getattr(ops, name)),
            Case(partial(lambda f, x: f(x, 0.5), getattr(ops, name)), units=6),
            *of_two_ids(getattr(ops, name)),
        ]
        for name in words(
            """
            maximum minimum fmax fmin
            """
        )
    },
    "clip": [
        Case(lambda x: ops.clip(x, -0.5, 0.5), units=6),
        ids(lambda x: ops.clip(x, 1, 3)),
    ],
    "where": [
        Case(lambda x: ops.where(np.arange(6) > 2, x, ops.flip(x, -1))),
        Case(lambda x: ops.where(np.arange(6) > 2, 1.0, x)),
        masks(lambda x: ops.where(x, 1, 0)),
        masks(lambda x: ops.where(x, 1, ops.zeros_like(x, "int32"))),
    ],
    # Sums of products.
    "matmul": [
        Case(lambda x: ops.matmul(x, array(6, 5))),
        Case(lambda x: ops.matmul(array(5, 4), x), claim="positions"),
        *(Case(lambda x: ops.matmul(x, array(6)), shape) for shape in ((1, 4, 6), (1, 6), (6,))),
        Case(lambda x: ops.matmul(array(4), x)),
        two(lambda x, y: ops.matmul(x, ops.swapaxes(y, 1, 2))),
    ],
    "einsum": [
        Case(lambda x: ops.einsum("abc,cd->abd", x, array(6, 5))),
        Case(lambda x: ops.einsum("abc,d->abcd", x, array(5))),
        Case(lambda x: ops.einsum("abc,bd->adc", x, array(4, 3)), claim="positions"),
        Case(lambda x: ops.einsum("abc->cab", x)),
        two(lambda x, y: ops.einsum("abc,abd->acd", x, y), claim="positions"),
    ],
    "tensordot": [
        Case(lambda x: ops.tensordot(x, array(6, 5), 1)),
        Case(lambda x: ops.tensordot(x, array(5, 6, 4), ((1, 2), (2, 1)))),
        Case(lambda x: ops.tensordot(array(5, 6), x, ((-1,), (-1,)))),
        two(lambda x, y: ops.tensordot(x, y, ((1,), (1,))), claim="positions"),
    ],
    "dot": [
        Case(lambda x: ops.dot(x, array(6, 5))),
        Case(lambda x: ops.dot(x, array(6))),
        Case(lambda x: ops.dot(array(6), x), shape=(6, 5)),
        Case(lambda x: ops.dot(x, 2.0)),
        two(ops.dot, shape=(3, 3), claim="positions"),
    ],
    "inner": [
        Case(lambda x: ops.inner(x, array(5, 6))),
        Case(lambda x: ops.inner(x, array(6))),
        Case(lambda x: ops.inner(x, 2.0)),
        two(ops.inner, shape=(1, 6)),
    ],
    "vdot": [Case(lambda x: ops.vdot(x, array(6)), shape=(6,)), two(ops.vdot, shape=(6,))],
    "outer": [
        Case(lambda x: ops.outer(x, array(3)), shape=(1, 6)),
        two(ops.outer, shape=(1, 4), claim="positions"),
    ],
    "conv": [
        image(lambda x: ops.conv(x, KERNEL)),
        image(lambda x: ops.conv(x, array(2, 2, 4, 5), data_format="channels_first"), axis=1),
    ],
    "depthwise_conv": [
        image(lambda x: ops.depthwise_conv(x, array(2, 2, 3, 2)), claim="exact"),
        image(
            lambda x: ops.depthwise_conv(x, array(2, 2, 4, 2), data_format="channels_first"), axis=1
        ),
    ],
    "separable_conv": [
        image(lambda x: ops.separable_conv(x, array(2, 2, 3, 2), array(1, 1, 6, 4)))
    ],
    "conv_transpose": [
        image(lambda x: ops.conv_transpose(x, array(2, 2, 5, 3), 1)),
        Case(lambda x: ops.conv_transpose(x, array(2, 5, 6), 1)),
        image(
            lambda x: ops.conv_transpose(x, array(2, 2, 5, 4), 1, data_format="channels_first"),
            axis=1,
        ),
    ],
    "dot_product_attention": [
        Case(lambda x: ops.dot_product_attention(x, x, x), shape=(1, 3, 2, 4), claim="passes")
    ],
    # What lies along axes is mixed.
    **{
        name: statistic(getattr(ops, name))
        for name in words(
            """
            amax amin max mean median min norm prod ptp std sum var logsumexp
            nanmax nanmean nanmedian nanmin nanprod nanstd nansum nanvar
            """
        )
    },
    "average": [
        Case(lambda x: ops.average(x, axis=1)),
        Case(lambda x: ops.average(x, axis=-1, weights=array(6))),
    ],
    **{name: quantiles(getattr(ops, name), 1) for name in ("quantile", "nanquantile")},
    **{name: quantiles(getattr(ops, name), 100) for name in ("percentile", "nanpercentile")},
    "moments": [Case(lambda x: ops.moments(x, axes=[1])), Case(lambda x: ops.moments(x, axes=[2]))],
    "trapezoid": [Case(lambda x: ops.trapezoid(x, axis=1)), Case(ops.trapezoid)],
    **{
        name: [
            Case(along(getattr(ops, name), axis=-1), draw=positive),
            Case(along(getattr(ops, name), axis=1), claim="positions", draw=positive),
            Case(getattr(ops, name), draw=positive),
        ]
        for name in ("cumsum", "cumprod", "nancumsum", "nancumprod")
    },
    "diff": [
        Case(ops.diff),
        Case(lambda x: ops.diff(x, n=2)),
        Case(lambda x: ops.diff(x, axis=1)),
    ],
    "trace": [
        Case(lambda x: ops.trace(x, axis1=1, axis2=2), shape=(1, 4, 4)),
        image(lambda x: ops.trace(x, 0, 1, 2)),
    ],
    **{
        name: [
            Case(
                partial(lambda f, x: f(x, np.array([0, 0, 1, 1]), 2), getattr(ops, name)),
                shape=(4, 3),
            )
        ]
        for name in words(
            """
            segment_max segment_min segment_prod segment_sum
            """
        )
    },
    # Elements are moved.
    "append": [
        two(lambda x, y: ops.append(x, y, axis=-1)),
        Case(lambda x: ops.append(x, array(1, 4, 2), axis=-1)),
    ],
    "array_split": [Case(lambda x: ops.array_split(x, 4, axis=-1))],
    "broadcast_to": [Case(lambda x: ops.broadcast_to(x, (3, 4, 6)))],
    "concatenate": [
        two(lambda x, y: ops.concatenate([x, y], axis=-1)),
        Case(lambda x: ops.concatenate([x, array(1, 4, 2)], axis=-1)),
        two(lambda x, y: ops.concatenate([x, y], axis=1), claim="positions"),
    ],
    "depth_to_space": [Case(lambda x: ops.depth_to_space(x, 2), shape=(1, 2, 2, 8))],
    "space_to_depth": [Case(lambda x: ops.space_to_depth(x, 2), shape=(1, 4, 4, 2))],
    "diag": [Case(ops.diag, shape=(4,)), Case(ops.diag, shape=(3, 4))],
    "diagflat": [Case(ops.diagflat, shape=(1, 4))],
    "diagonal": [Case(lambda x: ops.diagonal(x, axis1=1, axis2=2))],
    "expand_dims": [Case(lambda x: ops.expand_dims(x, 1))],
    "extract_sequences": [Case(lambda x: ops.extract_sequences(x, 3, 2))],
    "flip": [Case(ops.flip), Case(lambda x: ops.flip(x, axis=1))],
    "fliplr": [Case(ops.fliplr)],
    "flipud": [Case(ops.flipud)],
    "get_item": [
        Case(lambda x: ops.get_item(x, (slice(None), slice(1, 3), slice(None, None, 2)))),
        Case(lambda x: x[..., None, -1]),
    ],
    "meshgrid": [two(ops.meshgrid, shape=(3,))],
    "moveaxis": [Case(lambda x: ops.moveaxis(x, 1, 2))],
    "pad": [
        Case(lambda x: ops.pad(x, ((0, 0), (0, 0), (1, 2)))),
        Case(lambda x: ops.pad(x, ((0, 0), (0, 0), (1, 2)), constant_values=2.0)),
        Case(lambda x: ops.pad(x, ((0, 0), (1, 1), (1, 2)), constant_values=-1.0)),
        Case(lambda x: ops.pad(x, ((0, 0), (0, 0), (1, 2)), mode="reflect")),
    ],
    "ravel": [Case(ops.ravel)],
    "rearrange": [Case(lambda x: ops.rearrange(x, "a b (c d) -> a (b c) d", d=2))],
    "repeat": [Case(lambda x: ops.repeat(x, 2, axis=-1)), Case(lambda x: ops.repeat(x, 2))],
    "reshape": [Case(lambda x: ops.reshape(x, (-1, 12))), Case(lambda x: ops.reshape(x, (3, 8)))],
    "roll": [Case(lambda x: ops.roll(x, 1, axis=1)), Case(lambda x: ops.roll(x, 2, axis=-1))],
    "rot90": [Case(lambda x: ops.rot90(x, axes=(1, 2)))],
    "slice": [Case(lambda x: ops.slice(x, (0, 1, 2), (1, 2, 3)))],
    "slice_update": [
        two(lambda x, y: ops.slice_update(x, (0, 0, 2), y[:, :, :3])),
        Case(lambda x: ops.slice_update(x, (0, 0, 2), 2 * array(1, 4, 3))),
        Case(lambda x: ops.slice_update(2 * array(1, 4, 8), (0, 0, 1), x)),
    ],
    "split": [Case(lambda x: ops.split(x, [1, 4], axis=-1)), Case(lambda x: ops.split(x, 2, 1))],
    "hsplit": [Case(lambda x: ops.hsplit(x, 2))],
    "vsplit": [Case(lambda x: ops.vsplit(x, 2), shape=(4, 3))],
    "dsplit": [Case(lambda x: ops.dsplit(x, 2))],
    "squeeze": [Case(lambda x: ops.squeeze(x, 0))],
    **{
        name: [
            two(partial(lambda f, x, y: f([x, y]), getattr(ops, name))),
            Case(partial(lambda f, x: f([x, 3 * array(1, 4, 6)]), getattr(ops, name))),
        ]
        for name in words(
            """
            stack hstack vstack dstack
            """
        )
    },
    "swapaxes": [Case(lambda x: ops.swapaxes(x, 1, 2))],
    "take": [
        Case(lambda x: ops.take(x, np.array([2, 0, 5]), axis=-1)),
        Case(lambda x: ops.take(x, np.array([[2, 0], [1, 1]]), axis=1)),
        ids(lambda x: ops.take(array(5, 3), x, axis=0), shape=(1,)),
        chosen(lambda x, i: ops.take(x, i, axis=-1)),
        chosen(lambda x, i: ops.take(x, i, axis=1)),
        chosen(lambda x, i: ops.take(x, i), claim="mean"),
    ],
    "take_along_axis": [
        Case(lambda x: ops.take_along_axis(x, np.array([[[0, 4, 2]]]), axis=-1)),
        chosen(lambda x, i: ops.take_along_axis(x, i[..., :2], axis=-1), claim="mean"),
        chosen(lambda x, i: ops.take_along_axis(x, i[:, :2], axis=1), claim="positions"),
        chosen(lambda x, i: ops.take_along_axis(x, ops.ravel(i), axis=None), claim="mean"),
    ],
    "tile": [Case(lambda x: ops.tile(x, (1, 2, 2)))],
    "transpose": [Case(lambda x: ops.transpose(x, (0, 2, 1))), Case(ops.transpose, shape=(2, 3))],
    "tril": [Case(ops.tril, claim="positions"), Case(lambda x: ops.tril(x, k=-2))],
    "triu": [Case(ops.triu, claim="positions")],
    "unstack": [Case(lambda x: ops.unstack(x, axis=-1))],
    # Ids and masks.
    **{
        name: of_two_ids(getattr(ops, name))
        for name in words(
            """
            greater greater_equal less less_equal isclose mod
            fmod floor_divide bitwise_and bitwise_or bitwise_xor
            bitwise_left_shift bitwise_right_shift left_shift right_shift gcd
            lcm power
            """
        )
    },
    **{
        name: [
            masks(getattr(ops, name), inputs=2),
            masks(partial(lambda f, x: f(x, False), getattr(ops, name))),
        ]
        for name in ["logical_or", "logical_xor"]
    },
    "logical_and": [masks(ops.logical_and, inputs=2), masks(lambda x: ops.logical_and(x, True))],
    "logical_not": [masks(ops.logical_not)],
    **{
        name: [ids(getattr(ops, name), draw=signed)]
        for name in words(
            """
            abs absolute fabs sign square bitwise_not bitwise_invert exp exp2
            expm1 sin cos tanh
            """
        )
        if name != "tanh"
    },
    **{
        name: [ids(getattr(ops, name), draw=natural)]
        for name in words(
            """
            sqrt rsqrt reciprocal log log1p log2 log10
            """
        )
    },
    **{
        name: [ids(partial(lambda f, x: f(x), getattr(ops, name)), claim="positions")]
        for name in words(
            """
            ceil floor round trunc
            """
        )
    },
    "isin": [ids(lambda x: ops.isin(x, np.array([1, 3])))],
    # Values that are some number tell what is padded.
    **{
        name: [
            *of_two_ids(getattr(ops, name)),
            Case(partial(lambda f, x: f(x, 1.0), getattr(ops, name)), draw=natural),
        ]
        for name in ("equal", "not_equal")
    },
    **{
        name: [Case(getattr(ops, name), draw=holed)]
        for name in words("isinf isposinf isneginf isfinite")
    },
    "isnan": [
        Case(ops.isnan, draw=holed),
        Case(lambda x: ops.where(ops.isnan(x), 0.0, x), draw=natural),
    ],
    **{
        name: [
            masks(along(getattr(ops, name), axis=-1), shape=(1, 2, 3)),
            masks(along(getattr(ops, name), axis=1), shape=(1, 3, 2)),
        ]
        for name in ("all", "any")
    },
    "argmax": [ids(along(ops.argmax, axis=-1)), ids(along(ops.argmax, axis=1))],
    "argmin": [ids(along(ops.argmin, axis=-1)), ids(along(ops.argmin, axis=1))],
    "one_hot": [
        ids(lambda x: ops.one_hot(x, 4), shape=(1, 3)),
        ids(lambda x: ops.one_hot(x, 4, axis=1), shape=(1, 3)),
    ],
    "multi_hot": [
        ids(lambda x: ops.multi_hot(x, 4), shape=(1, 2)),
        ids(lambda x: ops.multi_hot(x, 4), shape=(1, 3, 2), claim="mean"),
    ],
    # Images.
    "extract_patches": [
        image(lambda x: ops.image.extract_patches(x, 2)),
        image(
            lambda x: ops.image.extract_patches(x, (2, 3), strides=1, padding="same"),
            claim="positions",
        ),
        image(lambda x: ops.image.extract_patches(x, (1, 2), data_format="channels_first"), axis=1),
        Case(lambda x: ops.image.extract_patches(x, 2), shape=(4, 4, 3)),
        Case(
            lambda x: ops.image.extract_patches(x, 2, data_format="channels_first"),
            shape=(3, 4, 4),
            axis=0,
        ),
    ],
    "extract_patches_3d": [
        Case(lambda x: ops.image.extract_patches_3d(x, 2), shape=(1, 4, 2, 2, 2)),
        Case(lambda x: ops.image.extract_patches(x, (2, 1, 2)), shape=(1, 4, 2, 2, 2)),
        Case(
            lambda x: ops.image.extract_patches(x, (2, 1, 2), data_format="channels_first"),
            shape=(1, 2, 4, 2, 2),
            axis=1,
        ),
    ],
    "resize": [
        image(lambda x: ops.image.resize(x, (3, 5))),
        Case(lambda x: ops.image.resize(x, (3, 5)), shape=(4, 4, 3)),
        image(lambda x: ops.image.resize(x, (3, 5), data_format="channels_first"), axis=1),
    ],
    "pad_images": [image(lambda x: ops.image.pad_images(x, 1, 1, 1, 1), claim="positions")],
    "crop_images": [image(lambda x: ops.image.crop_images(x, 1, 1, 1, 1))],
    "affine_transform": [
        image(
            lambda x: ops.image.affine_transform(
                x, np.array([[1, 0.2, 0, 0, 1, 0.3, 0, 0.0]], "float32")
            )
        )
    ],
    "perspective_transform": [
        image(
            lambda x: ops.image.perspective_transform(
                x,
                np.array([[[0, 0], [0, 3], [3, 0], [3, 3]]], "float32"),
                np.array([[[0, 0], [0, 3], [3, 0], [2, 3]]], "float32"),
            )
        )
    ],
    "rgb_to_grayscale": [
        image(ops.image.rgb_to_grayscale),
        Case(
            lambda x: ops.image.rgb_to_grayscale(x, data_format="channels_first"),
            shape=(1, 3, 4, 2),
            axis=1,
        ),
    ],
}

# No path leads through what is as large, or as many, as a tensor is.
CONSTANTS = ["empty_like", "full_like", "ones_like", "zeros_like", "size", "ndim"]

# Functions that are called on no tensor of a model, or make none.
NO_OPERATIONS = words(
    """
            arange bartlett blackman convert_to_numpy dtype empty eye full
            geomspace hamming hanning identity is_tensor kaiser linspace
            logspace ones shape tri vectorize zeros
            """
)

for NAME in ("square", "sqrt", "rsqrt", "reciprocal"):
    CASES[NAME] = [*CASES[NAME], Case(getattr(ops, NAME), draw=positive)]
for FUNCTION in (lambda x: ops.power(x, 1.5), lambda x: x**2, lambda x: 1 / x):
    CASES["power"] = [*CASES["power"], Case(FUNCTION, draw=positive)]

REFUSED = {
    "Pointwise, but as often part of a softmax, a loss or a code of positions, which do not "
    "count, as an activation; arithmetic of ids is known.": """arccos arccosh arcsin arcsinh arctan
        arctan2 arctanh cbrt cosh erf erfc erfinv heaviside hypot i0 ldexp logaddexp logaddexp2
        nextafter sinc sinh tan""",
    "Steps, or places, made of values.": """allclose argpartition argsort bincount count_nonzero
        digitize histogram in_top_k isreal nanargmax
        nanargmin nonzero searchsorted signbit sort top_k unique unravel_index""",
    "Complex numbers, or bits, taken apart.": """angle conj conjugate fft fft2 ifft2 imag
        irfft polar real rfft view
        view_as_complex view_as_real""",
    "They call functions, which are not opened.": """associative_scan cond custom_gradient fori_loop
        jvp map scan switch vectorized_map while_loop""",
    "Linear algebra, that makes a matrix of all of another.": """cholesky cholesky_inverse det eig
        eigh inv logdet lstsq lu_factor matrix_rank pinv qr slogdet solve solve_triangular svd""",
    "Losses and scores.": """binary_crossentropy categorical_crossentropy ctc_decode ctc_loss psnr
        sparse_categorical_crossentropy ssim""",
    "Products and sums whose channels no rule follows.": """cdist corrcoef correlate cross fold
        istft kron select scatter scatter_update stft unfold vander""",
    "Images, transformed in ways that no rule follows.": """elastic_transform
        gaussian_blur hsv_to_rgb map_coordinates rgb_to_hsv scale_and_translate sobel_edges""",
}
REFUSED = {name: reason for reason, names in REFUSED.items() for name in names.split()}


def functions():
    """The functions of `keras.ops` and of what it holds, by their names."""
    found = {}
    modules = [ops, *(x for x in vars(ops).values() if type(x) is type(ops))]
    for module in modules:
        found |= {
            name: x for name, x in vars(module).items() if callable(x) and not name.startswith("_")
        }
    return found


def test_every_rule_is_of_an_operation_that_is_listed():
    """So that each is met by a case."""
    listed = {name.replace("_", "").lower() for name in {*CASES, *CONSTANTS}}
    # These have no function of their own: they are what others make.
    listed |= {"mish", "batchnorm", "layernorm", "rmsnorm"}
    assert {name.lower() for name in OPERATION_RULES} - listed == set()


def test_every_operation_is_listed():
    listed = {*CASES, *CONSTANTS, *NO_OPERATIONS, *REFUSED}
    assert set(functions()) - listed == set()
    # Operations that only some versions have may be missing.
    assert len(CASES) + len(CONSTANTS) + len(NO_OPERATIONS) + len(REFUSED) == len(listed)


def is_exact(true, claimed, labels):
    """Whether all that is claimed has been seen, and hardly an element is fed by less than its
    channel is."""
    hardly = (claimed & ~true).sum() <= 0.1 * claimed.sum()
    return hardly and (claimed == by_label(true, labels)).all()


def check(case, in_model=False):
    model = case.model(None if in_model else case.shape[0])
    function = (lambda *tensors: model([*tensors], training=False)) if in_model else case.make
    choosing = [np.zeros(case.shape, int)] * case.chooses
    rank = len(case.shape)
    axis = case.axis % rank
    # Sources are the channels; then, to see that nothing that feeds is left out, all elements.
    for axes in [(axis,), range(rank)]:
        kept = [size if each in axes else 1 for each, size in enumerate(case.shape)]
        count = int(np.prod(kept))
        if axes != (axis,) and count * case.inputs > 48:
            continue
        sources = [
            np.broadcast_to(np.arange(count).reshape(kept) + 1 + i * count, case.shape)
            for i in range(case.inputs)
        ] + choosing
        draws = 60 if case.dtype != "float32" else 12 if axes == (axis,) else 3
        said = None
        found = tried(function, case.drawers(), sources, draws, batched=in_model)
        for number, changes in enumerate(found, 1):
            if said is None:
                said, labels, units = traced(model, sources, [each.shape[1:] for each in changes])
            # Some more inputs, to see that nothing else feeds, than it takes to see all that does.
            if number >= max(3, draws // 4) and all(map(is_exact, changes, said, labels)):
                break
        for true, claimed, each in zip(changes, said, labels, strict=True):
            if case.claim != "passes":
                assert (claimed | ~true).all()
            if axes == (axis,):
                assert units == case.units
                assert claimed.any()
                by_channel = by_label(true, each)
                if case.claim == "passes":
                    assert (by_channel | ~claimed).all()
                if case.claim in ("exact", "positions"):
                    np.testing.assert_array_equal(claimed, by_channel)
                if case.claim == "exact":
                    # Hardly an element is fed by less than its channel is, of a few random inputs.
                    assert (claimed & ~true).sum() <= 0.1 * claimed.sum()


CALLS = [
    (f"{name}-{index}", case) for name, cases in CASES.items() for index, case in enumerate(cases)
]


@pytest.mark.parametrize("case", [case for _, case in CALLS], ids=[name for name, _ in CALLS])
def test_operations_agree_with_trying(case):
    check(case)


SEQUENCE = (1, 3, 4)
VIDEO = {1: (1, 2, 4, 3), 2: (1, 2, 4, 4, 3), 3: (1, 2, 3, 3, 3, 2)}


def pair(layer, **arguments):
    return [two(lambda x, y: layer([x, y]), **arguments)]


def volume(dimensions, size=3, channels=2):
    return (1, *(size,) * dimensions, channels)


def both_formats(name, dimensions, *arguments, units=0, claim="exact", **more):
    """A layer with the channels last, and with the channels first."""
    layer = getattr(layers, name)
    shape = volume(dimensions)
    return [
        Case(layer(*arguments, **more), shape, units=units, claim=claim),
        Case(
            layer(*arguments, data_format="channels_first", **more),
            (1, 2, *shape[1:-1]),
            units=units,
            claim=claim,
            axis=1,
        ),
    ]


def by_dimension(name, *arguments, dimensions=(1, 2, 3), **more):
    return {
        f"{name.format(d)}": both_formats(name.format(d), d, *arguments, **more) for d in dimensions
    }


def recurrent(make, shape=SEQUENCE, units=3, **arguments):
    return [
        Case(make(), shape, units=units, **arguments),
        Case(make(return_sequences=True), shape, units=units, claim="positions", **arguments),
        Case(make(return_state=True), shape, units=units, **arguments),
    ]


LAYERS = {
    "Activation": [Case(layers.Activation("gelu"), units=6)],
    **{name: [Case(getattr(layers, name)(), units=6)] for name in ("ELU", "LeakyReLU", "ReLU")},
    "PReLU": [Case(layers.PReLU(shared_axes=[1]), units=6)],
    "Softmax": [Case(layers.Softmax(), claim="passes")],
    # Mixing.
    "Dense": [
        Case(layers.Dense(5, activation="relu"), units=5),
        Case(lambda x: DENSE(ops.swapaxes(x, 1, 2)), claim="exact"),
    ],
    "EinsumDense": [
        Case(layers.EinsumDense("abc,cd->abd", (4, 5))),
        Case(layers.EinsumDense("abc,cde->abde", (4, 3, 2))),
        Case(layers.EinsumDense("abc,c->abc", (4, 6))),
    ],
    **by_dimension("Conv{}D", 5, 2, activation="tanh", units=5),
    **by_dimension("Conv{}DTranspose", 5, 2, padding="same"),
    **by_dimension("DepthwiseConv{}D", 2, dimensions=(1, 2), depth_multiplier=2),
    **by_dimension("SeparableConv{}D", 5, 2, dimensions=(1, 2)),
    "Embedding": [Case(layers.Embedding(5, 3), (1, 1), dtype="int32")],
    "ReversibleEmbedding": [
        Case(layers.ReversibleEmbedding(5, 3), (1, 1), dtype="int32"),
        Case(lambda x: REVERSIBLE(x, reverse=True), (1, 4, 3)),
    ],
    "MultiHeadAttention": [Case(lambda x: SELF_ATTENTION(x, x))],
    "GroupQueryAttention": [Case(lambda x: GROUPED(x, x))],
    "Attention": [two(lambda x, y: ATTENTION([x, y]), claim="passes")],
    "AdditiveAttention": [two(lambda x, y: ADDITIVE([x, y]), claim="passes")],
    "SpectralNormalization": [Case(layers.SpectralNormalization(layers.Dense(5)))],
    "TimeDistributed": [Case(layers.TimeDistributed(layers.Dense(5)))],
    # Recurrent layers.
    "SimpleRNN": recurrent(lambda **more: layers.SimpleRNN(3, **more)),
    "GRU": recurrent(lambda **more: layers.GRU(3, **more)),
    "LSTM": recurrent(lambda **more: layers.LSTM(3, **more)),
    "RNN": [
        *recurrent(lambda **more: layers.RNN(layers.LSTMCell(3), **more)),
        *recurrent(
            lambda **more: layers.RNN([layers.GRUCell(2), layers.LSTMCell(3)], **more), units=5
        ),
        two(lambda x, y: STATEFUL(x, initial_state=[y[:, 0]]), shape=(1, 3, 2), units=2),
    ],
    "ConvLSTM1D": recurrent(lambda **more: layers.ConvLSTM1D(3, 2, **more), VIDEO[1]),
    "ConvLSTM2D": [
        *recurrent(lambda **more: layers.ConvLSTM2D(3, 2, **more), VIDEO[2]),
        Case(
            layers.ConvLSTM2D(3, 2, data_format="channels_first"),
            (1, 2, 3, 4, 4),
            units=3,
            axis=2,
        ),
    ],
    "ConvLSTM3D": recurrent(lambda **more: layers.ConvLSTM3D(3, 2, **more), VIDEO[3])[:1],
    "Bidirectional": [
        *recurrent(lambda **more: layers.Bidirectional(layers.LSTM(3, **more)), units=6),
        *recurrent(
            lambda **more: layers.Bidirectional(layers.GRU(3, **more), merge_mode="sum"), units=6
        ),
        Case(layers.Bidirectional(layers.GRU(3), merge_mode=None), SEQUENCE, units=6),
    ],
    # Operands.
    **{
        name: pair(getattr(layers, name)())
        for name in ("Add", "Subtract", "Average", "Maximum", "Minimum", "Multiply")
    },
    "Concatenate": pair(layers.Concatenate()),
    "Dot": [
        *pair(layers.Dot((2, 2)), claim="positions"),
        *pair(layers.Dot((1, 2)), shape=(1, 4, 4), claim="positions"),
        *pair(layers.Dot((2, 1)), shape=(1, 4, 4)),
        *pair(layers.Dot(1, normalize=True), shape=(1, 4)),
    ],
    # Each channel goes on.
    **{
        name: [Case(getattr(layers, name)(*arguments))]
        for name, *arguments in [
            *(("BatchNormalization",), ("Rescaling", 2.0), ("Dropout", 0.5), ("AlphaDropout", 0.5)),
            *(("GaussianDropout", 0.5), ("GaussianNoise", 0.5), ("SpatialDropout1D", 0.5)),
            *(("ActivityRegularization",), ("Identity",), ("Masking",)),
        ]
    },
    "SpatialDropout2D": [image(layers.SpatialDropout2D(0.5))],
    "SpatialDropout3D": [Case(layers.SpatialDropout3D(0.5), volume(3))],
    "Normalization": [Case(layers.Normalization(mean=[1.0] * 6, variance=[2.0] * 6))],
    "LayerNormalization": [Case(layers.LayerNormalization(), claim="passes")],
    "GroupNormalization": [Case(layers.GroupNormalization(2), claim="passes")],
    "RMSNormalization": [Case(layers.RMSNormalization(), claim="passes")],
    "UnitNormalization": [Case(layers.UnitNormalization(), claim="passes")],
    **by_dimension("MaxPooling{}D", 2),
    **by_dimension("AveragePooling{}D", 2),
    **by_dimension("AdaptiveMaxPooling{}D", 2),
    **by_dimension("AdaptiveAveragePooling{}D", 2),
    **by_dimension("GlobalMaxPooling{}D"),
    **by_dimension("GlobalAveragePooling{}D", keepdims=True),
    **by_dimension("ZeroPadding{}D", 1, claim="positions"),
    "Cropping1D": [Case(layers.Cropping1D(1))],
    **by_dimension("Cropping{}D", 1, dimensions=(2, 3)),
    "UpSampling1D": [Case(layers.UpSampling1D(2))],
    **by_dimension("UpSampling{}D", 2, dimensions=(2, 3)),
    # Elements are moved.
    "Flatten": [
        Case(layers.Flatten()),
        image(layers.Flatten(data_format="channels_first"), axis=1),
    ],
    "Reshape": [Case(layers.Reshape((2, 12)))],
    "Permute": [Case(layers.Permute((2, 1)))],
    "RepeatVector": [Case(layers.RepeatVector(3), (1, 4))],
    # Layers made of functions and other layers.
    "Lambda": [Case(layers.Lambda(lambda x: ops.relu(x) + x[..., :1]), units=6)],
    "Pipeline": [image(layers.Pipeline([layers.Rescaling(2.0), layers.RandomFlip()]))],
    # Preparation of data.
    "CategoryEncoding": [
        *(
            Case(layers.CategoryEncoding(4, mode), shape, dtype="int32")
            for mode, shape in [
                *(("one_hot", (1, 1)), ("one_hot", (1, 3)), ("multi_hot", (1, 2))),
                ("multi_hot", (1, 5)),
            ]
        ),
        Case(layers.CategoryEncoding(4, "count"), (1, 2), dtype="int32"),
    ],
    "Discretization": [
        Case(layers.Discretization([-0.5, 0.5])),
        Case(layers.Discretization([-0.5, 0.5], output_mode="one_hot"), (1, 1)),
        Case(layers.Discretization([-0.5, 0.5], output_mode="multi_hot"), (1, 2)),
    ],
    "STFTSpectrogram": [
        Case(
            layers.STFTSpectrogram("magnitude", 4, 2, expand_dims=expand, data_format=data_format),
            (1, 16, 2) if data_format == "channels_last" else (1, 2, 16),
            axis=-1 if data_format == "channels_last" else 1,
        )
        for expand in (False, True)
        for data_format in ("channels_last", "channels_first")
    ],
    "MelSpectrogram": [
        Case(
            layers.MelSpectrogram(4, 2, sampling_rate=8, num_mel_bins=2, min_freq=0),
            (1, 16),
            claim="mean",
        )
    ],
    **{
        name: [image(getattr(layers, name)(*arguments), draw=colors)]
        for name, *arguments in [
            *(("Resizing", 3, 5), ("CenterCrop", 2, 3), ("RandomCrop", 2, 3), ("RandomFlip",)),
            *(("RandomRotation", 0.2), ("RandomTranslation", 0.2, 0.2), ("RandomZoom", 0.2)),
            *(("RandomShear", 0.2, 0.2), ("RandomPerspective",), ("RandomElasticTransform",)),
            *(("RandomBrightness", 0.2), ("RandomContrast", 0.2), ("RandomErasing",)),
            *(("RandomColorDegeneration", 0.2), ("RandomColorJitter",), ("RandomGrayscale",)),
            *(("RandomGaussianBlur",), ("RandomHue", 0.2), ("RandomInvert",), ("AugMix",)),
            *(("RandomPosterization", 4), ("RandomSaturation", 0.2), ("RandomSharpness", 0.2)),
            *(("CutMix",), ("MixUp",), ("RandAugment",), ("Solarization",)),
            ("AutoContrast",),
            ("ContrastLimitedAdaptiveHistogramEqualization",),
        ]
    },
}
DENSE = layers.Dense(5)
REVERSIBLE = layers.ReversibleEmbedding(5, 3)
REVERSIBLE.build((None, None))
SELF_ATTENTION = layers.MultiHeadAttention(2, 3)
GROUPED = layers.GroupQueryAttention(3, 4, 2)
ATTENTION = layers.Attention()
ADDITIVE = layers.AdditiveAttention()
STATEFUL = layers.GRU(2)

NO_LAYERS = words(
    """
    Input InputLayer InputSpec Layer Wrapper deserialize serialize GRUCell LSTMCell SimpleRNNCell
    StackedRNNCells add average concatenate dot maximum minimum multiply subtract
    """
)

REFUSED_LAYERS = {
    "Equalization": "Gives back its input where it does nothing, which Keras takes for a cycle.",
    "FlaxLayer": "Calls functions of JAX.",
    "JaxLayer": "Calls functions of JAX.",
    "TFSMLayer": "Calls a function of TensorFlow.",
    "TorchModuleWrapper": "Calls a module of PyTorch.",
    "MaxNumBoundingBoxes": "On dictionaries of boxes, which no model has as inputs.",
}

# Where TensorFlow is installed, `test_layers_that_need_tensorflow` tries them.
NEED_TENSORFLOW = words("Hashing HashedCrossing IntegerLookup StringLookup TextVectorization")


def test_every_layer_is_listed():
    listed = {*LAYERS, *NO_LAYERS, *REFUSED_LAYERS, *NEED_TENSORFLOW}
    known = {getattr(layers, name) for name in listed}
    missing = {
        name
        for name, x in vars(layers).items()
        if callable(x) and not name.startswith("_") and x not in known
    }
    assert missing == set()


LAYER_CALLS = [
    (f"{name}-{index}", case) for name, cases in LAYERS.items() for index, case in enumerate(cases)
]


@pytest.mark.parametrize(
    "case", [case for _, case in LAYER_CALLS], ids=[name for name, _ in LAYER_CALLS]
)
def test_layers_agree_with_trying(case):
    check(case, in_model=True)
