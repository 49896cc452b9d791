import keras
import keras_hub
from keras import ops

from common.decoding import Decoding


class CachedDecoding(Decoding):
    """Translates batches of ids; keys and values are computed once for each token.

    Args:
        model: A model from `translator`.
        length: See `Decoding`.
        beam: See `Decoding`.
    """

    def __init__(self, model, length, beam=1):
        super().__init__(model, length, beam)
        self.encoder = keras.Model(model.input["source"], model.get_layer("memory").output)
        self.parts = {layer.name: layer for layer in model.layers}
        self.blocks = [
            layer
            for layer in model.layers
            if isinstance(layer, keras_hub.layers.TransformerDecoder)
        ]

    def begin(self, source, start):
        memory = self.encoder(source)
        known = {"memory": memory, "padding": ops.not_equal(source, 0)}
        batch, size, dim = ops.shape(memory)
        heads = self.blocks[0].num_heads
        own, cross = (
            ops.zeros((batch, len(self.blocks), 2, n, heads, dim // heads), memory.dtype)
            for n in (self.length, size)
        )
        # The keys and values of the memory come with a step, those of the target are not kept.
        *_, known["cross"] = self._run(start, 0, known, own, cross, 0)
        return known, own

    def advance(self, prompt, place, known, cache):
        ids = ops.take(prompt, ops.reshape(place, (1,)), axis=1)
        logits, own, _ = self._run(ids, place, known, cache, known["cross"], None)
        return logits, own

    def _run(self, ids, place, known, own, cross, cross_place):
        parts = self.parts
        x = parts["target_scale"](parts["embedding"](ids))
        x = parts["target_embedded"]([x, parts["target_positions"](x, start_index=place)])
        caches = []
        for number, block in enumerate(self.blocks):
            x, *each = block(
                x,
                known["memory"],
                encoder_padding_mask=known["padding"],
                self_attention_cache=own[:, number],
                self_attention_cache_update_index=place,
                cross_attention_cache=cross[:, number],
                cross_attention_cache_update_index=cross_place,
            )
            caches.append(each)
        own, cross = (ops.stack(each, axis=1) for each in zip(*caches, strict=True))
        return parts["embedding"](parts["output"](x), reverse=True)[:, 0], own, cross
