"""Recipes in processes of their own, as a user starts them."""

import os
import shlex
import subprocess
import sys

import keras

from .conftest import RECIPES

BACKEND = keras.backend.backend()


def start(recipe, arguments):
    """Starts a recipe, the name of its file, and returns the process."""
    command = [sys.executable, "-W", "error::UserWarning", str(RECIPES / recipe)]
    return subprocess.Popen(
        [*command, *shlex.split(arguments)],
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
