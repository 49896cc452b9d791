"""Layers and models of keras-hub, which are opened into their parts."""

import keras
import keras_hub
import numpy as np
import pytest
from keras import layers

from keras_nladv import SparsePReLU
from tests.cases import once
from tests.copies import activations, arrays, randomize, sparsified

pytestmark = pytest.mark.usefixtures("fast_weights")

IDS = np.array([[3, 1, 4, 1, 0, 0], [2, 7, 1, 8, 2, 8]])
MASK = (IDS > 0).astype("int32")


def without_composites(model):
    """Whether only layers of Keras and the leaves of keras-hub are left."""
    names = {type(layer).__name__ for layer in model.layers}
    return not any("TransformerEncoder" in name or "Decoder" in name for name in names)


@pytest.mark.once
@pytest.mark.parametrize("name", ["Bert", once("GPT2")])
def test_language_models(name, tmp_path):
    model = getattr(keras_hub.models, f"{name}Backbone")(
        vocabulary_size=30,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=12,
    )
    data = {"token_ids": IDS, "padding_mask": MASK}
    if name == "Bert":
        data["segment_ids"] = np.zeros_like(IDS)
    sparse, report = sparsified(randomize(model), data)
    assert without_composites(sparse)
    sizes = [len(layer.slopes) for layer in activations(sparse)]
    # Behind the encoder, BERT has the tanh of the pooled token.
    assert sizes == ([16, 16, 8] if name == "Bert" else [16, 16])
    assert report.left == []
    # The padding mask makes the same difference.
    other = {**data, "padding_mask": np.ones_like(MASK)}
    for one, two in zip(*(arrays(each, other) for each in (sparse, model))):
        np.testing.assert_allclose(one, two, atol=1e-5)
    if name == "Bert":
        sparse.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        for one, two in zip(*(arrays(each, data) for each in (again, sparse))):
            np.testing.assert_array_equal(one, two)


@pytest.mark.once
def test_vision_transformer():
    model = keras_hub.models.ViTBackbone(
        image_shape=(16, 16, 3), patch_size=8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16
    )
    x = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    sparse, report = sparsified(randomize(model), x)
    assert [row["function"] for row in report.rows] == ["gelu", "gelu"]
    assert [len(layer.slopes) for layer in activations(sparse)] == [16, 16]


# What the embedding of positions does with the mask of the tokens.
@pytest.mark.filterwarnings("ignore:.*does not support masking")
@pytest.mark.parametrize("length", [None, once(6)])
def test_encoder_and_decoder(length):
    """Causal masks, masks of padding by the embeddings, and cross-attention."""
    source, target = (keras.Input((length,), dtype="int32", name=name) for name in ("s", "t"))
    embedding = keras_hub.layers.TokenAndPositionEmbedding(20, 10, 8, mask_zero=True)
    encoded = keras_hub.layers.TransformerEncoder(16, 2, dropout=0.1)(embedding(source))
    decoder = keras_hub.layers.TransformerDecoder(12, 2, activation="gelu", name="decoder")
    model = keras.Model([source, target], layers.Dense(20)(decoder(embedding(target), encoded)))
    data = [IDS, IDS[::-1]]
    sparse, report = sparsified(randomize(model), data)
    assert without_composites(sparse)
    assert [row["function"] for row in report.rows] == ["relu", "gelu"]
    assert [len(layer.slopes) for layer in activations(sparse)] == [16, 12]
    # What is masked is not looked at, and what comes later is not either.
    later = [np.where(IDS == 0, 0, IDS), np.concatenate([IDS[::-1, :3], IDS[:, 3:]], axis=1)]
    (one,), (two,) = (arrays(sparse, each) for each in (data, later))
    np.testing.assert_allclose(one[:, :3], two[:, :3], atol=1e-5)
    assert np.abs(one[:, 3:] - two[:, 3:]).max() > 1e-3
    # It trains, dropout included.
    (one,), (two,) = arrays(sparse, data, training=True), arrays(sparse, data, training=True)
    assert (one != two).any()


@pytest.mark.once
def test_slopes_in_blocks_are_kept():
    inputs = keras.Input((5, 4))
    sparse_prelu = SparsePReLU(alpha_initializer=keras.initializers.RandomUniform(-0.5, 1.5))
    x = keras_hub.layers.TransformerEncoder(6, 2, activation=sparse_prelu)(inputs)
    model = keras.Model(inputs, keras_hub.layers.TransformerEncoder(6, 2, name="second")(x))
    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    model(x)
    sparse, report = sparsified(model, x)
    assert len(report.converted) == 1
    (old,), (new, added) = activations(model), activations(sparse)
    np.testing.assert_array_equal(new.slopes, old.slopes)
    assert np.abs(new.slopes).min() > 0
    assert (added.slopes == 0).all()
