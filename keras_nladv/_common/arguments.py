import numbers
import os
import re
import sys

import keras
import numpy as np


def scalar(value):
    """`value`, or if it is an array without axes the number in it."""
    return value.item() if isinstance(value, (np.ndarray, np.generic)) and not value.ndim else value


def integer(name, value, least):
    """`value` as an int.

    Raises:
        ValueError: If it is no integer, or less than `least`.
    """
    plain = scalar(value)
    valid = isinstance(plain, numbers.Integral) and not isinstance(plain, bool)
    if not valid or int(plain) < least:
        raise ValueError(
            f"`{name}` must be an integer of at least {least}. Received: {name}={value!r}"
        )
    return int(plain)


def number(name, value, wanted, within):
    """`value` as a float.

    Args:
        name: The name of the argument.
        value: What was given.
        wanted: What it must be, in words.
        within: Function that tells whether a finite number is in the range.

    Raises:
        ValueError: If it is no finite number, or out of range.
    """
    plain = scalar(value)
    valid = isinstance(plain, numbers.Real) and not isinstance(plain, bool)
    # No float is as large as integers can be.
    valid = valid and abs(plain) <= sys.float_info.max
    if not valid or not within(plain):
        raise ValueError(f"`{name}` must be {wanted}. Received: {name}={value!r}")
    return float(plain)


def flag(name, value):
    """`value` as a bool. Keras says 0 and 1 for some flags, as for `verbose`.

    Raises:
        ValueError: If it is neither True nor False.
    """
    plain = scalar(value)
    if not isinstance(plain, int) or plain not in (False, True):
        raise ValueError(f"`{name}` must be True or False. Received: {name}={value!r}")
    return bool(plain)


def directory(name, value):
    """`value`, the path of a directory that is there or can be made, as a string.

    Raises:
        ValueError: If it is no path, or one of another machine, as `gs://bucket/run`.
    """
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ValueError(f"`{name}` must be the path of a directory. Received: {name}={value!r}")
    path = os.fspath(value)
    # Also as `pathlib.Path` leaves it, with one slash. A single letter is a drive of Windows.
    if isinstance(path, str) and re.match(r"[a-z][a-z0-9+.-]+:/", path, re.IGNORECASE):
        raise ValueError(
            f"`{name}` must be a directory of this machine: files there grow while training runs, "
            "which object stores do not know. Mount the store as a directory, or copy what was "
            f"written when training has ended. Received: {name}={path!r}"
        )
    return path


def require_model(model):
    """Raises a `ValueError` if `model` is no Keras model. Those of Keras 2 can become one."""
    if isinstance(model, keras.Model):
        return
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(model).__mro__}
    if kinds & {"tf_keras.Model", "keras.Model", "tensorflow.Model"}:
        raise ValueError(
            f"`model` must be a model of Keras 3. Received: '{model.name}' of class "
            f"{type(model).__module__}.{type(model).__name__}, a model of Keras 2. Bring it over "
            'in a file: `model.save("model.h5")`, then, with Keras 3, '
            '`keras.saving.load_model("model.h5", compile=False)`. Layers of your own have to '
            "inherit from `keras.layers.Layer` of Keras 3."
        )
    raise ValueError(f"`model` must be a Keras model. Received: {model!r}")
