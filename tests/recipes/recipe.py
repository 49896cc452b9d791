"""Recipes in processes of their own, as a user starts them."""

import os
import shlex
import signal
import subprocess
import sys
import time

import keras
import numpy as np
from PIL import Image

from .conftest import RECIPES

BACKEND = keras.backend.backend()


def start(recipe, arguments):
    """Starts a recipe, the name of its file, and returns the process."""
    warnings = ["-W", "error::UserWarning"]
    # JAX may find what a process that was killed left in its cache, and compiles again.
    warnings += ["-W", "ignore:Error reading persistent compilation cache:UserWarning"]
    return subprocess.Popen(
        [sys.executable, *warnings, str(RECIPES / recipe), *shlex.split(arguments)],
        env={**os.environ, "KERAS_BACKEND": BACKEND},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(recipe, arguments):
    """Runs a recipe and returns its exit status, and what it wrote to stdout and stderr."""
    process = start(recipe, arguments)
    out, err = process.communicate()
    return process.returncode, out, err


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


def assert_is_refused(recipe, arguments, message, directory, statuses=(1, 2)):
    """Checks what is said of arguments, and that nothing is written in the current directory.

    Args:
        recipe: The name of the recipe's file.
        arguments: The arguments.
        message: What is said.
        directory: Path of the current directory.
        statuses: The exit statuses that are right.
    """
    before = list(directory.iterdir())
    status, _, err = run(recipe, arguments)
    assert status in statuses
    # The parser of arguments, which exits with 2, draws a box around what it says.
    assert message in (err if status == 1 else " ".join(err.replace("│", " ").split()))
    assert "Traceback" not in err
    assert list(directory.iterdir()) == before


def assert_is_picture(path):
    """Checks that a picture is no blank."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert min(pixels.shape[:2]) > 200
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10


def assert_is_not_run_again(recipe, path, refused):
    """Checks that a finished run is only shown again, and that nothing is changed in it.

    Args:
        recipe: The name of the recipe's file.
        path: The run directory.
        refused: List of pairs: arguments that do not fit the run, and what is said to them.
    """
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    status, out, _ = run(recipe, f"--run-dir {path} --resume")
    assert status == 0
    assert out.endswith((path / "report.txt").read_text() + "\n")
    for arguments, message in refused:
        status, _, err = run(recipe, f"--run-dir {path} {arguments}")
        assert status == 1
        assert message in err
        assert "Traceback" not in err
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before
