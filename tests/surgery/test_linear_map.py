"""`LinearMap` against the convolutions of Keras, for random geometries."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_nladv.surgery.linear_map import LinearMap


@st.composite
def maps(draw, rank, inputs, pointwise=False):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    taps = tuple(1 if pointwise else draw(st.integers(1, 3)) for _ in range(rank))
    strides = tuple(draw(st.integers(1, 2)) for _ in range(rank))
    dilation = tuple(draw(st.integers(1, 2)) if max(strides) == 1 else 1 for _ in range(rank))
    padding = st.just((0, 0)) if draw(st.booleans()) else st.tuples(*[st.integers(0, 2)] * 2)
    pads = tuple(draw(padding) for _ in range(rank))
    if draw(st.booleans()):
        groups, outputs = inputs, inputs
    else:
        groups, outputs = 1, draw(st.integers(1, 3))
    kernel = rng.normal(size=(*taps, inputs // groups, outputs))
    bias = rng.normal(size=outputs) * draw(st.booleans())
    return LinearMap(kernel, bias, groups, strides, pads, dilation)


def applied(linear, x):
    """What the definition says, position by position."""
    if linear.takes_one:
        x = np.concatenate([x, np.ones_like(x[..., :1])], axis=-1)
    linear = linear.expanded()
    x = np.pad(x, [(0, 0), *linear.pads, (0, 0)])
    sizes = [(n - e - 1) // s + 1 for n, e, s in zip(x.shape[1:-1], linear.extent, linear.strides)]
    out = np.zeros((len(x), *sizes, linear.outputs))
    for position in np.ndindex(*sizes):
        total = linear.bias + 0.0
        for tap in np.ndindex(*linear.taps):
            at = tuple(
                q * s + t * d for q, s, t, d in zip(position, linear.strides, tap, linear.dilation)
            )
            total = total + x[(slice(None), *at)] @ linear.kernel[tap]
        out[(slice(None), *position)] = total
    return out


@settings(max_examples=60)
@given(st.data())
def test_one_after_the_other(data):
    rank = data.draw(st.integers(0, 2))
    inputs = data.draw(st.integers(1, 3))
    first = data.draw(maps(rank, inputs, pointwise=data.draw(st.booleans())))
    second = data.draw(maps(rank, first.outputs))
    # Both kernels have room in it: 5 taps wide at most, or 3 and every other position.
    x = np.random.default_rng(0).normal(size=(2, *[data.draw(st.integers(11, 13))] * rank, inputs))
    between = applied(first, x)
    expected = applied(second, between)
    if first.joins(second):
        # Refused for a reason: merged all the same, it would differ or could.
        assert second.is_padded
        assert not first.is_pointwise or first.is_padded
        return
    merged = first.then(second)
    np.testing.assert_allclose(applied(merged, x), expected, rtol=1e-9, atol=1e-9)
    assert merged.sizes(x.shape[1:-1]) == expected.shape[1:-1]


@settings(max_examples=60)
@given(st.data())
def test_sums(data):
    rank = data.draw(st.integers(0, 2))
    inputs = data.draw(st.integers(1, 3))
    first = data.draw(maps(rank, inputs))
    second = data.draw(maps(rank, inputs))
    x = np.random.default_rng(0).normal(size=(2, *[data.draw(st.integers(6, 9))] * rank, inputs))
    a, b = applied(first, x), applied(second, x)
    if first.strides != second.strides:
        with pytest.raises(ValueError, match="strides"):
            first.plus(second)
    elif a.shape == b.shape:
        np.testing.assert_allclose(applied(first.plus(second), x), a + b, rtol=1e-9, atol=1e-9)


def test_borders_are_why():
    first = LinearMap(np.ones((3, 3, 1, 1)), np.zeros(1), 1, (1, 1), ((1, 1),) * 2, (1, 1))
    assert "borders" in first.joins(first)
    wrong, x = first.then(first), np.ones((1, 5, 5, 1))
    right = applied(first, applied(first, x))
    np.testing.assert_allclose(applied(wrong, x)[:, 1:-1, 1:-1], right[:, 1:-1, 1:-1])
    assert np.abs(applied(wrong, x) - right).max() > 1


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("size", [7, 8])
def test_what_keras_pads(size, strides):
    layer = keras.layers.Conv1D(2, 4, strides=strides, padding="same")
    x = np.random.default_rng(0).normal(size=(2, size, 3)).astype("float32")
    expected = keras.ops.convert_to_numpy(layer(x))
    kernel, bias = layer.get_weights()
    pads = LinearMap(kernel, bias, 1, (strides,), ((0, 0),), (1,)).same_pads((size,))
    linear = LinearMap(kernel, bias, 1, (strides,), pads, (1,))
    np.testing.assert_allclose(applied(linear, x), expected, rtol=1e-4, atol=1e-5)
