"""Networks that read and write words."""

import keras
import numpy as np
from keras import layers, ops

from tests.zoo.registry import specimen


def causal_attention_mask(batch_size, n_dest, n_src, dtype):
    """Masks the upper half of the dot product matrix in self attention."""
    i = ops.arange(n_dest)[:, None]
    j = ops.arange(n_src)
    m = i >= j - n_src + n_dest
    mask = ops.cast(m, dtype)
    mask = ops.reshape(mask, [1, n_dest, n_src])
    return ops.tile(mask, (batch_size, 1, 1))


@keras.saving.register_keras_serializable(package="zoo")
class GPTBlock(layers.Layer):
    def __init__(self, embed_dim, num_heads, ff_dim, rate=0.1, **kwargs):
        super().__init__(**kwargs)
        self.embed_dim, self.num_heads, self.ff_dim, self.rate = embed_dim, num_heads, ff_dim, rate
        self.att = layers.MultiHeadAttention(num_heads, embed_dim)
        self.ffn = keras.Sequential(
            [layers.Dense(ff_dim, activation="relu"), layers.Dense(embed_dim)]
        )
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(rate)
        self.dropout2 = layers.Dropout(rate)

    def call(self, inputs):
        input_shape = ops.shape(inputs)
        batch_size = input_shape[0]
        seq_len = input_shape[1]
        causal_mask = causal_attention_mask(batch_size, seq_len, seq_len, "bool")
        attention_output = self.att(inputs, inputs, attention_mask=causal_mask)
        attention_output = self.dropout1(attention_output)
        out1 = self.layernorm1(inputs + attention_output)
        ffn_output = self.ffn(out1)
        ffn_output = self.dropout2(ffn_output)
        return self.layernorm2(out1 + ffn_output)

    def get_config(self):
        names = ("embed_dim", "num_heads", "ff_dim", "rate")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="zoo")
class TokenAndPositionEmbedding(layers.Layer):
    def __init__(self, maxlen, vocab_size, embed_dim, **kwargs):
        super().__init__(**kwargs)
        self.arguments = {"maxlen": maxlen, "vocab_size": vocab_size, "embed_dim": embed_dim}
        self.token_emb = layers.Embedding(input_dim=vocab_size, output_dim=embed_dim)
        self.pos_emb = layers.Embedding(input_dim=maxlen, output_dim=embed_dim)

    def call(self, x):
        maxlen = ops.shape(x)[-1]
        positions = ops.arange(0, maxlen, 1)
        positions = self.pos_emb(positions)
        x = self.token_emb(x)
        return x + positions

    def get_config(self):
        return {**super().get_config(), **self.arguments}


def gpt(length):
    inputs = keras.Input((length,), dtype="int32")
    x = TokenAndPositionEmbedding(8, 10, 4)(inputs)
    x = GPTBlock(4, 2, 6)(x)
    return keras.Model(inputs, [layers.Dense(10)(x), x])


@specimen
def miniature_gpt():
    return gpt(6)


@specimen
def miniature_gpt_of_any_length():
    return gpt(None)


@keras.saving.register_keras_serializable(package="zoo")
class PositionalEmbedding(layers.Layer):
    def __init__(self, sequence_length, vocab_size, embed_dim, **kwargs):
        super().__init__(**kwargs)
        self.token_embeddings = layers.Embedding(input_dim=vocab_size, output_dim=embed_dim)
        self.position_embeddings = layers.Embedding(input_dim=sequence_length, output_dim=embed_dim)
        self.sequence_length = sequence_length
        self.vocab_size = vocab_size
        self.embed_dim = embed_dim

    def call(self, inputs):
        length = ops.shape(inputs)[-1]
        positions = ops.arange(0, length, 1)
        embedded_tokens = self.token_embeddings(inputs)
        embedded_positions = self.position_embeddings(positions)
        return embedded_tokens + embedded_positions

    def compute_mask(self, inputs, mask=None):
        return ops.not_equal(inputs, 0)

    def get_config(self):
        names = ("sequence_length", "vocab_size", "embed_dim")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="zoo")
