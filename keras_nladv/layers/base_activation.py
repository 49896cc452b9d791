from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
from keras import ops

NO_UNITS = ("linear", "softmax", "log_softmax", "sparsemax", "glu")
PROBE = np.array([-2.0, 0.5, -0.25, 8.0, 1.5, -6.0, 0.75, -1.0], "float32")
SHAPE = (2, 2, 2)
# Along no axis stand two elements beside each other that did before.
ORDER = [1, 2, 6, 5, 7, 4, 0, 3]


def unfit(activation):
    """Says why a function or layer cannot be the base activation of units.

    Each unit is to be linear or not by itself, and what is linear is merged for a few channels at a
    time: the base activation has to be one function of one number.

    Args:
        activation: What `keras.activations.get` returned.

    Returns:
        A string, as in "it ...", or `None` if nothing is wrong.
    """
    if isinstance(activation, keras.layers.Activation):
        return unfit(activation.activation)
    name = getattr(activation, "__name__", None)
    if name in NO_UNITS or isinstance(activation, keras.layers.Identity):
        return "is linear or mixes elements"
    if activation is getattr(keras.activations, name or "", None):
        return None
    # While a model is traced, no numbers can be had in the thread that does it.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_tried, activation).result()


def _tried(activation):
    is_layer = isinstance(activation, keras.Layer)
    trainings = (False, True) if is_layer else (None, None)
    try:
        tried = _not_built(activation) if is_layer else activation
        if is_layer and tried.variables:
            return "has weights or other state"
        first, second = (_applied(tried, PROBE, training) for training in trainings)
        moved = _applied(tried, PROBE[ORDER], trainings[0])
    except Exception as error:
        reason = str(error).partition("\n")[0]
        return f"cannot be applied to any tensor ({type(error).__name__}: {reason})"
    if is_layer and tried.variables:  # Made as it was called.
        return "has weights or other state"
    if first.shape != SHAPE or not _agree(first.ravel()[ORDER], moved.ravel()):
        return "is not applied to each element by itself"
    if not _agree(first, second):
        return "behaves differently in training" if is_layer else "draws random numbers"
    return None


def _not_built(layer):
    """A layer that may be called: one like it if it would build itself for what it is called on."""
    # Read from a configuration, a lambda would not know the names around it.
    if layer.built or isinstance(layer, keras.layers.Lambda):
        return layer
    try:
        return type(layer).from_config(layer.get_config())
    except Exception:
        return layer  # Keras says what is wrong with it when it is saved.


def _applied(activation, values, training):
    options = {} if training is None else {"training": training}
    outputs = activation(ops.convert_to_tensor(values.reshape(SHAPE)), **options)
    return ops.convert_to_numpy(outputs).astype("float32")


def _agree(one, other):
    # Vectorized instructions round otherwise than those for what is left over.
    return np.allclose(one, other, 1e-2, 1e-3, equal_nan=True)
