import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_nladv._common.arguments import integer, number
from keras_nladv._common.random_inputs import random_inputs
from keras_nladv._keras import private
from keras_nladv.engines.registry import find_engine
from keras_nladv.engines.setting import setting
from keras_nladv.engines.timing import median_interval, rounds_by_turns
from keras_nladv.engines.timings import Timings
from keras_nladv.graph.require_graph import require_graph

# Rounds between two looks at how sure it is, and the width of the intervals that is enough.
ROUNDS, SURE = 15, 0.02


def milliseconds(
    models: Mapping[str, keras.Model] | Sequence[keras.Model] | keras.Model,
    engine: str = "keras",
    *,
    batch_size: int = 1,
    threads: int = 1,
    size: int = 32,
    seconds: float = 10.0,
    inputs: Any = None,
) -> Timings:
    """Times models by turns in an engine, so that what else the machine does hits all of them.

    Rounds go on until the medians of the ratios to the first model are known to 2 %, or the time is
    over.

    Args:
        models: Dict from names to models, a list of models, or one. The first is what the others
            are compared with.
        engine: Where they run: `"keras"`, the backend and device at hand; `"onnxruntime"`,
            `"litert"` or `"openvino"`, on the CPU; or one of `register_engine`.
        batch_size: Number of samples in a batch; not used with `inputs`.
        threads: Number of threads. Not used by `"keras"`: backends take theirs when they start.
        size: What unknown sizes are taken for; not used with `inputs`.
        seconds: About how long all models together are timed at most.
        inputs: A batch, NumPy arrays in the structure of the models' inputs. Default: random ones.

    Returns:
        `Timings`, which prints as a table.

    Raises:
        ValueError: If the engine is unknown or takes no models from this backend, if a model cannot
            be converted, or if an argument is out of range.
        ImportError: If a package that the engine needs is not installed.

    Example:

    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> timings = milliseconds({"small": model}, batch_size=2, seconds=0.1)
    >>> timings.rows[0]["name"], timings.rows[0]["times_as_fast"]
    ('small', 1.0)
    """
    network = find_engine(engine)
    integer("size", size, least=1)
    number("seconds", seconds, "a number greater than 0", lambda x: x > 0)
    named = _named(models)
    if inputs is None:
        integer("batch_size", batch_size, least=1)
        for model in named.values():
            require_graph(model)
    else:
        batch_size = len(keras.tree.flatten(inputs)[0])
    calls = []
    for model in named.values():
        mine = inputs
        if inputs is None:
            structure, _ = private.structures(model)
            mine = random_inputs(structure, size, batch_size, np.random.default_rng(0))
        made = network(
            model,
            batch_size=batch_size,
            size=size if inputs is None else None,
            threads=threads,
            verify=False,
        )
        calls.append(lambda made=made, mine=mine: made(mine))
    began, times = time.perf_counter(), np.empty((0, len(calls)))
    while True:
        times = np.concatenate([times, rounds_by_turns(calls, ROUNDS)])
        # Of one alone there are no ratios.
        ratios = [times[:, 0] / mine for mine in times.T[1:]] or [times[:, 0]]
        intervals = map(median_interval, ratios)
        sure = all(high - low < SURE * low for low, high in intervals)
        if sure or time.perf_counter() - began > seconds:
            return Timings(list(named), 1e3 * times, setting(engine, threads, batch_size))


def _named(models):
    if isinstance(models, Mapping):
        named = dict(models)
    else:
        named = {}
        for model in models if isinstance(models, Sequence) else [models]:
            name, number = getattr(model, "name", str(model)), 1
            while name in named:
                number += 1
                name = f"{model.name} ({number})"
            named[name] = model
    wrong = [model for model in named.values() if not isinstance(model, keras.Model)]
    if not named or wrong:
        raise ValueError(
            "`models` must be Keras models, in a dict by their names or in a list. Received: "
            f"models={models!r}"
        )
    return named