class TransformerEncoder(layers.Layer):
    def __init__(self, embed_dim, dense_dim, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.embed_dim = embed_dim
        self.dense_dim = dense_dim
        self.num_heads = num_heads
        self.attention = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.dense_proj = keras.Sequential(
            [layers.Dense(dense_dim, activation="relu"), layers.Dense(embed_dim)]
        )
        self.layernorm_1 = layers.LayerNormalization()
        self.layernorm_2 = layers.LayerNormalization()
        self.supports_masking = True

    def call(self, inputs, mask=None):
        padding_mask = None
        if mask is not None:
            padding_mask = ops.cast(mask[:, None, :], dtype="int32")
        attention_output = self.attention(
            query=inputs, value=inputs, key=inputs, attention_mask=padding_mask
        )
        proj_input = self.layernorm_1(inputs + attention_output)
        proj_output = self.dense_proj(proj_input)
        return self.layernorm_2(proj_input + proj_output)

    def get_config(self):
        names = ("embed_dim", "dense_dim", "num_heads")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="zoo")
class TransformerDecoder(layers.Layer):
    def __init__(self, embed_dim, latent_dim, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.embed_dim = embed_dim
        self.latent_dim = latent_dim
        self.num_heads = num_heads
        self.attention_1 = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.attention_2 = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.dense_proj = keras.Sequential(
            [layers.Dense(latent_dim, activation="relu"), layers.Dense(embed_dim)]
        )
        self.layernorm_1 = layers.LayerNormalization()
        self.layernorm_2 = layers.LayerNormalization()
        self.layernorm_3 = layers.LayerNormalization()
        self.supports_masking = True

    def call(self, inputs, mask=None):
        inputs, encoder_outputs = inputs
        causal_mask = self.get_causal_attention_mask(inputs)
        if mask is None:
            inputs_padding_mask, encoder_outputs_padding_mask = None, None
        else:
            inputs_padding_mask, encoder_outputs_padding_mask = mask
        attention_output_1 = self.attention_1(
            query=inputs,
            value=inputs,
            key=inputs,
            attention_mask=causal_mask,
            query_mask=inputs_padding_mask,
        )
        out_1 = self.layernorm_1(inputs + attention_output_1)
        attention_output_2 = self.attention_2(
            query=out_1,
            value=encoder_outputs,
            key=encoder_outputs,
            query_mask=inputs_padding_mask,
            key_mask=encoder_outputs_padding_mask,
        )
        out_2 = self.layernorm_2(out_1 + attention_output_2)
        proj_output = self.dense_proj(out_2)
        return self.layernorm_3(out_2 + proj_output)

    def get_causal_attention_mask(self, inputs):
        input_shape = ops.shape(inputs)
        batch_size, sequence_length = input_shape[0], input_shape[1]
        i = ops.arange(sequence_length)[:, None]
        j = ops.arange(sequence_length)
        mask = ops.cast(i >= j, dtype="int32")
        mask = ops.reshape(mask, (1, input_shape[1], input_shape[1]))
        return ops.tile(mask, (batch_size, 1, 1))

    def get_config(self):
        names = ("embed_dim", "latent_dim", "num_heads")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@specimen
def translation_transformer():
    """English to Spanish, of sentences of any length."""
    encoder_inputs = keras.Input((None,), dtype="int32", name="encoder_inputs")
    x = PositionalEmbedding(10, 9, 4)(encoder_inputs)
    encoder_outputs = TransformerEncoder(4, 6, 2)(x)
    decoder_inputs = keras.Input((None,), dtype="int32", name="decoder_inputs")
    x = PositionalEmbedding(10, 9, 4)(decoder_inputs)
    x = TransformerDecoder(4, 6, 2)([x, encoder_outputs])
    decoder_outputs = layers.Dense(9, activation="softmax")(layers.Dropout(0.5)(x))
    return keras.Model(
        {"encoder_inputs": encoder_inputs, "decoder_inputs": decoder_inputs},
        decoder_outputs,
        name="transformer",
    )


@specimen
def masked_language_bert():
    """BERT with masked words: encoders by functions, sines for positions."""

    def bert_module(query, key, value, i):
        attention_output = layers.MultiHeadAttention(
            num_heads=2, key_dim=2, name=f"encoder_{i}_multiheadattention"
        )(query, key, value)
        attention_output = layers.Dropout(0.1)(attention_output)
        attention_output = layers.LayerNormalization(
            epsilon=1e-6, name=f"encoder_{i}_att_layernormalization"
        )(query + attention_output)
        ffn = keras.Sequential(
            [layers.Dense(6, activation="relu"), layers.Dense(4)], name=f"encoder_{i}_ffn"
        )
        ffn_output = layers.Dropout(0.1)(ffn(attention_output))
        return layers.LayerNormalization(epsilon=1e-6)(attention_output + ffn_output)

    inputs = keras.Input((6,), dtype="int64")
    word_embeddings = layers.Embedding(12, 4, name="word_embedding")(inputs)
    angles = np.arange(6)[:, None] / 10000 ** (2 * (np.arange(4)[None] // 2) / 4)
    angles[:, 0::2], angles[:, 1::2] = np.sin(angles[:, 0::2]), np.cos(angles[:, 1::2])
    position_embeddings = layers.Embedding(
        6, 4, embeddings_initializer=keras.initializers.Constant(angles), name="positions"
    )(ops.arange(start=0, stop=6, step=1))
    x = word_embeddings + position_embeddings
    for i in range(2):
        x = bert_module(x, x, x, i)
    return keras.Model(inputs, layers.Dense(12, name="mlm_cls", activation="softmax")(x))


@specimen
def bert_classifier():
    """Three inputs, a mask of padding, tanh in the pooler."""
    ids = keras.Input((6,), dtype="int32", name="token_ids")
    segments = keras.Input((6,), dtype="int32", name="segment_ids")
    padding = keras.Input((6,), dtype="int32", name="padding_mask")
    x = layers.Embedding(12, 4)(ids) + layers.Embedding(2, 4)(segments)
    x = layers.LayerNormalization()(x)
    attention = layers.MultiHeadAttention(2, 2)(
        x, x, attention_mask=ops.cast(padding[:, None, :], "bool")
    )
    x = layers.LayerNormalization()(x + attention)
    y = layers.Dense(4)(layers.Dense(8, activation=keras.activations.gelu)(x))
    x = layers.LayerNormalization()(x + y)
    pooled = layers.Dense(4, activation="tanh", name="pooled")(x[:, 0, :])
    inputs = {"token_ids": ids, "segment_ids": segments, "padding_mask": padding}
    return keras.Model(inputs, {"logits": layers.Dense(3)(layers.Dropout(0.1)(pooled))})


@specimen
def image_captioning():
    """An image's regions, attended to by words; the encoder a network in the model."""
    cnn = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, 2, padding="same", activation="swish"),
            layers.Conv2D(4, 3, 2, padding="same", activation="swish"),
            layers.Reshape((-1, 4)),
        ],
        name="cnn",
    )
    image = keras.Input((8, 8, 3))
    words = keras.Input((5,), dtype="int32")
    encoded = layers.Dense(4, activation="relu")(layers.LayerNormalization()(cnn(image)))
    attention = layers.MultiHeadAttention(1, 4)
    encoded = layers.LayerNormalization()(encoded + attention(encoded, encoded, encoded))
    x = PositionalEmbedding(5, 9, 4)(words)
    x = TransformerDecoder(4, 6, 2)([x, encoded])
    return keras.Model([image, words], layers.Dense(9, activation="softmax")(x))


