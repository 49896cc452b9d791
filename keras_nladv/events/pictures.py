"""What the pictures for TensorBoard have in common."""

import functools

import numpy as np

try:
    from PIL import Image as Image
    from PIL import ImageDraw, ImageFont
except ImportError as error:
    raise ImportError(
        "Drawing needs the package Pillow. Install it with "
        "`pip install 'keras-nladv[tensorboard]'`."
    ) from error

# Pixels are one byte each: the lower half of the values is what is drawn, the upper half is text on
# white.
TEXT, WHITE = 128, 255
COLORS = {TEXT: (60, 60, 60), WHITE: (255,) * 3}
DARK, BRIGHT = (38, 43, 64), (255, 183, 27)

MARGIN = 12
LINE = 18
GAP = 2


def palette(colors):
    """The colors of all values of a pixel, as `Image.putpalette` wants them.

    Args:
        colors: Dict from values below `TEXT`, in order, to tuples of red, green and blue. Values in
            between get colors in between.
    """
    values, channels = zip(*(colors | COLORS).items(), strict=True)
    table = [np.interp(range(256), values, each) for each in zip(*channels, strict=True)]
    return np.stack(table, axis=1).astype("uint8").tobytes()


@functools.lru_cache(1000)
def text(line):
    """A line of text. Most of them come back each epoch, and drawing them would take longest."""
    font = _font()
    image = Image.new("L", (int(font.getlength(line)) + 8, LINE), WHITE)
    ImageDraw.Draw(image).text((0, 1), line, TEXT, font)
    return image


@functools.cache
def _font():
    return ImageFont.load_default(12)
