import warnings
from contextlib import contextmanager

import keras
import numpy as np

from keras_nladv._common.random_inputs import random_inputs
from keras_nladv._keras import private
from keras_nladv.tangent.differentiation import full_precision

TOLERANCES = {"float64": 1e-9, "float32": 1e-4, "float16": 2e-2, "bfloat16": 2e-2}
# What a number changes by in its last digit.
DIGITS = {"float64": 2e-16, "float32": 1e-7, "float16": 1e-3, "bfloat16": 1e-2}
# Outputs of two models that are the same differ by this many times what they change by if the
# inputs change in their last digit, at most.
ROUNDING = 30
# Random numbers this large are tried in turn: larger ones may overflow in the model.
SCALES = (1.0, 0.1, 0.01)
# Sizes that are tried if the model takes none before them. It may have a table of few positions, or
# make its inputs smaller many times.
LAST_SIZES = (4, 2, 1, 64, 128, 224)


class UselessInputsError(ValueError):
    """Says why nothing can be told from what a model puts out."""


def verify(model, other, tolerance, size, example_inputs=None):
    """Compares two models on inputs that the first one takes.

    Random layers draw the same numbers in both. What differs between two runs of the first model
    all the same is left out, and a warning says so.

    Args:
        model: The model that is right.
        other: The model to check.
        tolerance: The largest difference accepted, relative to the largest output, or `None`.
        size: What unknown sizes are in random inputs, among others.
        example_inputs: A batch to compare on, in place of random ones.

    Raises:
        ValueError: If the outputs differ by more, or if nothing can be told on any inputs.
    """
    layers = [each for each in private.sublayers(model) if not private.is_functional(each)]
    dtypes = {layer.compute_dtype for layer in layers}
    if any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers):
        # It computes in this dtype, which on torch is float32 for float64, too.
        dtypes |= {keras.backend.result_type(dtype, "float32") for dtype in dtypes}
    if tolerance is None:
        tolerance = max(TOLERANCES.get(dtype, 0.0) for dtype in dtypes)
    digit = max(DIGITS.get(dtype, 0.0) for dtype in dtypes)
    # Whether outputs that were not finite agreed wherever they were.
    agreed_in_part = False

    def judged(inputs):
        nonlocal agreed_in_part
        useless = None
        for scale in SCALES if example_inputs is None else (1.0,):
            scaled = _times(inputs, np.array(scale))
            expected = _outputs(model, scaled)
            try:
                received = _outputs(other, scaled)
            except Exception as error:
                return (
                    "The collapsed model does not take inputs that the given one takes, please "
                    f"report it: {type(error).__name__}: {error}"
                )
            finite = [np.isfinite(right) for right in expected]
            differences = [
                _difference(right[where], got[where])
                for right, got, where in zip(expected, received, finite, strict=True)
            ]
            failed = [i for i, each in enumerate(differences) if not each <= tolerance]
            if not all(where.all() for where in finite):
                agreed_in_part |= not failed and any(where.any() for where in finite)
                useless = "its outputs are not finite"
                continue
            again = _outputs(model, scaled) if failed else []
            drawn = [i for i in failed if not np.array_equal(expected[i], again[i])]
            if drawn:
                warnings.warn(
                    f"`collapse` did not compare outputs {drawn} of model '{model.name}', which "
                    "are not the same in two runs of the given model. Draw random numbers with "
                    "`keras.random.SeedGenerator`s of layers to have them compared.",
                    stacklevel=5,
                )
            failed = [i for i in failed if i not in drawn]
            if not failed:
                return None
            difference = max(differences[i] for i in failed)
            shaken = _outputs(model, _shaken(scaled, digit))
            change = max(_difference(expected[i], shaken[i]) for i in failed)
            if difference <= ROUNDING * change:
                useless = (
                    f"its outputs change by {change:.2g} of the largest if its inputs change in "
                    f"their last digit, and those of the collapsed model differ by {difference:.2g}"
                    f", more than `tolerance`={tolerance:.2g}"
                )
                continue
            return (
                f"The collapsed model's outputs differ by {difference:.2g} of the largest, more "
                f"than `tolerance`={tolerance:.2g}. Nothing is returned. If the model's numbers "
                "are large inside, a larger `tolerance` may be right; else this is an error of "
                "`collapse`, please report it."
            )
        kind = "random inputs" if example_inputs is None else "`example_inputs`"
        raise UselessInputsError(
            f"The collapsed model cannot be compared with model '{model.name}' as given: on {kind} "
            f"{useless}. Nothing is returned. Give `example_inputs`, a batch of what the model is "
            "used on, or a larger `tolerance` if that is what it is."
        )

    try:
        for _, message in runs(model, judged, size, 3, example_inputs):
            if message:
                raise ValueError(message)
    except UselessInputsError:
        if not agreed_in_part:
            raise