@specimen
def text_classification_from_embeddings():
    inputs = keras.Input(shape=(None,), dtype="int64")
    x = layers.Dropout(0.5)(layers.Embedding(20, 4)(inputs))
    x = layers.Conv1D(5, 3, padding="valid", activation="relu", strides=1)(x)
    x = layers.GlobalMaxPooling1D()(x)
    x = layers.Dropout(0.5)(layers.Dense(4, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid", name="predictions")(x))


@specimen
def bidirectional_lstm_on_words():
    inputs = keras.Input(shape=(None,), dtype="int32")
    x = layers.Embedding(20, 4, mask_zero=True)(inputs)
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(x)
    x = layers.Bidirectional(layers.LSTM(3))(x)
    x = layers.Dense(4, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


@specimen
def sequence_to_sequence():
    """Characters, from the encoder's states to the decoder's."""
    encoder_inputs = keras.Input(shape=(None, 5))
    _, state_h, state_c = layers.LSTM(4, return_state=True)(encoder_inputs)
    decoder_inputs = keras.Input(shape=(None, 6))
    lstm = layers.LSTM(4, return_sequences=True, return_state=True)
    x, _, _ = lstm(decoder_inputs, initial_state=[state_h, state_c])
    x = layers.Dense(6, activation="softmax")(layers.Dense(5, activation="relu")(x))
    return keras.Model([encoder_inputs, decoder_inputs], x)


@keras.saving.register_keras_serializable(package="zoo")
class MultiHeadSelfAttention(layers.Layer):
    """Written by hand, with reshapes by the sizes of the input."""

    def __init__(self, embed_dim, num_heads=2, **kwargs):
        super().__init__(**kwargs)
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.projection_dim = embed_dim // num_heads
        self.query_dense = layers.Dense(embed_dim)
        self.key_dense = layers.Dense(embed_dim)
        self.value_dense = layers.Dense(embed_dim, activation="relu")
        self.combine_heads = layers.Dense(embed_dim)

    def separate_heads(self, x, batch_size):
        x = ops.reshape(x, (batch_size, -1, self.num_heads, self.projection_dim))
        return ops.transpose(x, axes=[0, 2, 1, 3])

    def call(self, inputs):
        batch_size = ops.shape(inputs)[0]
        query, key, value = (
            self.separate_heads(dense(inputs), batch_size)
            for dense in (self.query_dense, self.key_dense, self.value_dense)
        )
        score = ops.matmul(query, ops.transpose(key, axes=[0, 1, 3, 2]))
        scaled_score = score / ops.sqrt(ops.cast(self.projection_dim, "float32"))
        attention = ops.matmul(ops.softmax(scaled_score, axis=-1), value)
        attention = ops.transpose(attention, axes=[0, 2, 1, 3])
        concat = ops.reshape(attention, (batch_size, -1, self.embed_dim))
        return self.combine_heads(concat)

    def get_config(self):
        return {
            **super().get_config(), "embed_dim": self.embed_dim, "num_heads": self.num_heads,
        }  # fmt: skip


@specimen
def attention_by_hand():
    inputs = keras.Input((None, 3))
    x = layers.Dense(4)(inputs)
    x = x + MultiHeadSelfAttention(4)(x)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@keras.saving.register_keras_serializable(package="zoo")
class Switch(layers.Layer):
    """A router that weighs experts, which are dense layers."""

    def __init__(self, num_experts, size, **kwargs):
        super().__init__(**kwargs)
        self.num_experts, self.size = num_experts, size
        self.route = layers.Dense(units=num_experts)
        self.experts = [
            keras.Sequential([layers.Dense(size * 2, activation="relu"), layers.Dense(size)])
            for _ in range(num_experts)
        ]

    def call(self, inputs):
        weights = ops.softmax(self.route(inputs), axis=-1)
        outputs = ops.stack([expert(inputs) for expert in self.experts], axis=-1)
        return ops.sum(outputs * ops.expand_dims(weights, axis=-2), axis=-1)

    def get_config(self):
        return {**super().get_config(), "num_experts": self.num_experts, "size": self.size}


@specimen
def switch_transformer():
    inputs = keras.Input((6,), dtype="int32")
    x = TokenAndPositionEmbedding(6, 9, 4)(inputs)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 2)(x, x))
    x = layers.LayerNormalization()(x + Switch(2, 4)(x))
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))
