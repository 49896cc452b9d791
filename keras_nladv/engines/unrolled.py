import contextlib

import keras

from keras_nladv._keras import private


@contextlib.contextmanager
def unrolled(model, specs):
    """Lets recurrent layers compute step by step, where the number of steps is known.

    Converters do not take all loops: those of Keras on Torch go through the samples, too, so that
    the number of these would be fixed, as it has to be in those of TensorFlow for LiteRT. OpenVINO
    does not know the latter.

    Args:
        model: A model with a graph.
        specs: List of `KerasTensor`s, what its inputs are.
    """
    layers = private.sublayers(model)
    is_known = not any(None in spec.shape[1:] for spec in specs)
    # On Torch, Keras takes no step backwards along a mask.
    has_masks = keras.backend.backend() == "torch" and any(
        isinstance(layer, keras.layers.Masking) or getattr(layer, "mask_zero", False)
        for layer in layers
    )
    found = [
        layer
        for layer in layers
        if isinstance(layer, keras.layers.RNN)
        and is_known
        and not (layer.unroll or (layer.go_backwards and has_masks))
    ]
    for layer in found:
        layer.unroll = True
    try:
        yield
    finally:
        for layer in found:
            layer.unroll = False
