"""What every model that is sparsified has to go through."""

import keras
import numpy as np

from keras_nladv import SparsePReLU, path_length, sparsify
from keras_nladv._keras import private


def arrays(model, data, training=False, compiled=False):
    """The outputs of a model, flattened, as NumPy arrays."""
    # For large models on JAX, which compiles each of their calls otherwise.
    compiled = compiled and keras.backend.backend() == "jax"
    outputs = model.predict(data, verbose=0) if compiled else model(data, training=training)
    outputs = keras.tree.flatten(outputs)
    return [keras.ops.convert_to_numpy(output).astype("float64") for output in outputs]


def assert_telling(outputs, tolerance=1e-6):
    """Sees that outputs differ between samples, by more than rounding: else any would do."""
    seen = max(np.ptp(x, axis=0).max() / np.abs(x).max() for x in outputs)
    assert seen > 10 * tolerance, f"The outputs are the same for all samples, but for {seen:.2g}."


def assert_close(actual, expected, tolerance=1e-6):
    """Compares arrays relative to the largest value of each."""
    for one, other in zip(actual, expected, strict=True):
        assert np.isfinite(other).all()
        assert np.abs(other).max() > 0, "The comparison would mean nothing."
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())


def traces(model):
    """How often the layers of a model have been called, and checksums of its weights."""
    layers = private.sublayers(model)
    return (
        [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in layers],
        [hash(keras.ops.convert_to_numpy(weight.value).tobytes()) for weight in model.weights],
    )


def randomize(model, seed=0):
    """Draws all weights that are the same in all channels at first, so that errors show."""
    rng = np.random.default_rng(seed)
    for layer in private.sublayers(model):
        if isinstance(layer, (keras.layers.BatchNormalization, keras.layers.LayerNormalization)):
            for weight in layer.weights:
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif hasattr(layer, "bias") and layer.bias is not None:
            layer.bias.assign(rng.uniform(-0.5, 0.5, layer.bias.shape))
    return model


def calibrate(model, data):
    """Gives normalizations the statistics of a batch: with others, little of it may be left."""
    normalizations = [
        layer
        for layer in private.sublayers(model)
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    for layer in normalizations:
        layer.momentum = 0.0
    if normalizations:
        model(data, training=True)
    return model


def sparsified(model, data, tolerance=1e-6, measured=True, compiled=False, **options):
    """Sparsifies a model and checks what holds for all. Returns the new model and the report."""
    expected, before = arrays(model, data, compiled=compiled), traces(model)
    assert_telling(expected, tolerance)
    sparse, report = sparsify(model, return_report=True, **options)
    assert_close(arrays(sparse, data, compiled=compiled), expected, tolerance)
    assert traces(model) == before
    own = {id(weight) for weight in model.weights}
    assert not any(id(weight) in own for weight in sparse.weights)
    if measured:
        for normalized in (True, False):
            length = path_length(sparse, normalized)
            np.testing.assert_allclose(length, path_length(model, normalized), rtol=1e-12)
    return sparse, report


def activations(model):
    """The distinct `SparsePReLU` layers of a model and of those nested in it, in order."""
    layers = [layer for layer in private.sublayers(model) if isinstance(layer, SparsePReLU)]
    return list({id(layer): layer for layer in layers}.values())
