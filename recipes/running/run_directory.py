"""The directory that a run has for itself."""

import atexit
import contextlib
import os
from pathlib import Path

import filelock

from running.errors import RecipeError

LOCK = ".lock"
# What to do where files of a run are damaged.
ANEW = "Start again in a new --run-dir."
# What this process has: the lock, and the directories that it made.
_claimed: dict[Path, tuple[filelock.BaseFileLock, list[Path]]] = {}


def checkpoint_file(epochs: int) -> str:
    """The name of the file in a run directory that holds the state after so many epochs."""
    return f"checkpoints/epoch-{epochs:04}.weights.h5"


def claim(path: Path, option: str) -> None:
    """Makes a directory if need be, and keeps other processes out until this one ends.

    A process that is killed leaves nothing locked.

    Args:
        path: The directory.
        option: The option that it is given by.

    Raises:
        RecipeError: If it cannot be made or written, or if another process has it.
    """
    path = path.absolute()
    # Of a run that ended in this process.
    release(path)
    made = [each for each in (path, *path.parents) if not os.path.exists(each)]
    lock = filelock.FileLock(path / LOCK)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise RecipeError(
            f"{option} {path} is that of another process, which is running. Wait for it, or choose "
            "another directory."
        ) from error
    except NotImplementedError:
        print(f"The file system of {path} has no locks: let no other process use the directory.")
    except OSError as error:
        _remove(made)
        raise RecipeError(f"{option} {path} cannot be made or written: {error}.") from error
    _claimed[path] = lock, made


@atexit.register
def release(path: Path | None = None) -> None:
    """Lets others have a directory. It is removed if it was made and nothing was written there.

    Args:
        path: The directory, `None` for all.
    """
    for each in [*_claimed] if path is None else [path.absolute()]:
        lock, made = _claimed.pop(each, (None, []))
        if lock:
            lock.release()
        _remove(made)


def _remove(directories):
    """Removes directories, from the inside out, that hold nothing but a lock."""
    with contextlib.suppress(OSError):
        for path in directories:
            if [each.name for each in path.iterdir()] == [LOCK]:
                (path / LOCK).unlink()
            path.rmdir()
