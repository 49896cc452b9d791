import keras
import numpy as np

from keras_nladv import private

TOLERANCES = {"float64": 1e-9, "float32": 1e-4, "float16": 2e-2, "bfloat16": 2e-2}


def verify(model, other, tolerance, size):
    """Compares two models on random inputs of several sizes.

    Args:
        model: The model that is right.
        other: The model to check.
        tolerance: The largest difference accepted, relative to the largest output, or `None`.
        size: What unknown sizes are, among others.

    Raises:
        ValueError: If the outputs differ by more, or if the model runs at none of the sizes.
    """
    layers = [each for each in private.sublayers(model) if not private.is_functional(each)]
    dtypes = {layer.compute_dtype for layer in layers}
    if any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers):
        # It computes in this dtype, which on torch is float32 for float64, too.
        dtypes |= {keras.backend.result_type(dtype, "float32") for dtype in dtypes}
    if tolerance is None:
        tolerance = max(TOLERANCES.get(dtype, 0.0) for dtype in dtypes)
    for inputs, expected in runs(model, lambda x: model(x, training=False), size, samples=3):
        _compare(expected, other(inputs, training=False), tolerance)


def runs(model, call, size, samples):
    """Runs a model on random inputs, of several sizes if sizes are free.

    Args:
        model: The model that says what the inputs are.
        call: Function of the inputs, which may fail for some of the sizes.
        size: The first of the sizes.
        samples: Number of samples in a batch.

    Yields:
        The inputs, and what `call` returns for them.

    Raises:
        ValueError: If all calls fail.
    """
    structure, _ = private.structures(model)
    rng = np.random.default_rng(0)
    is_free = any(None in tensor.shape[1:] for tensor in model.inputs)
    failure, done = None, 0
    for each in (size, size + 1, size // 2 + 3, 8) if is_free else (size,):
        inputs = _random(structure, rng, each, samples)
        try:
            outputs = call(inputs)
        except Exception as error:
            failure = error
            continue
        done += 1
        yield inputs, outputs
    if not done:
        raise ValueError(
            f"Model '{model.name}' could not be run on random inputs to compare the collapsed one "
            f"with it; give a `size` that it accepts. It failed with {type(failure).__name__}: "
            f"{failure}"
        ) from failure


def _random(structure, rng, size, samples):
    """Random inputs for tensors whose unknown sizes are `size`."""

    def draw(tensor):
        shape = (samples, *(size if n is None else n for n in tensor.shape[1:]))
        if "float" in tensor.dtype:
            # NumPy has no bfloat16.
            dtype = "float32" if tensor.dtype == "bfloat16" else tensor.dtype
            return rng.normal(size=shape).astype(dtype)
        # Small numbers are in the vocabulary of any embedding.
        return rng.integers(0, 2, size=shape).astype(tensor.dtype)

    return keras.tree.map_structure(draw, structure)


def _compare(expected, received, tolerance):
    for right, other in zip(*map(keras.tree.flatten, (expected, received)), strict=True):
        dtype = keras.backend.standardize_dtype(right.dtype)
        right, other = (
            keras.ops.convert_to_numpy(
                keras.ops.cast(x, "float64" if dtype == "float64" else "float32")
            )
            for x in (right, other)
        )
        largest = np.abs(right).max(initial=0.0)
        difference = np.abs(right - other).max(initial=0.0) / (largest or 1.0)
        if not difference <= tolerance:
            raise ValueError(
                f"The collapsed model's outputs differ by {difference:.2g} of the largest, more "
                f"than `tolerance`={tolerance:.2g}. Nothing is returned. If the model's numbers "
                "are large inside, a larger `tolerance` may be right; else this is an error of "
                "`collapse`, please report it."
            )
