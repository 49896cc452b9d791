"""What the benchmarks share."""

import importlib
import os
import platform

import keras
import numpy as np

import keras_nladv
from keras_nladv.engines.processor import processor
from keras_nladv.engines.timing import rounds_by_turns


def setting():
    """One line that says what was measured on: card or processor, backend and versions."""
    backend = keras.backend.backend()
    versions = {
        "keras": keras.__version__,
        backend: importlib.import_module(backend).__version__,
        "keras_nladv": keras_nladv.__version__,
        "Python": platform.python_version(),
    }
    return f"{card() or processor()}, {os.cpu_count()} cores; " + ", ".join(
        f"{name} {version}" for name, version in versions.items()
    )


def card():
    """The name of the GPU that the backend computes on, or `None`."""
    backend = importlib.import_module(keras.backend.backend())
    if backend.__name__ == "jax":
        device = backend.devices()[0]
        return None if device.platform == "cpu" else device.device_kind
    if backend.__name__ == "torch":
        return backend.cuda.get_device_name() if backend.cuda.is_available() else None
    found = backend.config.list_physical_devices("GPU")
    return (
        backend.config.experimental.get_device_details(found[0])["device_name"] if found else None
    )


def by_turns(title, steps, rounds, references=1):
    """Times functions by turns, so that whatever else the machine does hits all of them.

    Args:
        title: What they have in common.
        steps: Dict from names to functions of no arguments.
        rounds: Number of times that each is called.
        references: Number of them that all are compared with, the first ones.

    Returns:
        List of dicts, a row for each: `what` it is, the median of `ms`, and for each reference,
        `times` and its name, the ratio within a round: the median between the quartiles.
    """
    times = rounds_by_turns(list(steps.values()), rounds)
    rows = []
    for name, mine in zip(steps, times.T):
        row = {"what": f"{title}: {name}", "ms": 1e3 * float(np.median(mine))}
        for other, theirs in list(zip(steps, times.T))[:references]:
            if other != name:
                row[f"times {other}"] = np.percentile(mine / theirs, [25, 50, 75]).tolist()
        rows.append(row)
    return rows
