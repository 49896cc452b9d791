"""Processes of their own, into which Keras has been imported: that takes most of their time."""

import contextlib
import multiprocessing
import sys
import tempfile
from pathlib import Path

# None that has computed anything is copied: that would hang.
METHODS = multiprocessing.get_all_start_methods()
CONTEXT = multiprocessing.get_context("forkserver" if "forkserver" in METHODS else "spawn")
CONTEXT.set_forkserver_preload(["keras"])


def run(code, *arguments):
    """Runs code in a process that has imported Keras and nothing of this library.

    Args:
        code: String. What is run.
        *arguments: What it finds in `sys.argv`.

    Returns:
        Tuple of the exit status and of what was written to stdout and stderr.
    """
    with tempfile.TemporaryDirectory() as directory:
        said = Path(directory) / "said.txt"
        process = CONTEXT.Process(
            target=_main, args=(code, [str(each) for each in arguments], said)
        )
        process.start()
        process.join(300)
        if process.exitcode is None:
            process.kill()
            process.join()
        return process.exitcode, said.read_text()


def _main(code, arguments, said):
    sys.argv = ["-c", *arguments]
    with (
        open(said, "w", buffering=1) as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        try:
            exec(code, {"__name__": "__main__"})
        except Exception:
            sys.excepthook(*sys.exc_info())
            sys.exit(1)
