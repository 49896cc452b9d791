"""Sentences in, sentences out; and how good they are."""

import numpy as np
import sacrebleu

from data.sentence_batches import padded


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
        rows = [
            decoding.predict_on_batch(ids[first : first + batch_size])
            for first in range(0, count, batch_size)
        ]
        self.texts = subwords.decode(np.concatenate(rows)[: len(sources), 1:])

    def scores(self, references):
        """BLEU and chrF of sacrebleu, and the share of those that are exactly right."""
        bleu, chrf = sacrebleu.metrics.BLEU(), sacrebleu.metrics.CHRF()
        return {
            "bleu": bleu.corpus_score(self.texts, [references]).score,
            "chrf": chrf.corpus_score(self.texts, [references]).score,
            "exact_match": sum(map(str.__eq__, self.texts, references)) / len(references),
            "signature": str(bleu.get_signature()),
        }
