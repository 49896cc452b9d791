"""Sentences in, sentences out; and how good they are."""

from pathlib import Path

import keras
import sacrebleu

from data.sentence_batches import padded
from data.subwords import Subwords
from networks.decoding import Decoding
from running.errors import RecipeError


def translate(config):
    """What a run that is finished makes of the sentence of its `--translate`.

    Args:
        config: The configuration of `translation.py`.

    Raises:
        RecipeError: If the sentence is too long.
    """
    keras.config.set_dtype_policy(config.precision)
    subwords = Subwords.load(Path(config.run_dir, "subwords.model"), config.vocabulary)
    [ids] = subwords.encode([" ".join(config.translate.split())])
    if len(ids) > config.max_length:
        raise RecipeError(
            f"--translate: the sentence has {len(ids)} tokens; {config.max_length} are what the "
            "run was trained on (--max-length)."
        )
    model = keras.models.load_model(Path(config.run_dir, "model.keras"), compile=False)
    decoding = Decoding(model, config.max_length, config.beam)
    return Translations(decoding, subwords, [ids], config.max_length, 1).texts[0]


class Translations:
    """Translations of sentences, and what they are measured by.

    Args:
        decoding: A `Decoding`.
        subwords: The `Subwords`.
        sources: List of lists, the ids of the sentences.
        length: Integer. Of a source with more tokens, these are read.
        batch_size: Integer.

    Attributes:
        texts: List of strings.
    """

    def __init__(self, decoding, subwords, sources, length, batch_size):
        # One size for all batches: backends compile for each.
        count = -(-len(sources) // batch_size) * batch_size
        ids = padded([sources[i % len(sources)][:length] for i in range(count)], length)
        # Not batch by batch: of each, TensorFlow would let every device read all.
        rows = decoding.predict(ids, batch_size=batch_size, verbose=0)
        self.texts = subwords.decode(rows[: len(sources), 1:])

    def scores(self, references):
        """BLEU and chrF of sacrebleu, and the share of those that are exactly right."""
        bleu, chrf = sacrebleu.metrics.BLEU(), sacrebleu.metrics.CHRF()
        return {
            "bleu": bleu.corpus_score(self.texts, [references]).score,
            "chrf": chrf.corpus_score(self.texts, [references]).score,
            "exact_match": sum(map(str.__eq__, self.texts, references)) / len(references),
            "signature": str(bleu.get_signature()),
        }
