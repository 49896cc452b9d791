import keras
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from data.batches import Batches

pytestmark = pytest.mark.once

IMAGES = np.random.default_rng(0).integers(1, 255, (50, 16, 24, 3)).astype("uint8")
LABELS = np.arange(50)


def epoch(batches):
    images, labels = zip(*(batches[i] for i in range(len(batches))), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def test_order_depends_on_seed_and_epoch_alone():
    batches = Batches(IMAGES, LABELS, 8, seed=1)
    assert len(batches) == 6
    images, first = epoch(batches)
    assert images.dtype == "float32"
    assert len(set(first)) == 48
    assert_array_equal(images, IMAGES[first])
    batches.start(1)
    assert (first != epoch(batches)[1]).any()
    batches.start(0)
    assert_array_equal(first, epoch(batches)[1])
    assert (epoch(Batches(IMAGES, LABELS, 8, seed=2))[1] != first).any()


def test_augmentation():
    plain, labels = epoch(Batches(IMAGES, LABELS, 10, seed=1))
    shifted, same = epoch(Batches(IMAGES, LABELS, 10, seed=1, shift=True))
    assert_array_equal(labels, same)
    moves = set()
    for image, original in zip(shifted, plain, strict=True):
        padded = np.pad(original, ((2, 2), (3, 3), (0, 0)))
        found = [
            (y, x)
            for y in range(5)
            for x in range(7)
            if np.array_equal(image, padded[y : y + 16, x : x + 24])
        ]
        assert len(found) == 1
        moves.update(found)
    assert len(moves) > 15

    mirrored, same = epoch(Batches(IMAGES, LABELS, 10, seed=1, mirror=True))
    assert_array_equal(labels, same)
    turned = [not np.array_equal(a, b) for a, b in zip(mirrored, plain, strict=True)]
    assert 15 < sum(turned) < 35
    assert_array_equal(mirrored[turned], plain[turned][:, :, ::-1])


def test_training_sees_the_order_of_each_epoch():
    seen = []

    class Recorded(Batches):
        def __getitem__(self, index):
            seen.append((self.epoch, index))
            return super().__getitem__(index)

    model = keras.Sequential([keras.Input((16, 24, 3)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(50))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = Recorded(IMAGES, LABELS, 16, seed=0)
    callbacks = [batches.epochs()]
    model.fit(batches, initial_epoch=3, epochs=6, shuffle=False, callbacks=callbacks, verbose=0)
    # What is drawn to learn the shapes comes first.
    assert seen[-9:] == [(epoch, index) for epoch in (3, 4, 5) for index in range(3)]
