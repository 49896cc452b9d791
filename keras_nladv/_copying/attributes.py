"""What layers were given as attributes after they had been made, and do not list as arguments."""

import functools
import types

import keras
import numpy as np

PLAIN = (bool, int, float, complex, str, bytes, type(None), types.FunctionType)
PLAIN += (np.ndarray, np.generic)
# Of what all layers have, what may be set.
SETTABLE = {"_supports_masking", "supports_masking", "autocast"}


def transfer_attributes(original, copy, but=()):
    """Gives a copy of a layer the numbers, names and functions that its original was given.

    Args:
        original: A layer, as it is now.
        copy: Another layer, made and built by the same configuration.
        but: Names of attributes that the copy keeps.
    """
    for key, value in vars(original).items():
        if key in but or key in _attributes_of_keras() or not is_plain(value):
            continue
        ours = vars(copy).get(key)
        # On torch, layers are not in `vars`.
        if not is_plain(ours) or isinstance(getattr(copy, key, None), keras.Layer):
            continue
        if not _equal(value, ours):
            if isinstance(value, (list, dict)):
                # It may be changed in place, and so would that of the other.
                value = value.copy()
            setattr(copy, key, value)


def is_plain(value):
    """Whether a value is a number, a function, an array or such, or a container of these."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    return isinstance(value, PLAIN)


def _equal(one, other):
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return type(one) is type(other) and one.dtype == other.dtype and np.array_equal(one, other)
    try:
        return type(one) is type(other) and bool(one == other)
    except ValueError:
        return False  # Containers of arrays.


@functools.cache
def _attributes_of_keras():
    return vars(keras.Layer(name="layer")).keys() - SETTABLE
