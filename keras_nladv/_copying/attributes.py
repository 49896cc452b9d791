"""What layers were given as attributes after they had been made, and do not list as arguments."""

import functools
import types

import keras
import numpy as np

PLAIN = (
    *(bool, int, float, complex, str, bytes, type(None)),
    *(types.FunctionType, np.ndarray, np.generic),
)
# Of what all layers have, what may be set.
SETTABLE = {"_supports_masking", "supports_masking", "autocast"}


def transfer_attributes(original, copy, but=()):
    """Gives a copy of a layer the numbers, names and functions that its original was given.

    Args:
        original: A layer, as it is now.
        copy: Another layer, made and built by the same configuration.
        but: Names of attributes that the copy keeps.
    """
    for key, value in differing(original, copy):
        if key in but:
            continue
        setattr(copy, key, unshared(value))
    for key, value in {**vars(original)}.items():
        if isinstance(value, types.MethodType) and value.__self__ is original:
            ours = vars(copy).get(key)
            if getattr(ours, "__func__", None) is not value.__func__:
                setattr(copy, key, types.MethodType(value.__func__, copy))


def differing(original, copy):
    """The attributes of a layer that its copy has otherwise, as pairs of a name and a value."""
    for key, value in {**vars(original)}.items():
        if key in _attributes_of_keras() or not is_plain(value):
            continue
        ours = vars(copy).get(key)
        # On torch, layers are not in `vars`.
        is_layer = isinstance(getattr(copy, key, None), keras.Layer)
        if is_plain(ours) and not is_layer and not _equal(value, ours):
            yield key, value


def is_plain(value):
    """Whether a value is a number, a function, an array or such, or a container of these."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    is_tensor = keras.ops.is_tensor(value) and not isinstance(value, keras.Variable)
    return is_tensor or isinstance(value, PLAIN)


def unshared(value):
    """The same value in lists and dicts of its own: others may be changed in place."""
    if isinstance(value, dict):
        return {key: unshared(each) for key, each in value.items()}
    return [unshared(each) for each in value] if isinstance(value, list) else value


def _equal(one, other):
    if keras.ops.is_tensor(one) and keras.ops.is_tensor(other):
        try:
            one, other = map(keras.ops.convert_to_numpy, (one, other))
        except Exception:
            return True  # They are of a graph, and have no values.
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return type(one) is type(other) and one.dtype == other.dtype and np.array_equal(one, other)
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:
        return False  # Containers of arrays.


@functools.cache
def _attributes_of_keras():
    return vars(keras.Layer(name="layer")).keys() - SETTABLE
