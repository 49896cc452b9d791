import numpy as np

from keras_nladv.events.pictures import BRIGHT, DARK, LINE, MARGIN, WHITE, Image, palette, text

BLUE = (70, 150, 255)
PALETTE = palette({0: BLUE, 64: DARK, 127: BRIGHT})

SIDE = 320


def draw_gram(kernel):
    """Draws a kernel as a square: bright for positive, blue for negative, dark for 0.

    Args:
        kernel: Array of shape `(n, n)`.

    Returns:
        A `PIL.Image.Image`.
    """
    largest = np.abs(kernel).max()
    title = text(f"{len(kernel)} inputs, {kernel.min():.3g} to {kernel.max():.3g}")
    # Of a training that diverged there is nothing to be seen.
    relative = kernel / largest if np.isfinite(largest) and largest > 0 else np.zeros_like(kernel)
    values = np.where(relative > 0, 64 + 63 * relative, 64 + 64 * relative)
    # Inputs get whole pixels if there is room, parts of a pixel if not.
    side = len(kernel) * (SIDE // len(kernel)) or SIDE
    square = Image.fromarray(values.astype("float32")).resize((side, side), Image.Resampling.BOX)

    height, width = MARGIN + LINE + side + MARGIN, MARGIN + max(side, title.width) + MARGIN
    pixels = np.full((height, width), WHITE, "uint8")
    pixels[MARGIN + LINE :, MARGIN:][:side, :side] = np.rint(np.asarray(square))
    image = Image.fromarray(pixels)
    image.paste(title, (MARGIN, MARGIN - 2))
    image.putpalette(PALETTE)
    return image
