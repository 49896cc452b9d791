"""Files that are there as a whole or not at all."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from running.errors import RecipeError

PARTIAL = "partial-"


def save(file: Path, writer: Callable[[Path], Any]) -> None:
    """Lets `writer(path)` write a file, so that it is there as a whole or not at all.

    Raises:
        RecipeError: If it cannot be written: the disk is full, say.
    """
    # The ending stays: it tells some writers what to write.
    partial = file.with_name(f"{PARTIAL}{file.name}")
    try:
        writer(partial)
        with open(partial, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(partial, file)
    except Exception as error:
        # HDF5 has errors of its own for a disk that is full.
        if not isinstance(error, OSError) and "No space left" not in str(error):
            raise
        # What is there of it takes room, and is of no use.
        with contextlib.suppress(OSError):
            partial.unlink()
        raise RecipeError(
            f"`{file}` cannot be written: {error}. Mend that; --resume goes on after what is "
            "finished."
        ) from error


def write(file: Path, text: str) -> None:
    """Writes a text file, as `save` does."""
    # Names of files that are not of this encoding are kept as they are.
    save(file, lambda path: path.write_text(text, encoding="utf-8", errors="surrogateescape"))
