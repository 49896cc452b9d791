"""A Transformer that translates (Vaswani et al. 2017), of the blocks of keras-hub."""

import keras
import keras_hub
from keras import ops

from keras_nladv import NonlinearitySparsity, SparsePReLU


def translator(vocabulary, length, *, layers, dim, heads, ffn_dim, dropout, granularity="channel"):
    """Builds a Transformer encoder-decoder whose feed-forward units are `SparsePReLU`s.

    One embedding serves the source, the target and the output. Layers normalize first, which trains
    without much ado about the learning rate.

    Args:
        vocabulary: Integer, the number of tokens; token 0 is padding.
        length: Integer, the largest number of tokens of a sentence.
        layers: Integer, the number of encoder layers, and of decoder layers.
        dim: Integer, the width of the residual stream.
        heads: Integer, the number of attention heads, a divisor of `dim`.
        ffn_dim: Integer, the number of units of each layer.
        dropout: Float.
        granularity: That of `SparsePReLU`.

    Returns:
        An uncompiled `keras.Model` from `{"source": ids, "target": ids}`, of shapes (batch, s) and
        (batch, t), to the logarithms of the probabilities of the token that follows, of shape
        (batch, t, vocabulary).
    """
    source = keras.Input((None,), dtype="int32", name="source")
    target = keras.Input((None,), dtype="int32", name="target")
    embedding = keras_hub.layers.ReversibleEmbedding(
        vocabulary,
        dim,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=dim**-0.5),
        reverse_dtype="float32",
        name="embedding",
    )
    options = {
        "dropout": dropout,
        "normalize_first": True,
        "num_heads": heads,
        "intermediate_dim": ffn_dim,
    }

    def embedded(ids, side):
        x = keras.layers.Rescaling(dim**0.5, name=f"{side}_scale")(embedding(ids))
        positions = keras_hub.layers.PositionEmbedding(
            length,
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name=f"{side}_positions",
        )
        x = keras.layers.Add(name=f"{side}_embedded")([x, positions(x)])
        return keras.layers.Dropout(dropout, name=f"{side}_dropout")(x)

    def units(name):
        layer = SparsePReLU(
            granularity=granularity, alpha_regularizer=NonlinearitySparsity(0.0), name=name
        )
        # Inside a block it would have no weights before the model runs.
        layer.build((None, None, ffn_dim))
        return layer

    padding = ops.not_equal(source, 0)
    x = embedded(source, "source")
    for index in range(layers):
        encoder = keras_hub.layers.TransformerEncoder(
            activation=units(f"encoder_{index}_units"), name=f"encoder_{index}", **options
        )
        x = encoder(x, padding_mask=padding)
    memory = keras.layers.LayerNormalization(name="memory")(x)

    x = embedded(target, "target")
    for index in range(layers):
        decoder = keras_hub.layers.TransformerDecoder(
            activation=units(f"decoder_{index}_units"), name=f"decoder_{index}", **options
        )
        x = decoder(x, memory, encoder_padding_mask=padding)
    x = keras.layers.LayerNormalization(name="output")(x)
    logits = embedding(x, reverse=True)
    log = keras.layers.Activation("log_softmax", dtype="float32", name="log_probabilities")(logits)
    return keras.Model({"source": source, "target": target}, log)
