"""`LinearMap` against the convolutions of Keras, for random geometries."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_nladv.merging.linear_map import LinearMap

pytestmark = pytest.mark.once


@st.composite
def maps(draw, rank, inputs, pointwise=False):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    taps = tuple(1 if pointwise else draw(st.integers(1, 3)) for _ in range(rank))
    strides = tuple(draw(st.integers(1, 2)) for _ in range(rank))
    dilation = tuple(draw(st.integers(1, 2)) if max(strides) == 1 else 1 for _ in range(rank))
    padding = st.just((0, 0)) if draw(st.booleans()) else st.tuples(*[st.integers(0, 2)] * 2)
    pads = tuple(draw(padding) for _ in range(rank))
    groups = draw(st.sampled_from([n for n in range(1, inputs + 1) if inputs % n == 0]))
    outputs = draw(st.integers(1, 3))
    kernel = rng.normal(size=(*taps, groups, inputs // groups, outputs))
    bias = rng.normal(size=groups * outputs) * draw(st.booleans())
    return LinearMap.of(kernel, bias, pads, strides, dilation)


def applied(linear, x):
    """What the definition says, position by position."""
    if linear.takes_one:
        x = np.concatenate([x, np.ones_like(x[..., :1])], axis=-1)
    x = np.pad(x, [(0, 0), *linear.pads, (0, 0)])
    sizes = [(n - e - 1) // s + 1 for n, e, s in zip(x.shape[1:-1], linear.extent, linear.strides)]
    out = np.zeros((len(x), *sizes, linear.outputs))
    for position in np.ndindex(*sizes):
        total = linear.bias + 0.0
        for tap in np.ndindex(*linear.taps):
            at = tuple(
                q * s + t * d for q, s, t, d in zip(position, linear.strides, tap, linear.dilation)
            )
            parts = np.split(x[(slice(None), *at)], linear.groups, axis=-1)
            mixed = [part @ kernel for part, kernel in zip(parts, linear.kernel[tap])]
            total = total + np.concatenate(mixed, axis=-1)
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


@settings(max_examples=30)
@given(st.data(), st.booleans())
def test_factors(data, takes_one):
    linear = data.draw(maps(data.draw(st.integers(0, 2)), data.draw(st.sampled_from([1, 2, 4]))))
    rng = np.random.default_rng(0)
    if takes_one and linear.groups == 1 and linear.inputs > 1:
        linear = replace(linear, takes_one=True)
    before, after = rng.normal(size=linear.inputs), rng.normal(size=linear.outputs)
    x = rng.normal(size=(2, *[9] * linear.rank, linear.inputs))
    expected = after * applied(linear, before * x)
    np.testing.assert_allclose(applied(linear.scaled(before, after), x), expected, rtol=1e-9)
    np.testing.assert_allclose(applied(linear.scaled(), x), applied(linear, x), rtol=1e-9)


@settings(max_examples=60)
@given(st.data())
def test_some_of_the_channels(data):
    """As many of each group, or whole groups of a depthwise convolution."""
    linear = data.draw(maps(data.draw(st.integers(0, 2)), data.draw(st.sampled_from([3, 4, 6]))))
    *_, groups, rows, columns = linear.shape

    def some(size):
        kept = data.draw(st.integers(1, size))
        parts = [data.draw(st.permutations(range(size))) for _ in range(groups)]
        return np.ravel(np.array(parts) < kept)

    if linear.is_depthwise:
        inputs = np.arange(groups) % 2 == 0
        outputs = np.repeat(inputs, columns)
        some_of_it = linear.restricted(inputs=inputs, outputs=outputs)
        assert some_of_it.groups == inputs.sum()
    else:
        inputs, outputs = some(rows), some(columns)
        some_of_it = linear.restricted(inputs, outputs)
        assert some_of_it.groups == groups
    x = np.random.default_rng(0).normal(size=(2, *[9] * linear.rank, linear.inputs))
    expected = applied(linear, np.where(inputs, x, 0.0))[..., outputs]
    np.testing.assert_allclose(applied(some_of_it, x[..., inputs]), expected, rtol=1e-9, atol=1e-9)
    assert some_of_it.kernel.shape == some_of_it.shape


def test_fewer_groups():
    linear = LinearMap.of(np.random.default_rng(0).normal(size=(2, 6, 2, 3)), np.arange(18.0))
    x = np.random.default_rng(1).normal(size=(2, 5, 12))
    for groups in (6, 3, 2, 1):
        other = linear.regrouped(groups)
        assert other.kernel.shape == other.shape
        assert (other.groups, other.inputs, other.outputs) == (groups, 12, 18)
        np.testing.assert_allclose(applied(other, x), applied(linear, x))


@pytest.mark.parametrize("widths", [(5, 3, 2), (2, 3, 5)])
def test_numbers_are_computed_on_demand(widths):
    asked = []

    def matrix(inputs, outputs):
        known = LinearMap.of(np.ones((1, inputs, outputs)), np.ones(outputs))
        return replace(known, compute=lambda: asked.append(outputs) or (known.kernel, known.bias))

    merged = matrix(4, widths[0]).then(matrix(widths[0], widths[1])).then(matrix(*widths[1:]))
    assert merged.shape == (1, 4, widths[2])
    assert asked == []
    for _ in range(2):
        np.testing.assert_array_equal(merged.kernel, widths[0] * widths[1])
    assert sorted(asked) == sorted(widths)


def test_what_is_lost_in_int8():
    """With a scale for each output, also where there is nothing; the constant channel is apart."""
    kernel = np.random.default_rng(0).normal(size=(3, 2, 4, 5))
    kernel[:, 0, :, 1] = 0
    lost = np.zeros(kernel.shape)
    for group, output in np.ndindex(2, 5):
        part = kernel[:, group, :, output]
        scale = np.abs(part).max() / 127 or 1.0
        lost[:, group, :, output] = np.round(part / scale) * scale - part
    expected = np.linalg.norm(lost) / np.linalg.norm(kernel)
    assert LinearMap.of(kernel, np.zeros(10)).lost_in_int8 == pytest.approx(expected)
    assert LinearMap.of(0 * kernel, np.zeros(10)).lost_in_int8 == 0
    with_bias, without = (LinearMap.of(kernel[:1], bias * np.ones(10)) for bias in (9, 0))
    assert with_bias.with_one().lost_in_int8 == pytest.approx(without.lost_in_int8)


def test_sums_have_no_more_taps_than_are_needed():
    """As many positions apart as the taps of both allow, not those of kernels that have one."""
    x = np.random.default_rng(0).normal(size=(1, 9, 1))
    for (taps, apart, pads), other, expected in (
        ((2, 3, (2, 2)), (1, 0), ((4,), (1,))),
        ((2, 2, (1, 2)), (0, 1), ((3,), (1,))),
        ((3, 2, (2, 2)), (0, 0), ((3,), (2,))),
    ):
        wide = LinearMap.of(np.ones((taps, 1, 1, 1)), np.ones(1), (pads,), dilation=(apart,))
        shortcut = LinearMap.of(np.ones((1, 1, 1, 1)), np.ones(1), (other,))
        for total in (wide.plus(shortcut), shortcut.plus(wide)):
            assert (total.taps, total.dilation) == expected
            np.testing.assert_allclose(applied(total, x), applied(wide, x) + applied(shortcut, x))
    point = LinearMap.of(np.ones((1, 1, 1, 1)), np.ones(1))
    assert wide.then(point).dilation == point.then(wide).dilation == (2,)
    assert wide.then(wide).taps == (5,)


@pytest.mark.parametrize(
    ("shape", "kinds"),
    [
        ((1, 1, 4, 1, 1), "depthwise diagonal pointwise matrix scale"),
        ((1, 1, 4, 1, 2), "depthwise pointwise matrix"),
        ((1, 3, 4, 1, 1), "depthwise diagonal"),
        ((3, 1, 4, 1, 2), "depthwise"),
        ((1, 1, 1, 4, 1), "pointwise matrix"),
        ((1, 3, 2, 2, 1), ""),
        ((4, 1, 2), "depthwise pointwise matrix"),
        ((4, 2, 1), "pointwise matrix"),
    ],
)
def test_kinds_of_maps(shape, kinds):
    def kinds_of(linear):
        names = ("depthwise", "diagonal", "pointwise", "matrix", "scale")
        return " ".join(name for name in names if getattr(linear, f"is_{name}"))

    linear = LinearMap.of(np.ones(shape), np.ones(shape[-3] * shape[-1]))
    assert kinds_of(linear) == kinds
    assert not linear.is_padded
    # As a scale, a strided or padded map is none that costs nothing.
    less = kinds.replace(" matrix", "").replace(" scale", "")
    for axis in range(linear.rank):
        pads = tuple((0, int(each == axis)) for each in range(linear.rank))
        strides = tuple(1 + (each == axis) for each in range(linear.rank))
        for change in ({"pads": pads}, {"strides": strides}):
            other = replace(linear, **change)
            assert kinds_of(other) == less
            assert other.is_padded == ("pads" in change)


@pytest.mark.parametrize(("strides", "dilation"), [((1, 1), (2, 1)), ((2, 1), (1, 1))])
def test_what_the_constant_channel_comes_to(strides, dilation):
    """Wherever the kernel reaches beyond the border, also by different taps along each axis."""
    kernel = np.random.default_rng(0).normal(size=(3, 2, 1, 3, 2))
    pads = ((2, 1), (0, 1))
    linear = replace(LinearMap.of(kernel, np.ones(2), pads, strides, dilation), takes_one=True)
    main, constant = linear.without_one()
    assert (linear.inputs, main.inputs) == (2, 2)
    assert (main.is_biased, constant.is_biased) == (True, False)
    x = np.random.default_rng(1).normal(size=(2, 7, 6, 2))
    border = constant.border((7, 6))
    assert border.shape == applied(linear, x).shape[1:]
    np.testing.assert_allclose(applied(main, x) + border, applied(linear, x))
    # It stays beside some of the channels.
    some = linear.restricted(np.array([True, False]))
    expected = applied(linear, np.where([True, False], x, 0.0))
    np.testing.assert_allclose(applied(some, x[..., :1]), expected)
    matrix = LinearMap.of(np.ones((1, 1, 2, 3)), np.arange(3.0))
    for with_one in (matrix.with_one(), matrix.with_one().with_one()):
        assert (with_one.is_biased, with_one.shape) == (False, (1, 1, 3, 3))
        np.testing.assert_allclose(applied(with_one, x[:, 0]), applied(matrix, x[:, 0]))


def test_borders_are_why():
    first = LinearMap.of(np.ones((3, 3, 1, 1, 1)), np.zeros(1), ((1, 1), (1, 1)))
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
    linear = LinearMap.of(kernel[:, None], bias, strides=(strides,))
    linear = replace(linear, pads=linear.same_pads((size,)))
    np.testing.assert_allclose(applied(linear, x), expected, rtol=1e-4, atol=1e-5)
