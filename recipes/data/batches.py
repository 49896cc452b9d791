"""Batches of images for training."""

import math

import numpy as np

from data.images import MIRRORED
from data.seeded_batches import SeededBatches


class Batches(SeededBatches):
    """Batches of images, in an order and with an augmentation.

    The images that are left when all batches are full wait for another epoch.

    Args:
        images: Array of shape (number, height, width, channels).
        labels: Integer array of shape (number,).
        batch_size: Integer.
        seed: Integer.
        shift: Boolean. Whether to shift the images by up to 1/8 of their size.
        mirror: Boolean. Whether to mirror half of them.
    """

    def __init__(self, images, labels, batch_size, seed, shift=False, mirror=False):
        self.images = images
        self.labels = labels
        self.batch_size = batch_size
        self.shift = shift
        self.mirror = mirror
        super().__init__(seed)

    def draw(self, rng):
        self._order = rng.permutation(len(self.labels))

    def __len__(self):
        return len(self.labels) // self.batch_size

    def __getitem__(self, index):
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        images = self.images[chosen]
        rng = np.random.default_rng([self.seed, self.epoch, index])
        if self.shift:
            images = _shifted(images, rng)
        if self.mirror:
            mirrored = rng.random(len(images)) < 0.5
            images[mirrored] = images[mirrored, :, ::-1]
        # At the end: less is moved about before.
        return images.astype("float32"), self.labels[chosen]


def batches_of(data, batch_size, seed, augment=False):
    """Batches of the images to train on.

    Args:
        data: The `Images`.
        batch_size: Integer.
        seed: Integer.
        augment: Boolean. Whether to shift them, and to mirror what shows the same in a mirror.
    """
    mirror = augment and data.name in MIRRORED
    return Batches(data.x_train, data.y_train, batch_size, seed, shift=augment, mirror=mirror)


def _shifted(images, rng):
    number, height, width, channels = images.shape
    dy, dx = height // 8, width // 8
    padded = np.zeros((number, height + 2 * dy, width + 2 * dx, channels), images.dtype)
    padded[:, dy : dy + height, dx : dx + width] = images
    rows = rng.integers(0, 2 * dy + 1, number)
    columns = rng.integers(0, 2 * dx + 1, number)
    # Copied by lines of pixels.
    windows = np.lib.stride_tricks.sliding_window_view(
        padded.reshape(number, height + 2 * dy, -1), (height, width * channels), axis=(1, 2)
    )
    return windows[np.arange(number), rows, columns * channels].reshape(images.shape)


def even_batch_size(number, devices=1):
    """Batches of one size, if possible, of at most 512: JAX compiles for each size.

    On several devices, whose number divides that of examples, it divides the size, too.
    """
    if devices == 1:
        return math.ceil(number / math.ceil(number / 512))
    share = number // devices
    return devices * max(d for d in range(1, max(512 // devices, 1) + 1) if share % d == 0)
