"""Several devices, which a process has to ask for before it uses the first."""

import os
import subprocess
import sys
from pathlib import Path

import keras


def test_several_devices_come_to_the_same_as_one():
    finished = subprocess.run(
        [sys.executable, Path(__file__).with_name("everything.py")],
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend()},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
