import time
import types

import keras
import numpy as np
import pytest

from keras_nladv import SparsePReLU, core_image
from keras_nladv.callbacks import core_drawing
from keras_nladv.callbacks.core_drawing import HEIGHT
from keras_nladv.events.pictures import BRIGHT, COLORS, DARK, LINE, MARGIN

WHITE = COLORS[255]


def constant(slopes):
    return lambda shape, dtype: keras.ops.cast(np.reshape(slopes, shape), dtype)


def make_model(*slopes, **kwargs):
    """A chain of activations with the slopes given."""
    x = inputs = keras.Input((len(slopes[0]),))
    for each in slopes:
        x = keras.layers.Dense(len(each))(x)
        x = SparsePReLU(alpha_initializer=constant(each), **kwargs)(x)
    return keras.Model(inputs, x)


def draw(model):
    return np.asarray(core_image(model).convert("RGB")).astype(int)


def colors(pixels, layer, layers, units, highest):
    """The color in the middle of each unit, from the bottom to the top."""
    step = min(900 // layers, 30)
    scale = HEIGHT // highest
    middle = MARGIN + LINE + scale * highest / 2
    x = MARGIN + layer * step + step // 2 - 1
    ys = [int(middle + scale * (units / 2 - unit - 0.5)) for unit in range(units)]
    return [tuple(pixels[y, x]) for y in ys]


def test_units_are_where_they_belong():
    slopes = [[0, 1, 1, 0.5, 1, 0], [1, 0, 0.995], [0.2] * 6]
    pixels = draw(make_model(*slopes))
    for layer, each in enumerate(slopes):
        expected = [BRIGHT if abs(1 - slope) >= 0.01 else DARK for slope in each]
        assert colors(pixels, layer, 3, len(each), 6) == expected
    legend = [tuple(color) for color in pixels[MARGIN + LINE // 2]]
    assert legend.index(BRIGHT) < legend.index(DARK)
    assert (pixels[-MARGIN - LINE : -MARGIN] < 255).any()  # What columns and cells are.
    # Nothing above and below the layer of 3 units, which is centered.
    assert tuple(pixels[MARGIN + LINE + 40, MARGIN + 30 + 10]) == WHITE
    assert tuple(pixels[MARGIN + LINE + 280, MARGIN + 30 + 10]) == WHITE


@pytest.mark.parametrize("channels", [600, 2048])
def test_units_smaller_than_a_pixel(channels):
    slopes = np.ones(channels)
    slopes[channels // 4] = 0
    column = draw(make_model(slopes))[MARGIN + LINE : MARGIN + LINE + HEIGHT, MARGIN + 5]
    (seen,) = np.nonzero((column != DARK).any(axis=1))
    # One quarter up; it may fall into two pixels.
    assert 1 <= len(seen) <= 2
    assert abs(seen.mean() - 0.75 * HEIGHT) <= 1.5
    # Still half as bright as a pixel of nonlinear units.
    assert column[seen].max() > 0.4 * max(BRIGHT)


def test_slope_for_each_element():
    slopes = np.ones((2, 3, 4))
    slopes[..., 1] = 0  # A channel of which every unit is nonlinear,
    slopes[0, :, 2] = 0  # and one of which half are.
    layer = SparsePReLU(granularity="element", alpha_initializer=constant(slopes))
    pixels = draw(keras.Sequential([keras.Input((2, 3, 4)), layer]))
    first, second, third, fourth = colors(pixels, 0, 1, 4, 4)
    assert (first, second, fourth) == (DARK, BRIGHT, DARK)
    assert DARK[0] < third[0] < BRIGHT[0]


def test_one_slope_for_a_layer():
    model = make_model([1.0], [0.0], granularity="layer")
    pixels = draw(model)
    assert colors(pixels, 0, 2, 1, 1) == [DARK]
    assert colors(pixels, 1, 2, 1, 1) == [BRIGHT]


def test_fixed_activations_are_nonlinear():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "relu")])
    assert colors(draw(model), 0, 1, 3, 3) == [BRIGHT] * 3


def test_model_without_activations():
    pixels = draw(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]))
    # Only the title.
    assert (pixels[: MARGIN + LINE] < 255).any()
    assert (pixels[MARGIN + LINE :] == 255).all()


def activations(layers, channels):
    activation = types.SimpleNamespace(
        name="activation", layer=None, nonlinear=np.arange(channels) % 7 == 0
    )
    return [activation] * layers


@pytest.mark.parametrize(("layers", "channels"), [(40, 8), (41, 8), (109, 64), (200, 3)])
def test_size(layers, channels):
    image = core_drawing.draw_core(activations(layers, channels))
    assert layers * 6 < image.width < 1300
    named = layers <= 40
    assert (image.height > 420) == named


def test_large_networks_are_drawn_quickly():
    large = activations(110, 2048)
    start = time.process_time()
    core_drawing.draw_core(large)
    assert time.process_time() - start < 0.5


def test_subclassed_model():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match=r"Functional or Sequential"):
        core_image(Subclassed())


def test_notebook_shows_it():
    assert core_image(make_model([0.0, 1.0]))._repr_png_().startswith(b"\x89PNG")
