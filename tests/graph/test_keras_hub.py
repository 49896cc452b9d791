"""Layers and models of keras-hub, which are opened into their parts."""

import keras
import keras_hub
import numpy as np
import pytest
from keras import layers

from keras_nladv import SparsePReLU, nonlinearity_report, path_length
from keras_nladv.graph import activations
from tests.graph.reference import Reference

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("cheap_weights")]


def encoder_block(reference, nodes, hidden, nonlinear):
    """The reference of a post-norm Transformer block: two residual branches, one with units."""
    nodes = reference.merge(nodes, [reference.channel([nodes] * 3) for _ in nodes])
    units = reference.activation(reference.mixing(nodes, hidden), nonlinear)
    return reference.merge(nodes, reference.mixing(units, len(nodes)))


@pytest.mark.parametrize("length", [3, None])
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_encoder_blocks_add_a_half(blocks, length):
    inputs = x = keras.Input((length, 4))
    for _ in range(blocks):
        x = keras_hub.layers.TransformerEncoder(8, 2)(x)
    assert path_length(keras.Model(inputs, x)) == pytest.approx(blocks / 2)


def test_narrow_encoder_agrees_with_enumeration():
    nonlinear = [True, False, True]
    inputs = x = keras.Input((5, 2))
    for _ in range(2):
        x = keras_hub.layers.TransformerEncoder(3, 1, activation=SparsePReLU())(x)
    model = keras.Model(inputs, x)
    path_length(model)
    slopes = [weight for weight in model.trainable_weights if weight.name == "alpha"]
    for alpha in slopes:
        alpha.assign(1.0 - np.array(nonlinear, float))
    assert len(slopes) == 2
    reference = Reference()
    nodes = reference.inputs(2)
    for _ in range(2):
        nodes = encoder_block(reference, nodes, 3, nonlinear)
    expected = reference.path_lengths(nodes)
    assert path_length(model) == pytest.approx(expected[0], rel=1e-12)
    assert path_length(model, normalized=False) == pytest.approx(expected[1], rel=1e-12)


def test_encoder_and_decoder():
    """Cross-attention: half of the walks stay, two thirds of the others change to the source."""
    source, target = (keras.Input((None,), dtype="int32") for _ in range(2))
    embedding = keras_hub.layers.TokenAndPositionEmbedding(20, 10, 4)
    encoded = keras_hub.layers.TransformerEncoder(8, 2)(embedding(source))
    decoder = keras_hub.layers.TransformerDecoder(8, 2, activation=SparsePReLU())
    decoded = decoder(embedding(target), encoded)
    model = keras.Model([source, target], layers.Dense(20)(decoded))
    # Encoded: 1/2. After cross-attention: half of the walks go there, 2/3 of them to the encoder.
    # The decoder's own units add 1/2.
    assert path_length(model) == pytest.approx(1 / 2 * 2 / 3 * 1 / 2 + 1 / 2)
    tokens = np.ones((2, 6), "int32")
    report = nonlinearity_report(model, [tokens, tokens])
    assert [row["units"] for row in report.rows] == [8, 8]
    # The sizes of sequences are unknown, and those assumed for opening are not reported.
    assert report.operations is None
    assert all(0 <= row["dead"] + row["always_on"] <= 1 for row in report.rows)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        # Half of the output channels are those of the pooled token, behind a tanh.
        ("Bert", {"intermediate_dim": 16, "max_sequence_length": 12}, 2 * 0.5 + 0.5),
        ("DistilBert", {"intermediate_dim": 16, "max_sequence_length": 12}, 2 * 0.5),
        ("GPT2", {"intermediate_dim": 16, "max_sequence_length": 12}, 2 * 0.5),
        # Gated units: half of the walks through a feed-forward branch meet one.
        ("Llama", {"intermediate_dim": 16}, 2 * 0.25),
        ("Gemma", {"intermediate_dim": 16, "head_dim": 4}, 2 * 0.25),
    ],
)
def test_language_models(name, arguments, expected):
    heads = {"num_heads": 2}
    if name in ("Llama", "Gemma"):
        heads = {"num_query_heads": 2, "num_key_value_heads": 1}
    backbone = getattr(keras_hub.models, f"{name}Backbone")(
        vocabulary_size=30, num_layers=2, hidden_dim=8, **heads, **arguments
    )
    assert path_length(backbone) == pytest.approx(expected)


def test_zeros_in_attention_that_is_not_looked_into():
    layer = keras_hub.models.LlamaBackbone(30, 1, 2, 8, 16, 1).get_layer("transformer_layer_0")
    inputs = keras.Input((5, 8))
    model = keras.Model(inputs, layer(inputs))
    for kernel in model.trainable_weights:
        kernel.assign(np.ones(kernel.shape))
    assert path_length(model, weights=True) == path_length(model)
    kernel = next(each for each in model.trainable_weights if "query" in each.path)
    kernel.assign(np.zeros(kernel.shape))
    with pytest.raises(ValueError, match="of class LlamaAttention some of whose weights are zero"):
        path_length(model, weights=True)
    # Which activations there are does not depend on weights.
    assert [activation.function for activation in activations(model)] == ["silu"]


def within(backbone, kind):
    """The first layer of a class in a backbone."""
    parts = [part for layer in backbone.layers for part in layer._flatten_layers()]
    return next(part for part in parts if type(part).__name__ == kind)


def test_attention_that_is_not_looked_into():
    """Three operands, and a cache that all of its input feeds. Biases and scales are no edges."""
    small = {"vocabulary_size": 30, "num_layers": 1, "hidden_dim": 8, "intermediate_dim": 16}
    shared = {**small, "num_query_heads": 2, "num_key_value_heads": 1}
    attention = within(keras_hub.models.LlamaBackbone(**shared), "LlamaAttention")
    inputs, cache = keras.Input((5, 8)), keras.Input((2, 5, 1, 4))
    x, new = attention(layers.ReLU()(inputs), cache=cache, cache_update_index=0)
    assert path_length(keras.Model([inputs, cache], new)) == 1
    model = keras.Model([inputs, cache], layers.Concatenate()([x, inputs]))
    assert path_length(model, normalized=False) == 3 * 64 / (3 * 64 + 8)
    bloom = keras_hub.models.BloomBackbone(num_heads=2, **small)
    gemma = keras_hub.models.Gemma3Backbone(
        image_size=16, head_dim=4, use_query_key_norm=True, **shared
    )
    for attention in (within(bloom, "BloomAttention"), within(gemma, "CachedGemma3Attention")):
        for weight in attention.weights:
            weight.assign(np.full(weight.shape, float(weight.name == "kernel")))
        mask = {"attention_mask": np.ones((1, 5, 5), bool)}
        model = keras.Model(inputs, attention(layers.ReLU()(inputs), **mask))
        assert path_length(model, weights=True) == 1


def test_scales_of_zero_in_a_layer_without_an_axis():
    norm = keras_hub.models.LlamaBackbone(30, 1, 2, 8, 16, 1).layers[-1]
    inputs = keras.Input((8, 8))
    x = layers.Concatenate()([layers.ReLU()(inputs[..., :1]), inputs[..., 1:]])
    model = keras.Model(inputs, norm(x))
    norm.scale.assign(np.arange(8) < 2)
    assert path_length(model, weights=True) == 1 / 2


def test_vision_transformer():
    backbone = keras_hub.models.ViTBackbone(
        image_shape=(16, 16, 3), patch_size=8, num_layers=3, num_heads=2, hidden_dim=8, mlp_dim=16
    )
    assert path_length(backbone) == pytest.approx(3 * 0.5)
