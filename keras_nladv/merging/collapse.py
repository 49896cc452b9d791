import warnings
from typing import Any

import keras
import numpy as np

from keras_nladv import private
from keras_nladv.arguments import integer
from keras_nladv.copying.model_class import PREDICTION, warn_of_lost_methods
from keras_nladv.engines.registry import find_engine
from keras_nladv.graph.require_graph import require_graph
from keras_nladv.layers.sparse_prelu import SparsePReLU
from keras_nladv.merging.collapse_plan import CollapsePlan
from keras_nladv.merging.planner import Planner
from keras_nladv.merging.surgeon import Surgeon
from keras_nladv.merging.verification import runs, verify


def collapse_plan(
    model: keras.Model,
    *,
    engine: str = "keras",
    cost: str = "time",
    batch_size: int | None = None,
    threads: int = 1,
    size: int = 32,
    example_inputs: Any = None,
    verbose: bool = True,
) -> CollapsePlan:
    """Finds out what can be merged in a model, exactly, and what of it pays.

    Args:
        model: A built Functional or Sequential model.
        engine: Where the network will run, which is where time is measured: `"keras"`, on the
            backend and device at hand; `"onnxruntime"`, `"litert"` or `"openvino"`, on the CPU; or
            one of `register_engine`.
        cost: What decides: `"time"`, measured in the engine, or `"macs"`, the number of
            multiplications.
        batch_size: Number of samples in a batch when time is measured. Default: 32 for `"keras"`,
            1 for other engines.
        threads: Number of threads when time is measured. Not used by `"keras"`: backends take
            theirs when they start.
        size: What unknown sizes are taken for.
        example_inputs: A batch that the model takes, in the structure of its inputs, to be timed
            on and for unknown sizes to be taken from. Default: random numbers; give it where the
            model does not take those.
        verbose: Whether to print the plan.

    Returns:
        A `CollapsePlan`, for `collapse(model, plan=...)`.

    Raises:
        ValueError, ImportError: As `collapse` does.
    """
    batch_size, threads, size = _checked(model, engine, cost, batch_size, threads, size)
    example_inputs, size = _examples(model, example_inputs, size)
    _run_once(model, size, example_inputs)
    setting = engine, batch_size, threads, size, example_inputs
    plan = Planner(model, Surgeon(model), cost, *setting).plan()
    if verbose:
        print(plan)
    return plan


