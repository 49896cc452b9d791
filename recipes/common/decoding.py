import keras
import keras_hub
from keras import ops

from common.subwords import Subwords


class Decoding(keras.Model):
    """Translates batches of ids, with `predict` compiled where the backend compiles.

    At each step the model reads the source and all tokens so far. That is possible with any model
    that maps `{"source": ids, "target": ids}` to logits, those that `collapse` returns among them.

    Args:
        model: The model.
        length: Integer, the number of tokens at most.
        beam: Integer, the number of beams; with 1 the best token is taken at each step.
    """

    def __init__(self, model, length, beam=1):
        super().__init__()
        self.model = model
        self.length, self.beam = length, beam
        samplers = keras_hub.samplers
        self.sampler = samplers.GreedySampler() if beam == 1 else samplers.BeamSampler(beam)

    def call(self, source):
        start = ops.full_like(source[:, :1], Subwords.start)
        prompt = ops.concatenate([start, ops.tile(start * 0, (1, self.length - 1))], axis=1)
        known, cache = self.begin(source, start)
        # The sampler repeats the cache for the beams, and keeps it in their order.
        known = {name: ops.repeat(x, self.beam, axis=0) for name, x in known.items()}

        def following(prompt, cache, index):
            logits, cache = self.advance(prompt, index - 1, known, cache)
            ended = ops.any(ops.equal(prompt, Subwords.end), axis=1, keepdims=True)
            # Behind the end there is padding, and no beam gains or loses by it.
            padding = ops.where(ops.arange(logits.shape[-1]) == 0, 0.0, -1e9)
            return ops.where(ended, padding, logits), None, cache

        return self.sampler(
            following, prompt, cache=cache, index=1, stop_token_ids=[Subwords.end], model=self
        )

    def begin(self, source, start):
        """What is known of the source, a dict of tensors, and what each step passes to the next."""
        return {"source": source}, None

    def advance(self, prompt, place, known, cache):
        """The logits (batch, vocabulary) of what follows the token at `place`, and the cache."""
        logits = self.model({"source": known["source"], "target": prompt})
        return ops.take(logits, place, axis=1), cache
