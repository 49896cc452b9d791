"""What `collapse`, `collapse_plan` and `pressure_weights` do with their arguments."""

import keras
import numpy as np

from keras_nladv._common.arguments import integer
from keras_nladv._keras import private
from keras_nladv.engines.registry import find_engine
from keras_nladv.graph.require_graph import require_graph
from keras_nladv.layers.sparse_prelu import SparsePReLU
from keras_nladv.merging.verification import runs


def examples(model, example_inputs, size):
    """The example inputs as arrays, if there are any, and what unknown sizes are."""
    if example_inputs is None:
        return None, size
    structure, _ = private.structures(model)
    try:
        arrays = keras.tree.map_structure(
            lambda tensor, x: _array(x, tensor.dtype), structure, example_inputs
        )
    except Exception as error:
        raise ValueError(
            f"`example_inputs` must be a batch that model '{model.name}' takes, in the structure "
            f"of its inputs. Received: {_described(example_inputs)} for {_described(structure)}"
        ) from error
    pairs = list(zip(keras.tree.flatten(structure), keras.tree.flatten(arrays)))
    if not all(x.ndim == len(tensor.shape) and len(x) for tensor, x in pairs):
        raise ValueError(
            f"`example_inputs` must have the axes of the inputs of model '{model.name}', and one "
            f"sample at least. Received: {_described(example_inputs)} for {_described(structure)}"
        )
    unknown = (
        n for tensor, x in pairs for known, n in zip(tensor.shape[1:], x.shape[1:]) if known is None
    )
    return arrays, next(unknown, size)


def run_once(model, size, example_inputs):
    """Runs a model if slopes inside its layers are there only then."""
    units = [layer for layer in private.sublayers(model) if isinstance(layer, SparsePReLU)]
    if not all(layer.built for layer in units):
        next(runs(model, model, size, 1, example_inputs))


def _array(x, dtype):
    x = keras.ops.convert_to_numpy(x) if keras.ops.is_tensor(x) else np.asarray(x)
    return x if dtype in ("string", "bfloat16") else x.astype(dtype)


def _described(inputs):
    return keras.tree.map_structure(lambda x: f"{type(x).__name__}{np.shape(x)}", inputs)


def checked(model, engine, cost, batch_size, threads, size):
    """Checks arguments. Returns the numbers as integers."""
    require_graph(model)
    find_engine(engine)
    if cost not in ("time", "macs"):
        raise ValueError(f'`cost` must be "time" or "macs". Received: cost={cost!r}')
    if batch_size is None:
        batch_size = 32 if engine == "keras" else 1
    given = {"batch_size": batch_size, "threads": threads, "size": size}
    checked = [integer(name, value, least=1) for name, value in given.items()]
    for weight in model.weights:
        if not np.isfinite(keras.ops.convert_to_numpy(weight).astype("float64")).all():
            raise ValueError(
                f"Weight '{weight.path}' of model '{model.name}' has values that are not finite. "
                "A model like that cannot be collapsed; restore an earlier checkpoint."
            )
    return checked
