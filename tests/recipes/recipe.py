import contextlib
import dataclasses
import io
import os
import runpy
import shlex
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from PIL import Image

from running.run_directory import release
from tests import processes

from .conftest import RECIPES

BACKEND = keras.backend.backend()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A recipe as a user starts it.

    Args:
        name: The name of its file.
    """

    name: str

    def start(self, arguments):
        """Starts it in a process of its own, and returns the process."""
        warnings = ["-W", "error::UserWarning"]
        # JAX may find what a process that was killed left in its cache, and compiles again.
        warnings += ["-W", "ignore:Error reading persistent compilation cache:UserWarning"]
        return subprocess.Popen(
            [sys.executable, *warnings, str(RECIPES / self.name), *shlex.split(arguments)],
            env={**os.environ, "KERAS_BACKEND": BACKEND},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, arguments):
        """Runs it in a process of its own; returns its exit status, stdout and stderr."""
        process = self.start(arguments)
        out, err = process.communicate()
        return process.returncode, out, err

    def finished(self, arguments, path):
        """Runs it in the new directory `path`; returns that, and what was printed.

        Apart: `cifar.py` is what starts as users start it, on each backend.
        """
        status, out = self.run_apart(f"{arguments} --run-dir {path}")
        assert status == 0, out
        return path, out

    def killed_and_resumed(self, arguments, path, is_time, later=0.0):
        """Kills a run in the new directory `path`, and goes on with it; returns what was printed.

        Args:
            arguments: The arguments, without the directory.
            path: The directory.
            is_time: See `kill`.
            later: See `kill`.
        """
        kill(self.start(f"{arguments} --run-dir {path}"), is_time, later)
        status, out = self.run_apart(f"--run-dir {path} --resume")
        assert status == 0, out
        return out

    def run_apart(self, arguments):
        """Runs it in a process that has imported Keras: what ran before changes nothing.

        Returns its exit status, and stdout and stderr in one.
        """
        file = str(RECIPES / self.name)
        code = (
            "import runpy, sys, warnings; warnings.simplefilter('error', UserWarning); "
            f"sys.argv[0] = {file!r}; runpy.run_path({file!r}, run_name='__main__')"
        )
        return processes.run(code, *shlex.split(arguments))

    def run_here(self, arguments):
        """Runs it in this process, which need not be started, and returns the same.

        The last digits of a training may depend on what ran here before, and files of one that is
        broken off stay open for a while.
        """
        file = str(RECIPES / self.name)
        keras.utils.clear_session()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(io.StringIO()) as out,
            contextlib.redirect_stderr(io.StringIO()) as err,
        ):
            patch.setattr(sys, "argv", [file, *shlex.split(arguments)])
            # The recipe sets its own.
            patch.setattr(sys, "excepthook", sys.excepthook)
            try:
                runpy.run_path(file, run_name="__main__")
                status = 0
            except SystemExit as end:
                status = end.code or 0
            except Exception as error:
                sys.excepthook(type(error), error, error.__traceback__)
                status = 1
            finally:
                # As at the end of a process.
                release()
        return status, out.getvalue(), err.getvalue()

    def assert_refuses(self, arguments, message, directory, statuses=(1, 2)):
        """Checks what is said of arguments, and that nothing is written in the current directory.

        Args:
            arguments: The arguments.
            message: What is said.
            directory: Path of the current directory.
            statuses: The exit statuses that are right.
        """
        before = list(directory.iterdir())
        status, _, err = self.run_here(arguments)
        assert status in statuses
        # The parser of arguments, which exits with 2, draws a box around what it says.
        assert message in (err if status == 1 else " ".join(err.replace("│", " ").split()))
        assert "Traceback" not in err
        assert list(directory.iterdir()) == before

    def assert_does_not_run_again(self, path, arguments, differing, message):
        """Checks that a finished run is only shown again, and that nothing is changed in it.

        Args:
            path: The run directory.
            arguments: Those of the run.
            differing: Others, that do not fit it.
            message: What is said to these.
        """
        before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
        status, out, _ = self.run_here(f"--run-dir {path} --resume")
        assert status == 0
        assert out.endswith((path / "report.txt").read_text() + "\n")
        refused = {arguments: "holds a run already", f"{differing} --resume": message}
        for given, said in refused.items():
            status, _, err = self.run_here(f"--run-dir {path} {given}")
            assert status == 1
            assert said in err
            assert "Traceback" not in err
        assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


def kill(process, is_time, later=0.0):
    """Kills a process that runs.

    Args:
        process: The process.
        is_time: Function that tells whether it is time.
        later: Float. It is killed up to so many seconds later, in whatever comes then, writing
            included.
    """
    while not is_time():
        assert process.poll() is None
        time.sleep(0.005)
    time.sleep(np.random.default_rng().uniform(0, later))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def assert_is_picture(path):
    """Checks that a picture is no blank."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert min(pixels.shape[:2]) > 200
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10
