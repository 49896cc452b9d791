"""How many examples a second the recipes' batches alone make, in one process.

    KERAS_BACKEND=jax python benchmarks/pipeline.py

Images are 32 x 32 x 3, shifted and mirrored, in batches of 128. Sentences have about the lengths of
Multi30k, in batches of 64 pairs. Medians over epochs, after a first one.
"""

import statistics
import sys
import time
from pathlib import Path

import numpy as np

import measuring

RECIPES = Path(__file__).parents[1] / "recipes"
EPOCHS = 5


def per_second(batches, number):
    """Examples a second: the median over epochs, and the range."""
    rates = []
    for epoch in range(EPOCHS + 1):
        batches.start(epoch)
        start = time.perf_counter()
        for index in range(len(batches)):
            batches[index]
        rates.append(number / (time.perf_counter() - start))
    rates = rates[1:]
    return f"{statistics.median(rates):9,.0f} a second ({min(rates):,.0f} to {max(rates):,.0f})"


sys.path.insert(0, str(RECIPES))

from data.batches import Batches
from data.sentence_batches import SentenceBatches

print(measuring.setting())
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (20_000, 32, 32, 3)).astype("uint8")
batches = Batches(images, rng.integers(0, 10, len(images)), 128, seed=0, shift=True, mirror=True)
print("images, augmented ", per_second(batches, len(batches) * 128))

lengths = np.clip(rng.normal(13, 4, (10_000, 2)).astype(int), 4, 40)
pairs = [tuple(rng.integers(4, 8000, size).tolist() for size in sizes) for sizes in lengths]
batches = SentenceBatches(pairs, start=2, end=3, batch_size=64, seed=0, max_length=48)
print("pairs of sentences", per_second(batches, len(pairs)))
