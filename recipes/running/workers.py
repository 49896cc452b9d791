"""Processes beside this one that run the same recipe, each on a device of its own.

They get the configuration and what else they need line by line, on their standard input. None is
left behind: when this process ends, in whatever way, that input ends, and they do; and when one of
them is killed, this one ends.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
import time

from running.errors import RecipeError

_RANK = "KERAS_NLADV_RANK"
# So many seconds an error that all of them meet has to be shown by the first.
GRACE = 5.0
ENDED = "A process of --devices has ended. --resume goes on after what is finished."

_started: list[subprocess.Popen[str]] = []
_lines: queue.SimpleQueue[str] = queue.SimpleQueue()


def rank() -> int:
    """The number of this process: 0 for the first, which alone writes and shows anything."""
    return int(os.environ.get(_RANK, "0"))


def alone() -> bool:
    """Whether there are no others."""
    return rank() == 0 and not _started


def start(count: int, line: str) -> None:
    """Starts the processes beside this one.

    Args:
        count: Their number, with this one.
        line: What to tell them.
    """
    for number in range(1, count):
        worker = subprocess.Popen(
            [sys.executable, sys.argv[0]],
            env={**os.environ, _RANK: str(number)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        _started.append(worker)
        threading.Thread(target=_end_with, args=(worker,), daemon=True).start()
    tell(line)


def tell(line: str) -> None:
    """Gives a line to all that were started."""
    for worker in _started:
        try:
            print(line, file=worker.stdin, flush=True)
        except OSError as error:
            raise RecipeError(ENDED) from error


def told() -> str:
    """The next line that this process, which is not the first, was given."""
    if not _reader.is_alive():
        # Ctrl-C reaches all of them, and what the user can mend all of them find. The first tells.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        show = sys.excepthook
        sys.excepthook = lambda kind, *error: issubclass(kind, RecipeError) or show(kind, *error)
        _reader.start()
    return _lines.get()


def _read():
    # Without a buffer, whose lock Python would miss at its end.
    with open(0, "rb", buffering=0, closefd=False) as lines:
        for line in lines:
            _lines.put(line.decode().rstrip())
    os._exit(1)


def _end_with(worker):
    status = worker.wait()
    if status:
        time.sleep(GRACE)
        print(f"Error: {ENDED} Its status was {status}.", file=sys.stderr, flush=True)
        os._exit(1)


_reader = threading.Thread(target=_read, daemon=True)
