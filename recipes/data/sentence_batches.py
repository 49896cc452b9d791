"""Batches of sentences for training."""

import numpy as np

from data.seeded_batches import SeededBatches
from running.errors import RecipeError

# Of how many of the pairs each size of batches is the smallest or a smaller one. With these, 78 %
# of what is computed for Multi30k is no padding; the best five sizes would give 79 %.
SHARES = (0.3, 0.6, 0.85, 0.97, 1.0)


class SentenceBatches(SeededBatches):
    """Batches of sentences of similar length, of few sizes: JAX compiles for each.

    A batch is `({"source": ids, "target": ids}, labels, weights)`, each of shape `(batch_size,
    length)`. The target begins with the start token, the labels end with the end token; padding is
    0, and has weight 0. There are at most 5 lengths: multiples of 4, or `max_length`.

    Each pair comes once an epoch. A batch for which pairs are lacking is filled up with pairs of
    its own, of weight 0: rows without any token would give NaN in attention.

    Args:
        pairs: List of pairs of lists, the ids of a sentence and of its translation.
        start: Id of the start token.
        end: Id of the end token.
        batch_size: Integer.
        seed: Integer.
        max_length: Integer. Pairs with more tokens on a side, start token included, are left out.

    Attributes:
        left_out: Number of pairs that are too long.
        lengths: The lengths of batches, ascending.

    Raises:
        RecipeError: If all pairs are too long.
    """

    def __init__(self, pairs, start, end, batch_size, seed, max_length):
        fitting = [pair for pair in pairs if _tokens(pair) <= max_length]
        if not fitting:
            raise RecipeError(
                f"--max-length {max_length} is too short for each of the {len(pairs):,} pairs of "
                "sentences."
            )
        self.left_out = len(pairs) - len(fitting)
        self.batch_size = batch_size
        self._sources = [source for source, _ in fitting]
        self._targets = [[start, *target] for _, target in fitting]
        self._labels = [[*target, end] for _, target in fitting]
        tokens = np.array([_tokens(pair) for pair in fitting])
        quantiles = np.quantile(tokens, SHARES, method="higher").astype(int)
        lengths = np.unique(np.minimum(-(-quantiles // 4) * 4, max_length))
        self.lengths = [int(length) for length in lengths]
        bucket = np.searchsorted(lengths, tokens)
        self._buckets = [np.flatnonzero(bucket == i) for i in range(len(lengths))]
        super().__init__(seed)

    def draw(self, rng):
        batches = []
        for length, members in zip(self.lengths, self._buckets):
            members = rng.permutation(members)
            for first in range(0, len(members), self.batch_size):
                batches.append((length, members[first : first + self.batch_size]))
        batches = [batches[i] for i in rng.permutation(len(batches))]
        # What the first two batches have in common is fixed for Keras with TensorFlow: their
        # lengths must differ.
        for i, (length, _) in enumerate(batches):
            if length != batches[0][0]:
                batches[1], batches[i] = batches[i], batches[1]
                break
        self._batches = batches

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, index):
        length, chosen = self._batches[index]
        rows = np.resize(chosen, self.batch_size)
        source, target, labels = (
            padded([ids[row] for row in rows], length)
            for ids in (self._sources, self._targets, self._labels)
        )
        weights = (labels != 0).astype("float32")
        weights[len(chosen) :] = 0
        return {"source": source, "target": target}, labels, weights


def padded(sequences, length):
    """An array of shape `(number, length)` of ids, with 0 after each sequence.

    Raises:
        ValueError: If a sequence is longer.
    """
    array = np.zeros((len(sequences), length), "int32")
    for row, sequence in zip(array, sequences):
        if len(sequence) > length:
            raise ValueError(
                f"`length` must be that of the longest sequence or more. Received: {length}, and a "
                f"sequence of {len(sequence)}"
            )
        row[: len(sequence)] = sequence
    return array


def _tokens(pair):
    source, target = pair
    return max(len(source), len(target) + 1)
