import itertools

import keras
import numpy as np
import pytest

from keras_nladv import SparsePReLU, collapse, path_length
from networks.decoding import Decoding
from networks.translator import translator
from tests.cases import once

LENGTH = 9


def small(layers=2, **options):
    options = {"dim": 8, "heads": 2, "ffn_dim": 12, "dropout": 0.1, **options}
    model = translator(20, LENGTH, layers=layers, **options)
    # As they are at first, logits are all alike, and biases of 0 would hide faults.
    rng = np.random.default_rng(4)
    for weight in model.weights:
        if weight.path.endswith(("bias", "kernel", "embeddings")):
            weight.assign(rng.normal(size=weight.shape))
    # Some of the sentences end before they are as long as can be.
    embedding = model.get_layer("embedding").embeddings
    vectors = np.array(keras.ops.convert_to_numpy(embedding))
    vectors[3] = 1.1 * vectors[17]
    embedding.assign(vectors)
    return model


def units(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, SparsePReLU)]


SOURCE = np.array([[4, 5, 6, 7, 8, 9], [10, 11, 0, 0, 0, 0], [12, 13, 14, 15, 0, 0]], "int32")


def step_by_step(model, source, beam):
    """The most likely translations, found by comparing all continuations at each step."""
    rows = np.repeat(source, beam, axis=0)
    beams = [[((2,), 0.0)] for _ in source]
    for length in range(1, LENGTH):
        target = np.zeros((len(rows), LENGTH), "int32")
        for row, found in enumerate(beams):
            for number, (tokens, _) in enumerate(found):
                target[row * beam + number, :length] = tokens
        # All at once, which takes no other calls than one of them.
        outputs = model({"source": rows, "target": target}, training=False)
        logs = keras.ops.convert_to_numpy(outputs)[:, length - 1]
        for row, found in enumerate(beams):
            longer = []
            for (tokens, score), log in zip(found, logs[row * beam :]):
                if 3 in tokens:
                    longer.append(((*tokens, 0), score))
                else:
                    longer += [((*tokens, token), score + log[token]) for token in range(20)]
            beams[row] = sorted(longer, key=lambda each: -each[1])[:beam]
    return np.array([found[0][0] for found in beams])


def assert_decoded_right(decoding, model, beam):
    actual = np.asarray(decoding.predict_on_batch(SOURCE))
    ended = np.cumsum(actual == 3, axis=1) - (actual == 3) > 0
    expected = step_by_step(model, SOURCE, beam)
    np.testing.assert_array_equal(np.where(ended, 0, actual), expected)
    return expected


@pytest.mark.parametrize(("beam", "layers"), [once(1, 2), once(3, 2), (3, 1)])
def test_decoding_equals_step_by_step(beam, layers):
    model = small(layers)
    decoding = Decoding(model, LENGTH, beam)
    before = assert_decoded_right(decoding, model, beam)
    assert len(set((before != 0).sum(axis=1))) > 1
    # Compiled once, decoding uses the weights as they are when it runs.
    for weight in model.weights:
        weight.assign(keras.ops.flip(weight, axis=0))
    assert (before != assert_decoded_right(decoding, model, beam)).any()


@pytest.mark.once
@pytest.mark.parametrize("beam", [once(1), 3])
def test_what_is_collapsed_decodes_to_the_same(beam, tmp_path):
    model = small()
    for layer in units(model):
        layer.alpha.assign(np.arange(12) > 3)
    collapsed = collapse(model, cost="macs", size=LENGTH)
    assert collapsed.count_params() < model.count_params()
    assert_decoded_right(Decoding(collapsed, LENGTH, beam), model, beam)
    collapsed.save(tmp_path / "collapsed.keras")
    loaded = keras.models.load_model(tmp_path / "collapsed.keras")
    expected = assert_decoded_right(Decoding(loaded, LENGTH, beam), model, beam)
    assert len(set((expected != 0).sum(axis=1))) > 1


@pytest.mark.once
def test_padding_and_what_follows_do_not_matter():
    model = small()
    target = np.array([[2, 4, 5, 6], [2, 7, 8, 9], [2, 10, 11, 12]])

    def scores(source, target):
        return keras.ops.convert_to_numpy(model({"source": source, "target": target}))

    expected = scores(SOURCE, target)
    longer = np.pad(SOURCE, [(0, 0), (0, 3)])
    np.testing.assert_allclose(scores(longer, target), expected, rtol=1e-4, atol=1e-4)
    other = np.array(target)
    other[:, 2:] = 15
    np.testing.assert_allclose(scores(SOURCE, other)[:, :2], expected[:, :2], rtol=1e-4, atol=1e-4)
    alone = scores(SOURCE[1:2, :2], target[1:2])
    np.testing.assert_allclose(alone, expected[1:2], rtol=1e-4, atol=1e-4)


@pytest.mark.once
@pytest.mark.parametrize("layers", range(1, 7))
def test_path_length(layers):
    """By hand: half a unit more in each layer; in the decoder, attention draws the encoder's
    output, of length layers / 2, twice in three and residual connections halve that."""
    decoder = 0.0
    for _ in range(layers):
        decoder = (2 * decoder + layers / 2) / 3 + 1 / 2
    model = small(layers)
    assert path_length(model) == pytest.approx(decoder, rel=1e-12)
    for layer in units(model):
        layer.alpha.assign(np.arange(12) % 3 > 0)
    assert path_length(model) == pytest.approx(decoder / 3, rel=1e-12)


@pytest.mark.once
def test_paths_of_a_narrow_one():
    """Brute force: paths through one layer with a single channel and two units, one linear."""
    model = small(1, dim=1, heads=1, ffn_dim=2)
    for layer in units(model):
        layer.alpha.assign([0.0, 1.0])
    # A feed-forward block in a residual connection: around it, or by one of its units.
    block = [0, 1, 0]
    attention = [["own"], ["own", "memory", "memory"]]
    encoder = [a + 0 for a in block for _ in range(1 + 3)]
    paths = []
    for operand in itertools.chain(*attention):
        for start in encoder if operand == "memory" else [0]:
            # Self-attention before it has four ways for what is the decoder's own.
            ways = 1 if operand == "memory" else 4
            paths += [start + b for b in block] * ways
    assert path_length(model, normalized=False) == pytest.approx(np.mean(paths), rel=1e-12)


@pytest.mark.once
def test_saved_and_loaded(tmp_path):
    model = small()
    assert_decoded_right(Decoding(model, LENGTH), model, 1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_decoded_right(Decoding(loaded, LENGTH), model, 1)
