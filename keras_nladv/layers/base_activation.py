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

    Each unit is to be linear or not by itself: the base activation has to be a function of one
    number, the same for all, or one for each channel in a layer that has weights for that.

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
    tried = _like(activation) if is_layer else activation
    if is_layer and tried is not activation:
        tried.trainable = True  # Frozen weights are no state.
    if is_layer and tried.non_trainable_variables:
        return "has state"
    try:
        first, second = (_applied(tried, PROBE, training) for training in trainings)
        if is_layer and tried.non_trainable_variables:
            return "has state"
        if first.shape != SHAPE or not all(map(_agree, *_moved(tried, first, trainings[0]))):
            return "is not applied to each element by itself"
    except Exception as error:
        if is_layer and tried.built and tried.variables:
            return None  # It has weights for as many channels as it has been called on.
        reason = str(error).partition("\n")[0]
        return f"cannot be applied to any tensor ({type(error).__name__}: {reason})"
    if not _agree(first, second):
        return "behaves differently in training" if is_layer else "draws random numbers"
    return None


def _moved(activation, outputs, training):
    """What comes out, and what should, when elements change places, or when one changes."""
    if not getattr(activation, "variables", None):
        moved = _applied(activation, PROBE[ORDER], training)
        return [moved.ravel()], [outputs.ravel()[ORDER]]
    trials = [np.where(np.arange(PROBE.size) == i, 3.0, PROBE).astype("float32") for i in (0, 7)]
    received = [_applied(activation, trial, training).ravel() for trial in trials]
    others = [trial == PROBE for trial in trials]
    return (
        [each[other] for each, other in zip(received, others, strict=True)],
        [outputs.ravel()[other] for other in others],
    )


def _like(layer):
    """One like it, not built: a layer may build itself for what it is called on."""
    # Read from a configuration, a lambda would not know the names around it.
    if isinstance(layer, keras.layers.Lambda):
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
