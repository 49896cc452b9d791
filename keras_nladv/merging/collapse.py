import warnings
from typing import Any

import keras

from keras_nladv._common.arguments import flag, number
from keras_nladv._copying.model_class import PREDICTION, warn_of_lost_methods
from keras_nladv.merging.arguments import checked, examples, run_once
from keras_nladv.merging.collapse_plan import CollapsePlan
from keras_nladv.merging.planner import AS_GIVEN, Planner
from keras_nladv.merging.surgeon import Surgeon
from keras_nladv.merging.verification import verify


def collapse_plan(
    model: keras.Model,
    *,
    engine: str = "keras",
    cost: str = "time",
    batch_size: int | None = None,
    threads: int = 1,
    size: int = 32,
    example_inputs: Any = None,
    for_int8: bool | None = None,
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
        for_int8: Whether weights will be quantized to int8, or computed with in float16. Then
            layers are kept apart whose merged kernel would lose more of its numbers in that than
            theirs do; the plan says so. A shortcut in a kernel may do that: ones among small
            numbers. And linear units are not written by factors in the weights around them, which
            only float32 and bfloat16 can hold. `False` says that weights stay in one of these,
            wherever the network will run. By default there are such factors for ONNX Runtime and
            OpenVINO, but not for LiteRT, whose networks run in float16 on GPUs.
        verbose: Whether to print the plan.

    Returns:
        A `CollapsePlan`, for `collapse(model, plan=...)`.

    Raises:
        ValueError, ImportError: As `collapse` does.
    """
    batch_size, threads, size = checked(model, engine, cost, batch_size, threads, size)
    example_inputs, size = examples(model, example_inputs, size)
    for_int8 = None if for_int8 is None else flag("for_int8", for_int8)
    verbose = flag("verbose", verbose)
    run_once(model, size, example_inputs)
    setting = engine, batch_size, threads, size, example_inputs, for_int8
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
    for_int8: bool | None = None,
    tolerance: float | None = None,
) -> keras.Model:
    """Merges away what is linear in a model. What is left is a plain Keras model, and faster.

    Batch normalization and padding go into the convolutions beside them. Linear units between two
    layers are merged into one direct layer beside the narrower nonlinear branch, or in the place of
    both if no nonlinear unit is left; shortcuts of residual blocks join the direct layer. This is
    done where it is exact, also at borders, and where it pays. An activation becomes what it was
    where all slopes are 0, nothing where all are 1, `maximum` with constants or `where` if they are
    0 and 1, and else `PReLU`, or a sum for other functions than ReLU.

    The new model is for inference: it has no dropout and no batch normalization to train on. What
    it makes of several layers is frozen if all of them were, and trained if any was. It is
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
        for_int8: See `collapse_plan`; not used with `plan`.
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
    batch_size, threads, size = checked(model, engine or "keras", cost, batch_size, threads, size)
    example_inputs, size = examples(model, example_inputs, size)
    for_int8 = None if for_int8 is None else flag("for_int8", for_int8)
    if tolerance is not None:
        wanted = "`None` or a finite number of at least 0"
        tolerance = number("tolerance", tolerance, wanted, lambda given: given >= 0)
    run_once(model, size, example_inputs)
    surgeon = Surgeon(model)
    if plan is None:
        setting = engine or "keras", batch_size, threads, size, example_inputs, for_int8
        Planner(model, surgeon, cost, *setting).plan()
    else:
        _carry_out(surgeon, plan, engine)
    try:
        collapsed = surgeon.write()
        verify(model, collapsed, tolerance, size, example_inputs)
    except ValueError:
        # Only of numbers that are far smaller than the bounds of their activation is that enough.
        if not surgeon.rounds_less():
            raise
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
    surgeon.prefer_for(timed_in, plan.setting.get("for_int8"))
    for names in plan.taken:
        if names == [AS_GIVEN]:
            surgeon.undo()
            continue
        by_name = {each.name: each for each in (*surgeon.candidates(), *surgeon.forms())}
        unknown = [name for name in names if name not in by_name]
        if unknown:
            raise ValueError(
                "`plan` must merge what can be merged in this model. Received: "
                f"{unknown[0]!r}. Make it anew with `collapse_plan(model)`."
            )
        surgeon.carry_out([by_name[name] for name in names])
