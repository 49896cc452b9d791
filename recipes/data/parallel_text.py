"""Parallel text: sentences, and their translations, from files."""

import gzip
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.subwords import Subwords
from running.errors import RecipeError


@dataclass
class ParallelText:
    """Pairs of a sentence in the language `source` and its translation into `target`."""

    name: str
    source: str
    target: str
    train: list[tuple[str, str]]
    val: list[tuple[str, str]]
    test: list[tuple[str, str]]
    # What is not as one would expect: pairs that were left out, a validation set of our making.
    note: str | None = None

    def encoded(self, subwords: Subwords) -> dict[str, list[tuple[list[int], list[int]]]]:
        """The pairs of each split, as pieces."""
        return {
            split: list(zip(*(subwords.encode(side) for side in zip(*getattr(self, split)))))
            for split in ("train", "val", "test")
        }


def read_parallel(
    folder: str | Path, source: str, target: str, sentences: int | None = None
) -> ParallelText:
    """Reads parallel text in the layout of Multi30k.

    Line i of `train.en` goes with line i of `train.de`; so do those of `val.*` and `test.*`. The
    files are UTF-8, plain or `.gz`; if a file is there as both, the plain one is read. Blanks
    around a line are cut off, and those within made one. A pair of which a side is empty is left
    out. Without `val.*`, every n-th pair of `train.*`, 5 % but at most 1,000, is for validation
    and not for training.

    Args:
        folder: The directory.
        source: Language to translate from, an ending of the files: `"en"`.
        target: Language to translate into.
        sentences: Number of pairs to train on, drawn at random, always the same and in the order
            of the files; `None` for all.

    Returns:
        The text in the order of the files.

    Raises:
        RecipeError: If files are missing, empty, damaged or not UTF-8, if those of the two
            languages differ in their number of lines, or if there are not so many pairs.
    """
    folder = Path(folder)
    if source == target:
        raise RecipeError(f"--source and --target must differ. Received: {source!r} for both")
    if not os.path.isdir(folder):
        raise RecipeError(f"--dataset: there is no folder `{folder}`.")
    splits, notes = {}, []
    for split in ("train", "val", "test"):
        files = [_find(folder, f"{split}.{language}") for language in (source, target)]
        if split == "val" and files == [None, None]:
            continue
        if None in files:
            raise RecipeError(_what_is_missing(folder, split, source, target))
        splits[split], dropped = _pairs(*files)
        if dropped:
            notes.append(f"{dropped:,} pairs of {split}, empty on a side, were left out")
    if "val" not in splits:
        splits["train"], splits["val"], step = _held_out(folder, splits["train"])
        notes.append(f"there is no val.*: every {step}th pair of train is for validation")
    train = splits["train"]
    if sentences is not None and sentences > len(train):
        raise RecipeError(
            f"--sentences must be at most {len(train)}, the number of pairs to train on in "
            f"`{folder}`. Received: {sentences}"
        )
    if sentences is not None:
        chosen = np.random.default_rng(0).permutation(len(train))[:sentences]
        splits["train"] = [train[i] for i in sorted(chosen)]
    return ParallelText(
        folder.resolve().name, source, target, **splits, note="; ".join(notes) or None
    )


def _find(folder, name):
    return next((f for f in (folder / name, folder / f"{name}.gz") if f.is_file()), None)


def _what_is_missing(folder, split, source, target):
    wanted = " and ".join(f"{split}.{language}[.gz]" for language in (source, target))
    names = {file.name.removesuffix(".gz") for file in folder.glob(f"{split}.*") if file.is_file()}
    there = sorted(name.removeprefix(f"{split}.") for name in names)
    return (
        f"`{folder}` must hold the files {wanted}. It holds {split}.* in "
        f"{'the languages ' + ', '.join(there) if there else 'no language'}."
    )


def _pairs(*files):
    """The pairs of two files, and the number of those that have an empty side."""
    sources, targets = (_lines(file) for file in files)
    if len(sources) != len(targets):
        raise RecipeError(
            f"Line i of `{files[0]}` must go with line i of `{files[1]}`, but the first has "
            f"{len(sources):,} lines and the second {len(targets):,}."
        )
    pairs = [pair for pair in zip(sources, targets) if all(pair)]
    if not pairs:
        raise RecipeError(f"`{files[0]}` and `{files[1]}` have no line that is filled in both.")
    return pairs, len(sources) - len(pairs)


def _lines(file):
    try:
        data = file.read_bytes()
        if file.suffix == ".gz":
            data = gzip.decompress(data)
    # What truncated or foreign files raise.
    except (OSError, EOFError, zlib.error) as error:
        raise RecipeError(f"`{file}` cannot be read; is it complete? ({error})") from error
    if not data.strip():
        raise RecipeError(f"`{file}` is empty.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(
            f"`{file}` must be UTF-8, but its line {line:,} is not: byte {error.start:,} of the "
            f"file is 0x{data[error.start]:02x}. Convert it, with iconv for example."
        ) from error
    # Other characters that Python takes for ends of lines are blanks: they may stand in one
    # language only.
    return [" ".join(line.split()) for line in text.removesuffix("\n").split("\n")]


def _held_out(folder, train):
    step = max(20, -(-len(train) // 1000))
    val = train[step - 1 :: step]
    if not val:
        raise RecipeError(
            f"`{folder}` has no files val.*, and only {len(train)} pairs in train.*: too few to "
            f"hold out some. At least {step} are needed."
        )
    del train[step - 1 :: step]
    return train, val, step