def runs(model, call, size, samples, example_inputs=None):
    """Runs a model on random inputs, of several sizes if sizes are free, or on those given.

    Args:
        model: The model that says what the inputs are.
        call: Function of the inputs, which may fail for some of the sizes.
        size: The first of the sizes.
        samples: Number of samples in a batch.
        example_inputs: A batch in place of random ones, as often as makes that number of samples.

    Yields:
        The inputs, and what `call` returns for them.

    Raises:
        ValueError: If all calls fail.
    """
    structure, _ = private.structures(model)
    failure, done = None, 0
    for number, inputs in enumerate(_batches(structure, size, samples, example_inputs)):
        if done and number >= 4:
            break
        try:
            outputs = call(inputs)
        except Exception as error:
            if failure is None or isinstance(error, UselessInputsError):
                failure = error
            continue
        done += 1
        yield inputs, outputs
    if done:
        return
    if isinstance(failure, UselessInputsError):
        raise failure
    if example_inputs is not None:
        raise ValueError(
            f"`example_inputs` must be a batch that model '{model.name}' takes, in the structure "
            f"of its inputs. It failed with {type(failure).__name__}: {failure}"
        ) from failure
    raise ValueError(
        f"Model '{model.name}' could not be run on random inputs to compare the collapsed one "
        "with it; give a `size` that it accepts, or `example_inputs`, a batch that it takes. It "
        f"failed with {type(failure).__name__}: {failure}"
    ) from failure


def _batches(structure, size, samples, example_inputs):
    if example_inputs is not None:
        tensors = keras.tree.flatten(structure)
        fixed = any(tensor.shape[0] is not None for tensor in tensors)
        yield keras.tree.map_structure(
            lambda x: x if fixed else np.resize(x, (max(samples, len(x)), *np.shape(x)[1:])),
            example_inputs,
        )
        return
    rng = np.random.default_rng(0)
    is_free = any(None in tensor.shape[1:] for tensor in keras.tree.flatten(structure))
    for each in (size, size + 1, size // 2 + 3, 8, *LAST_SIZES) if is_free else (size,):
        yield random_inputs(structure, each, samples, rng)


def _outputs(model, inputs):
    """What a model puts out for given seeds: a list of arrays of floats."""
    with _same_seeds(model), keras.StatelessScope(), full_precision():
        # Stateful layers start anew, as those of a copy do, and keep the states of before.
        for layer in private.sublayers(model):
            if getattr(layer, "stateful", False) and getattr(layer, "states", None):
                layer.reset_state()
        outputs = keras.tree.flatten(model(inputs, training=False))
    return [_floats(x) for x in outputs]


def _floats(output):
    dtype = keras.backend.standardize_dtype(output.dtype)
    if dtype == "string":
        words = keras.ops.convert_to_numpy(output)
        return np.array([hash(word) for word in words.ravel()], float).reshape(words.shape)
    return keras.ops.convert_to_numpy(
        keras.ops.cast(output, "float64" if dtype == "float64" else "float32")
    )


@contextmanager
def _same_seeds(model):
    """Lets random layers draw the same numbers whenever this is entered."""
    weights = set(map(id, model.weights))
    states = [variable for variable in model.variables if id(variable) not in weights]
    states += private.global_seeds()
    # Copied: on torch, arrays share memory with tensors.
    values = [keras.ops.convert_to_numpy(state).copy() for state in states]
    for state, value in zip(states, values):
        state.assign(np.ones_like(value))
    try:
        yield
    finally:
        for state, value in zip(states, values):
            state.assign(value)


def _times(inputs, factors):
    """Inputs times an array that broadcasts, where they are floats."""

    def scaled(x):
        is_float = np.issubdtype(x.dtype, np.floating)
        return (x * factors).astype(x.dtype) if is_float else x

    return keras.tree.map_structure(scaled, inputs)


def _shaken(inputs, digit):
    rng = np.random.default_rng(0)
    return keras.tree.map_structure(
        lambda x: _times(x, 1.0 + digit * rng.choice([-1, 1], x.shape)), inputs
    )


def _difference(right, other):
    """The largest difference, relative to the largest number of the first."""
    largest = np.abs(right).max(initial=0.0)
    with np.errstate(invalid="ignore"):
        return np.abs(right - other).max(initial=0.0) / (largest or 1.0)
