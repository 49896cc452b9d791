"""Sentences as numbers."""

import io
import itertools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from running.errors import RecipeError


class Subwords:
    """Pieces of words, made with SentencePiece, one vocabulary for all languages.

    Text with single blanks between words is the same again after `decode(encode(text))`. The
    exception is a character that the training text has not: it becomes the unknown token, which
    `decode` shows as " ⁇ ". Digits are pieces by themselves, so that years are spelled, not learned
    one by one.

    Attributes:
        size: Number of pieces, the four special tokens included.
        pad, unknown, start, end: The special tokens, 0 to 3.
    """

    pad, unknown, start, end = range(4)

    def __init__(self, model: bytes):
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor()
        self._processor.LoadFromSerializedProto(model)
        self.size: int = self._processor.get_piece_size()

    @classmethod
    def train(cls, sentences: Iterable[str], vocabulary: int, exactly: bool = True) -> "Subwords":
        """Makes a vocabulary from text, always the same.

        Args:
            sentences: The training text, in both languages.
            vocabulary: Number of pieces, the four special tokens included.
            exactly: Whether it is an error if the text yields fewer.

        Raises:
            RecipeError: If the text is too little or too much for so many pieces.
        """
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(sentences),
                model_writer=model,
                vocab_size=vocabulary,
                hard_vocab_limit=exactly,
                character_coverage=1.0,
                normalization_rule_name="identity",
                split_digits=True,
                pad_id=cls.pad,
                unk_id=cls.unknown,
                bos_id=cls.start,
                eos_id=cls.end,
                max_sentence_length=2**20,  # In bytes. Longer ones would be ignored.
                num_threads=1,  # It changes the result.
                minloglevel=2,
            )
        except RuntimeError as error:
            raise RecipeError(_what_is_wrong(vocabulary, str(error))) from error
        return cls(model.getvalue())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes it to a file."""
        Path(path).write_bytes(self._model)

    @classmethod
    def load(cls, path: str | os.PathLike[str], vocabulary: int) -> "Subwords":
        """Reads what `save` wrote.

        Args:
            path: The file.
            vocabulary: Number of pieces that it must have. A file that was cut off has fewer.

        Raises:
            RecipeError: If the file is missing or damaged, or of another vocabulary.
        """
        try:
            subwords = cls(Path(path).read_bytes())
        except (OSError, RuntimeError) as error:
            raise RecipeError(f"`{path}` cannot be read; is it complete? ({error})") from error
        if subwords.size != vocabulary:
            raise RecipeError(
                f"`{path}` must hold {vocabulary} pieces, but holds {subwords.size}: it is damaged "
                "or of another run."
            )
        return subwords

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """The pieces of each sentence, without start and end."""
        return self._processor.encode(list(sentences))

    def decode(self, ids: Iterable[Iterable[int]]) -> list[str]:
        """The sentences that pieces make; they end where the first end token is."""
        sentences = []
        for row in ids:
            pieces = itertools.takewhile(lambda i: i != self.end, map(int, row))
            sentences.append(self._processor.decode(list(pieces)))
        return sentences


def _what_is_wrong(vocabulary, message):
    """What SentencePiece says, for those who do not know its options."""
    if largest := re.search(r"value <= (\d+)", message):
        reason = f"the training text yields at most {largest[1]} pieces"
    elif smallest := re.search(r"required_chars. \d+ vs (\d+)", message):
        reason = f"the characters of the training text need at least {smallest[1]}"
    else:
        reason = f"SentencePiece cannot make it of the training text ({message.strip()})"
    return f"--vocabulary {vocabulary}: {reason}."
