"""Errors that are the user's to mend, and how a recipe ends with them."""

import atexit
import contextlib
import errno
import os
import sys
from collections.abc import Iterator

# A disk, or what of it this user may have, is full.
FULL = {errno.ENOSPC, errno.EDQUOT}


class RecipeError(ValueError):
    """What the user can mend, wrong arguments and files first of all."""


def show_errors_plainly() -> None:
    """Ends with one line and no traceback where it is the user who can mend something.

    That is a `RecipeError`, a disk that is full, Ctrl-C, and a reader of the output that has gone:
    then with none.
    """

    def hook(kind, error, traceback):
        if issubclass(kind, RecipeError):
            print(f"Error: {error}", file=sys.stderr)
        elif issubclass(kind, KeyboardInterrupt):
            print("Interrupted. --resume goes on after what is finished.", file=sys.stderr)
        elif issubclass(kind, BrokenPipeError):
            _forget_output()
        elif issubclass(kind, OSError) and error.errno in FULL:
            print(f"Error: {error}. Make room; --resume goes on from there.", file=sys.stderr)
        else:
            sys.__excepthook__(kind, error, traceback)

    sys.excepthook = hook
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # It was closed: what is written to it would go to the next file that is opened.
            # It stays open to the end, so there is no `with`, as the check wants it.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            # A terminal that cannot show a letter is no reason to end; and who reads what is
            # written to a pipe reads it when it is written.
            stream.reconfigure(errors="backslashreplace", line_buffering=True)


@contextlib.contextmanager
def plain_errors(option: str) -> Iterator[None]:
    """Takes what Keras says of an option for what it is: the user's to mend."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{option}: {error}") from error


@atexit.register
def _flush():
    # Output may be closed by then, or be no file.
    with contextlib.suppress(AttributeError, ValueError):
        try:
            sys.stdout.flush()
        except OSError:
            # Nobody reads it, or the disk is full: Python would end with a word and a status of its
            # own.
            _forget_output()


def _forget_output():
    """Lets Python end without a word of what it could not write."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