def collapse(
    model: keras.Model,
    plan: CollapsePlan | None = None,
    *,
    engine: str | None = None,
    cost: str = "time",
    batch_size: int | None = None,
    threads: int = 1,
    size: int = 32,
    example_inputs: Any = None,
    tolerance: float | None = None,
) -> keras.Model:
    """Merges away what is linear in a model. What is left is a plain Keras model, and faster.

    Batch normalization and padding go into the convolutions beside them. Linear units between two
    layers are merged into one direct layer beside the narrower nonlinear branch, or in the place of
    both if no nonlinear unit is left; shortcuts of residual blocks join the direct layer. This is
    done where it is exact, also at borders, and where it pays. An activation becomes what it was
    where all slopes are 0, nothing where all are 1, `maximum` with constants or `where` if they are
    0 and 1, and else `PReLU`, or a sum for other functions than ReLU.

    The new model is for inference: it has no dropout and no batch normalization to train on. It is
    compared with the one given before it is returned, on random inputs or those that you give;
    random layers draw the same numbers in both. It needs nothing of this library to be saved,
    loaded or exported.

    Args:
        model: A built Functional or Sequential model.
        plan: A `CollapsePlan` made for the model. Default: one is made.
        engine: See `collapse_plan`. Default: what the plan was made for, `"keras"` without one.
        cost: See `collapse_plan`; not used with `plan`.
        batch_size: See `collapse_plan`; not used with `plan`.
        threads: See `collapse_plan`; not used with `plan`.
        size: What unknown sizes are taken for, in costs and in the comparison.
        example_inputs: A batch that the model takes, to be compared on; see `collapse_plan`.
            Default: random numbers, of several sizes if sizes are free.
        tolerance: The largest difference of outputs that is accepted, relative to the largest
            output. Default: 1e-4 in float32, 1e-9 in float64, 2e-2 if a layer computes in half
            precision.

    Returns:
        A Functional model.

    Raises:
        ValueError: If the model has no graph, weights that are not finite, or a layer that cannot
            be copied; if the plan was made for another model; if the engine is unknown or takes no
            models from this backend; if the outputs differ by more than `tolerance`; or if the
            given model's own are not finite or hardly determined on the inputs compared on.
        ImportError: If a package that the engine needs is not installed.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((64,)),
    ...     keras.layers.Dense(256),
    ...     SparsePReLU(alpha_initializer="ones"),
    ...     keras.layers.Dense(10),
    ... ])
    >>> collapsed = collapse(model, cost="macs")
    >>> [(type(layer).__name__, layer.output.shape) for layer in collapsed.layers[1:]]
    [('Dense', (None, 10))]
    """
    batch_size, threads, size = _checked(model, engine or "keras", cost, batch_size, threads, size)
    example_inputs, size = _examples(model, example_inputs, size)
    _run_once(model, size, example_inputs)
    surgeon = Surgeon(model)
    if plan is None:
        setting = engine or "keras", batch_size, threads, size, example_inputs
        Planner(model, surgeon, cost, *setting).plan()
    else:
        _carry_out(surgeon, plan, engine)
    collapsed = surgeon.write()
    verify(model, collapsed, tolerance, size, example_inputs)
    warn_of_lost_methods(model, collapsed, PREDICTION)
    return collapsed


def _carry_out(surgeon, plan, engine):
    if not isinstance(plan, CollapsePlan) or plan.fingerprint != surgeon.fingerprint():
        raise ValueError(
            "`plan` must be a `CollapsePlan` made for this model as it is now, with the same units "
            f"linear. Received: {type(plan).__name__} for another. Make it anew with "
            "`collapse_plan(model)`."
        )
    timed_in = plan.setting.get("engine")
    if engine is not None and timed_in not in (None, engine):
        warnings.warn(
            f"`plan` was made for engine {timed_in!r}: what pays there need not pay in {engine!r}. "
            f"Make it anew with `collapse_plan(model, engine={engine!r})`.",
            stacklevel=3,
        )
    for names in plan.taken:
        by_name = {each.name: each for each in (*surgeon.candidates(), *surgeon.forms())}
        unknown = [name for name in names if name not in by_name]
        if unknown:
            raise ValueError(
                "`plan` must merge what can be merged in this model. Received: "
                f"{unknown[0]!r}. Make it anew with `collapse_plan(model)`."
            )
        surgeon.carry_out([by_name[name] for name in names])


def _examples(model, example_inputs, size):
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
            f"sample at least. Received: {_described(arrays)} for {_described(structure)}"
        )
    unknown = (
        n for tensor, x in pairs for known, n in zip(tensor.shape[1:], x.shape[1:]) if known is None
    )
    return arrays, next(unknown, size)


def _run_once(model, size, example_inputs):
    """Runs a model if slopes inside its layers are there only then."""
    units = [layer for layer in private.sublayers(model) if isinstance(layer, SparsePReLU)]
    if not all(layer.built for layer in units):
        next(runs(model, model, size, 1, example_inputs))


def _array(x, dtype):
    x = keras.ops.convert_to_numpy(x) if keras.ops.is_tensor(x) else np.asarray(x)
    return x if dtype in ("string", "bfloat16") else x.astype(dtype)


def _described(inputs):
    return keras.tree.map_structure(lambda x: f"{type(x).__name__}{np.shape(x)}", inputs)


def _checked(model, engine, cost, batch_size, threads, size):
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
