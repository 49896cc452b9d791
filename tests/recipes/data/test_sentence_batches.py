import re
from collections import Counter

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from data.sentence_batches import SentenceBatches, padded
from running.errors import RecipeError

pytestmark = pytest.mark.once

START, END = 2, 3


def make_pairs(lengths):
    """Pairs of sentences of these lengths; each begins with a token of its own."""
    return [
        ([4 + i] + [4] * (s - 1), [4 + i] * bool(t) + [5] * (t - 1))
        for i, (s, t) in enumerate(lengths)
    ]


def make_batches(pairs, batch_size=4, seed=1, max_length=30):
    return SentenceBatches(pairs, START, END, batch_size, seed, max_length)


def all_of(batches):
    return [batches[i] for i in range(len(batches))]


def pairs_of(batches, batch_size=4):
    """The pairs that count in an epoch, as they were given."""
    found = []
    for inputs, labels, weights in all_of(batches):
        source, target = inputs["source"], inputs["target"]
        assert {array.shape for array in (source, target, labels, weights)} == {source.shape}
        assert {array.dtype for array in (source, target, labels)} == {np.dtype("int32")}
        assert weights.dtype == "float32"
        assert len(source) == batch_size
        assert source.shape[1] in batches.lengths
        for s, t, label, w in zip(source, target, labels, weights, strict=True):
            tokens = int((label != 0).sum())
            s = s[s != 0]
            assert len(s) > 0
            assert t[0] == START
            assert label[tokens - 1] == END
            # The target, moved by one, is what the labels are.
            assert_array_equal(t[1:tokens], label[: tokens - 1])
            assert not t[tokens:].any()
            assert not label[tokens:].any()
            if w.any():
                assert_array_equal(w, np.arange(len(w)) < tokens)
                found.append((s.tolist(), label[: tokens - 1].tolist()))
    return found


LENGTHS = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 40)), min_size=1, max_size=60)


@hypothesis.given(LENGTHS, st.integers(1, 9), st.integers(41, 60))
def test_each_pair_counts_once_an_epoch(lengths, batch_size, max_length):
    pairs = make_pairs(lengths)
    batches = make_batches(pairs, batch_size, max_length=max_length)
    assert batches.left_out == 0
    assert 1 <= len(batches.lengths) <= 5
    for length in batches.lengths:
        assert length % 4 == 0 or length == max_length
    for epoch in (0, 1):
        batches.start(epoch)
        assert sorted(pairs_of(batches, batch_size)) == sorted(pairs)
        # Each length has at most one batch that is not full.
        lacking = [i["source"].shape[1] for i, _, w in all_of(batches) if not w.any(axis=1).all()]
        assert max(Counter(lacking).values(), default=0) <= 1


@hypothesis.given(LENGTHS, st.integers(1, 9), st.integers(0, 5))
def test_the_first_two_batches_differ_in_length(lengths, batch_size, epoch):
    batches = make_batches(make_pairs(lengths), batch_size, max_length=41)
    batches.start(epoch)
    seen = [inputs["source"].shape[1] for inputs, _, _ in all_of(batches)]
    assert set(seen) == set(batches.lengths)
    assert len(seen) == 1 or seen[0] != seen[1] or len(set(seen)) == 1


@hypothesis.given(LENGTHS, st.integers(1, 40))
def test_long_pairs_are_left_out(lengths, max_length):
    pairs = make_pairs(lengths)
    fitting = [pair for pair in pairs if len(pair[0]) <= max_length and len(pair[1]) < max_length]
    if not fitting:
        with pytest.raises(RecipeError, match=f"--max-length {max_length} is too short for each"):
            make_batches(pairs, max_length=max_length)
        return
    batches = make_batches(pairs, max_length=max_length)
    assert batches.left_out == len(pairs) - len(fitting)
    assert batches.lengths[-1] <= max_length
    assert sorted(pairs_of(batches)) == sorted(fitting)


RNG = np.random.default_rng(0)
PAIRS = make_pairs(np.clip(RNG.lognormal(2, 0.5, (300, 2)), 1, 29).astype(int).tolist())


def test_order_depends_on_seed_and_epoch_alone():
    batches = make_batches(PAIRS)
    first = pairs_of(batches)
    batches.start(1)
    second = pairs_of(batches)
    assert sorted(first) == sorted(second)
    assert first != second
    # Not only the batches come in another order: they are of other pairs.
    assert set(map(str, np.array_split(first_of(first), 75))).isdisjoint(
        map(str, np.array_split(first_of(second), 75))
    )
    batches.start(0)
    assert pairs_of(batches) == first
    again = make_batches(PAIRS)
    again.start(1)
    assert pairs_of(again) == second
    assert pairs_of(make_batches(PAIRS, seed=2)) != first


def first_of(pairs):
    return [source[0] for source, _ in pairs]


def test_batches_are_of_similar_lengths():
    batches = make_batches(PAIRS, batch_size=8)
    assert len(batches.lengths) == 5
    tokens, places = 0, 0
    for inputs, _, _ in all_of(batches):
        for ids in inputs.values():
            tokens += (ids != 0).sum()
            places += ids.size
    # Padded to the longest it would be 40 %.
    assert tokens > 0.6 * places


def test_filling_up():
    [batch] = all_of(make_batches(make_pairs([(3, 2), (1, 3), (2, 2)]), batch_size=5))
    inputs, labels, weights = batch
    assert inputs["source"].shape == (5, 4)
    assert weights.sum(axis=1).tolist()[3:] == [0, 0]
    for ids in (*inputs.values(), labels):
        assert_array_equal(ids[3:], ids[:2])


def test_training_sees_the_order_of_each_epoch():
    seen = []

    class Recorded(SentenceBatches):
        def __getitem__(self, index):
            seen.append((self.epoch, index))
            return super().__getitem__(index)

    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("source", "target")}
    x = sum(keras.layers.Embedding(400, 4)(ids) for ids in inputs.values())
    model = keras.Model(inputs, keras.layers.Dense(400)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, weighted_metrics=["accuracy"])
    # Most batches are of one length; with TensorFlow, Keras must learn that there are others.
    pairs = make_pairs([(5, 6)] * 300 + [(25, 26)] * 30)
    batches = Recorded(pairs, START, END, batch_size=16, seed=0, max_length=30)
    assert batches.lengths == [8, 28]
    callbacks = [batches.epochs()]
    history = model.fit(
        batches, initial_epoch=3, epochs=5, shuffle=False, callbacks=callbacks, verbose=0
    )
    # What is drawn to learn the shapes comes first.
    number = len(batches)
    assert seen[-2 * number :] == [(epoch, index) for epoch in (3, 4) for index in range(number)]
    assert np.isfinite(history.history["loss"]).all()
    model.evaluate(batches, verbose=0)


def test_padded():
    array = padded([[5, 6], [], [7, 8, 9]], 4)
    assert array.dtype == "int32"
    assert_array_equal(array, [[5, 6, 0, 0], [0, 0, 0, 0], [7, 8, 9, 0]])
    assert padded([], 3).shape == (0, 3)
    message = "Received: 2, and a sequence of 3"
    with pytest.raises(ValueError, match=re.escape(message)):
        padded([[1], [1, 2, 3]], 2)
