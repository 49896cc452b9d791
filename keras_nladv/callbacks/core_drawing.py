import numpy as np

from keras_nladv.events.pictures import BRIGHT, DARK, GAP, LINE, MARGIN, WHITE, Image, palette, text

TURN = Image.Transpose.ROTATE_270

# Pixels of units, from linear to nonlinear.
LINEAR, NONLINEAR = 0, 127
PALETTE = palette({LINEAR: DARK, NONLINEAR: BRIGHT})

HEIGHT = 320  # of the tallest layer
WIDTH = 900  # of all layers, if each of them is to be seen
LINED = 8  # Units that are not as high have no line between them: shrunk, it would be a pattern.
NAMED = 40  # more layers have no room for their names


def draw_core(activations):
    """Draws the `core_image` of a list of `keras_nladv.graph.Activation`."""
    masks = [activation.nonlinear for activation in activations]
    shares = [
        _shares(activation, mask) for activation, mask in zip(activations, masks, strict=True)
    ]
    counts = [int(mask.sum()) for mask in masks]
    title = _legend(f"{sum(counts)} of {sum(mask.size for mask in masks)} units nonlinear")
    caption = text("A column is a layer, from input to output; a cell is one of its units.")
    names, labels = [], []
    if len(activations) <= NAMED:
        names = [text(activation.name).transpose(TURN) for activation in activations]
        labels = [
            text(f"{n}/{mask.size}").transpose(TURN) for n, mask in zip(counts, masks, strict=True)
        ]

    # Units get whole pixels if there is room, parts of a pixel if not.
    highest = max(map(len, shares), default=1)
    scale = HEIGHT // highest or HEIGHT / highest
    step = int(np.clip(WIDTH // max(len(shares), 1), 6, 30))
    top = MARGIN + LINE
    bottom = top + round(scale * highest)
    below = bottom + GAP + max((label.height for label in labels), default=0)
    end = below + max((name.height for name in names), default=0)
    width = max(len(shares) * step, title.width, caption.width)
    pixels = np.full((end + LINE + MARGIN, MARGIN + width + MARGIN), WHITE, "uint8")

    for i, share in enumerate(shares):
        height = max(round(scale * len(share)), 1)
        # The mean share in each pixel, from the integral over all channels below it.
        ends = np.linspace(0, len(share), height + 1)
        integral = np.interp(ends, np.arange(len(share) + 1), np.concatenate([[0], share.cumsum()]))
        brightness = np.diff(integral) * height / len(share)
        # The root makes a single unit seen in a pixel of many.
        column = np.rint(np.sqrt(brightness.clip(0, 1)) * NONLINEAR)[::-1]
        if scale >= LINED:
            column[:: int(scale)] = WHITE
        start = (top + bottom - height) // 2
        left = MARGIN + i * step
        pixels[start : start + height, left : left + step - GAP] = column[:, None]

    image = Image.fromarray(pixels)
    image.paste(title, (MARGIN, MARGIN - GAP))
    for i, (label, name) in enumerate(zip(labels, names, strict=True)):
        left = MARGIN + i * step + (step - GAP - label.width) // 2
        image.paste(label, (left, bottom + GAP))
        image.paste(name, (left, below))
    if shares:
        image.paste(caption, (MARGIN, end + GAP))
    image.putpalette(PALETTE)
    return image


def _legend(title):
    """A line of text that says what is bright, and what is dark."""
    entries = ((NONLINEAR, text(title)), (LINEAR, text("linear")))
    image = Image.new("L", (sum(LINE + words.width for _, words in entries), LINE), WHITE)
    left = 0
    for value, words in entries:
        image.paste(value, (left, 4, left + 10, 14))
        image.paste(words, (left + LINE - GAP, 0))
        left += LINE + words.width
    return image


def _shares(activation, mask):
    """The nonlinear share of each channel."""
    shape = np.shape(getattr(activation.layer, "alpha", ()))
    return mask.reshape(-1, shape[-1] if len(shape) > 1 else mask.size).mean(axis=0)
