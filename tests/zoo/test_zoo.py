"""Models in the manner of published ones go through all that the library does to a model."""

import json

import keras
import numpy as np
import pytest

from keras_nladv import SparsePReLU, collapse, path_length, prune, sparsify
from keras_nladv._common.random_inputs import random_inputs
from keras_nladv._keras import private
from keras_nladv.pruning import prunable
from tests.copies import assert_close, assert_telling, randomize
from tests.zoo import dense_prediction, sequences, structured, text, vision  # noqa: F401
from tests.zoo.feeding import tried_and_claimed
from tests.zoo.registry import ZOO

# What stands for the others where backends compile each of them.
EVERYWHERE = ("attention_by_hand", "two_tower_recommender")
# Each is large, and made of what others are made of.
LARGE = (
    *("bidirectional_lstm_on_words", "compact_convolutional_transformer", "convmixer"),
    *("ddim_unet", "deeplab_v3_plus", "fine_tuned_mobilenet", "fnet", "gated_residual_network"),
    *("graph_network", "image_captioning", "masked_language_bert", "miniature_gpt", "mlp_mixer"),
    *("stylegan_block", "switch_transformer", "tab_transformer", "timeseries_transformer"),
    *("traffic_forecast", "unet_xception", "vision_transformer", "wavenet", "wide_and_deep"),
)
# Their images are numbers up to 255.
OF_BYTES = ("convmixer", "fine_tuned_mobilenet")


def case(name):
    if name in EVERYWHERE:
        return name
    return pytest.param(name, marks=pytest.mark.slow if name in LARGE else pytest.mark.once)


def test_there_are_enough():
    assert set(LARGE) < set(ZOO)
    assert len(set(ZOO) - set(LARGE)) >= 40


def outputs(model, data):
    """What a model puts out, its random numbers the same in each run."""
    weights = set(map(id, model.weights))
    states = [each for each in model.variables if id(each) not in weights]
    for state in (*states, *private.global_seeds()):
        state.assign(np.ones(state.shape))
    tensors = keras.tree.flatten(model(data, training=False))
    return [keras.ops.convert_to_numpy(x) for x in tensors]


def trained(model, data):
    """Trains a model for a step. Returns how many of its slopes have moved."""
    before = slopes(model)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    structure = private.structures(model)[1]
    zeros = keras.tree.map_structure(
        lambda tensor, x: np.zeros_like(x), structure,
        keras.tree.pack_sequence_as(structure, outputs(model, data)),
    )  # fmt: skip
    model.train_on_batch(data, zeros)
    return sum(int((one != other).sum()) for one, other in zip(slopes(model), before))


def units(model):
    return [x for x in private.sublayers(model) if isinstance(x, SparsePReLU) and x.built]


def slopes(model):
    return [layer.slopes.copy() for layer in units(model)]


@pytest.mark.filterwarnings("ignore:Layer '.*' .* was passed an input with a mask")
# Of layers without a `build`, when they are loaded.
@pytest.mark.filterwarnings("ignore:.build\\(\\). was called on layer")
# JAX has no numbers of 64 bits, which models of text ask for.
@pytest.mark.filterwarnings("ignore:[\\s\\S]*Explicitly requested dtype int64")
# Of the few weights that there are, half may cut a path.
@pytest.mark.filterwarnings("ignore:The masks cut every path")
@pytest.mark.parametrize("name", [case(name) for name in ZOO])
def test_the_zoo(name, tmp_path):
    model = randomize(ZOO[name]())
    data = random_inputs(private.structures(model)[0], 6, 3, np.random.default_rng(2))
    if name in OF_BYTES:
        data = keras.tree.map_structure(lambda x: 127 * x, data)
    right = outputs(model, data)
    assert_telling(right, 1e-5)

    lengths = [path_length(model, normalized) for normalized in (True, False)]
    assert np.isfinite(lengths).all()

    sparse = sparsify(model)
    assert_close(outputs(sparse, data), right, 1e-5)
    np.testing.assert_allclose(
        [path_length(sparse, normalized) for normalized in (True, False)], lengths, rtol=1e-9
    )
    true, said = tried_and_claimed(sparse, lambda: outputs(sparse, data))
    np.testing.assert_array_equal(said, true)

    sparse.save(tmp_path / "sparse.keras")
    loaded = keras.saving.load_model(tmp_path / "sparse.keras")
    assert_close(outputs(loaded, data), right, 1e-5)
    assert trained(loaded, data) > 0

    rng = np.random.default_rng(0)
    for share in (0.5, 1.0):
        for layer in units(sparse):
            layer.alpha.assign(rng.random(layer.alpha.shape) < share)
        plain = collapse(sparse, cost="macs", example_inputs=data)
        assert_close(outputs(plain, data), outputs(sparse, data), 1e-4)
        assert "nladv" not in json.dumps(plain.get_config(), default=str)

    pruned = prune(model, 0.5)
    for kernel in prunable(pruned):
        weights = keras.ops.convert_to_numpy(kernel.variable)
        assert np.count_nonzero(weights) <= np.ceil(0.5 * weights.size)
    assert len(outputs(pruned, data)) == len(right)
