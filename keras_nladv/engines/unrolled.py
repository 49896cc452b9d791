import contextlib

import keras

from keras_nladv._common.temporarily import temporarily
from keras_nladv._keras import private


def unrolled(model, specs):
    """Lets recurrent layers compute step by step, where the number of steps is known.

    Converters do not take all loops: those of Keras on Torch go through the samples, too, so that
    the number of these would be fixed, as it has to be in those of TensorFlow for LiteRT. OpenVINO
    does not know the latter.

    Args:
        model: A model with a graph.
        specs: List of `KerasTensor`s, what its inputs are.
    """
    if any(None in spec.shape[1:] for spec in specs):
        return contextlib.nullcontext()
    layers = private.sublayers(model)
    # On Torch, Keras takes no step backwards along a mask.
    has_masks = keras.backend.backend() == "torch" and any(
        isinstance(layer, keras.layers.Masking) or getattr(layer, "mask_zero", False)
        for layer in layers
    )
    recurrent = [layer for layer in layers if isinstance(layer, keras.layers.RNN)]
    found = [layer for layer in recurrent if not (layer.go_backwards and has_masks)]
    return temporarily(found, unroll=True)
