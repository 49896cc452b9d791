from unittest import mock

import keras
import keras_hub
from keras import ops

from data.subwords import Subwords

ATTENTION = keras_hub.layers.CachedMultiHeadAttention
POSITIONS = keras_hub.layers.PositionEmbedding


class Decoding(keras.Model):
    """Translates batches of ids, with `predict` compiled where the backend compiles.

    The source is read once, and each token of the translation once: the keys and values of both are
    kept.

    Args:
        model: A model from `translator`, or what `collapse` made of one.
        length: Integer, the number of tokens at most.
        beam: Integer, the number of beams; with 1 the best token is taken at each step.
    """

    def __init__(self, model, length, beam=1):
        super().__init__()
        self.length, self.beam = length, beam
        outputs = {}

        def called(layer, *args, **kwargs):
            outputs[layer.name] = layer(*args, **kwargs)
            return outputs[layer.name]

        # The same layers in another graph: as soon as a model begins within a graph, Keras 3.15
        # cannot save the model any more that the graph is of. Nothing has to be compiled for that.
        twin = keras.models.clone_model(
            keras.Model(model.input, model.output),
            clone_function=lambda layer: layer,
            call_function=called,
        )
        source, target = twin.input["source"], twin.input["target"]
        self.encoder = keras.Model(source, outputs["memory"])
        self.decoder = keras.Model([source, outputs["memory"], target], twin.output)
        samplers = keras_hub.samplers
        self.sampler = samplers.GreedySampler() if beam == 1 else samplers.BeamSampler(beam)

    def call(self, source):
        start = ops.full_like(source[:, :1], Subwords.start)
        prompt = ops.concatenate([start, ops.tile(start * 0, (1, self.length - 1))], axis=1)
        known = [source, self.encoder(source)]
        # What the first token says is said again by the first step, which finds keys and values
        # for all of the source there.
        _, own, across = self._step(start, 0, known)
        # The sampler repeats the cache for the beams, and keeps it in their order.
        known, across = keras.tree.map_structure(
            lambda x: ops.repeat(x, self.beam, axis=0), (known, across)
        )

        def following(prompt, own, index):
            ids = ops.take(prompt, ops.reshape(index - 1, (1,)), axis=1)
            scores, own, _ = self._step(ids, index - 1, known, own, across)
            ended = ops.any(ops.equal(prompt, Subwords.end), axis=1, keepdims=True)
            # Behind the end there is padding, and no beam gains or loses by it.
            padding = ops.where(ops.arange(scores.shape[-1]) == 0, 0.0, -1e9)
            return ops.where(ended, padding, scores), None, own

        return self.sampler(
            following, prompt, cache=own, index=1, stop_token_ids=[Subwords.end], model=self
        )

    def _step(self, ids, place, known, own=None, across=None):
        """Reads the tokens at `place`.

        Args:
            ids: Tensor of shape (batch, 1).
            place: Integer, or a scalar tensor.
            known: List of what the decoder gets beside them, the source as ids and as read.
            own: List of the keys and values of the translation, a tensor for each layer of the
                decoder; `None` at the first step.
            across: The same of the source.

        Returns:
            The scores (batch, vocabulary) of the token that follows, `own` and `across`.
        """
        caches = {True: [], False: []}

        def attend(layer, query, value, key=None, attention_mask=None, **kwargs):
            kept = caches[value is query]
            given, update, size = across, None, value.shape[1]
            if value is query:
                given, update, size = own, place, self.length
                attention_mask = ops.broadcast_to(
                    ops.arange(size) <= place, (ops.shape(query)[0], 1, size)
                )
            if given is None:
                update = 0
                shape = (ops.shape(query)[0], 2, size, layer.num_heads, layer.key_dim)
                cache = ops.zeros(shape, query.dtype)
            else:
                cache = given[len(kept)]
            outputs, cache = whole(
                layer,
                query,
                value,
                attention_mask=attention_mask,
                cache=cache,
                cache_update_index=update,
            )
            kept.append(cache)
            return outputs

        def positions(layer, inputs):
            return sliced(layer, inputs, start_index=place)

        whole, sliced = ATTENTION.call, POSITIONS.call
        # Blocks of keras-hub take caches, but the layers of a block that was opened are called as
        # its graph says. This reaches both.
        with (
            mock.patch.object(ATTENTION, "call", attend),
            mock.patch.object(POSITIONS, "call", positions),
        ):
            scores = self.decoder([*known, ids])
        return scores[:, 0], caches[True], caches[False]
