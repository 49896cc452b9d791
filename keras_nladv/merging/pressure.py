from dataclasses import replace
from typing import Any

import keras
import numpy as np

from keras_nladv.engines.registry import find_engine
from keras_nladv.engines.setting import setting
from keras_nladv.merging.arguments import checked, examples, run_once
from keras_nladv.merging.candidates import Candidate
from keras_nladv.merging.costs import Stopwatch, macs
from keras_nladv.merging.part import Part, slopes_of
from keras_nladv.merging.pressure_weights import PressureWeights
from keras_nladv.merging.steps import ActivationStep
from keras_nladv.merging.surgeon import Surgeon
from keras_nladv.slopes.pressable import pressable

# Shares of the channels of a layer that are tried.
SHARES = (0.5, 0.75, 0.9, 1.0)


def pressure_weights(
    model: keras.Model,
    engine: str = "keras",
    *,
    by: str = "time",
    batch_size: int = 1,
    threads: int = 1,
    size: int = 32,
    example_inputs: Any = None,
) -> PressureWeights:
    """Finds out in which layers linear units pay, for `LinearizationSchedule(..., weights=)`.

    A linear unit pays where `collapse` can merge it away. For each layer that is pressed, the part
    of the network around it, from the layer before it to the one after it, is compared with what
    `collapse` makes of it where half, three quarters, nine tenths and all of its units are linear.
    What a linear unit saves is the mean of what is saved for each linear unit there. Activations
    before and after a depthwise convolution are looked at together, with the same channels linear.

    A layer of which nothing can be saved, as between two padded convolutions of 3 taps, has the
    weight 0: it is not pressed at all.

    Args:
        model: A built Functional or Sequential model whose activations are pressed, as those of
            `sparsify`. Which of its units are linear already makes no difference.
        engine: Where the network will run, as in `collapse`. Not used with `by="operations"`.
        by: `"time"`, milliseconds in the engine, or `"operations"`, multiplications.
        batch_size: Number of samples in a batch when time is measured.
        threads: Number of threads when time is measured. Not used by `"keras"`.
        size: What unknown sizes are taken for.
        example_inputs: A batch that the model takes, for unknown sizes to be taken from, and to run
            it once where layers inside others have no weights before that. Default: random numbers.

    Returns:
        `PressureWeights`, a dict from names of layers to weights with mean 1. It prints as a table,
        and predicts with `saved(model)` what the units that are linear by then save.

    Raises:
        ValueError: If the model has no graph, nothing that is pressed, or nothing that could be
            saved; if the engine is unknown or takes no models from this backend; or if an argument
            is out of range.
        ImportError: If a package that the engine needs is not installed.

    Example:

    >>> inputs = keras.Input((16,))
    >>> x = keras.layers.Dense(256, "relu", name="wide")(inputs)
    >>> x = keras.layers.Dense(16)(x)
    >>> x = keras.layers.Dense(64, "relu", name="narrow")(keras.layers.LayerNormalization()(x))
    >>> model = sparsify(keras.Model(inputs, keras.layers.Dense(16)(x)))
    >>> weights = pressure_weights(model, by="operations")
    >>> {name: round(weight, 2) for name, weight in weights.items()}
    {'wide_activation': 1.07, 'narrow_activation': 0.93}
    """
    if by not in ("time", "operations"):
        raise ValueError(f'`by` must be "time" or "operations". Received: by={by!r}')
    batch_size, threads, size = checked(model, engine, "time", batch_size, threads, size)
    example_inputs, size = examples(model, example_inputs, size)
    run_once(model, size, example_inputs)
    layers = pressable(model)
    if not layers:
        raise ValueError(
            f"`model` must have units that are pressed. Received: model '{model.name}', of which "
            "no layer has `alpha_regularizer=NonlinearitySparsity(...)`. `sparsify` makes such "
            "layers of the activations of a model."
        )
    surgeon = Surgeon(model, is_nonlinear=True)
    surgeon.prefer_for(engine if by == "time" else None)
    stopwatch = Stopwatch(find_engine(engine), threads)
    units = {name: slopes_of(layer).size for name, layer in layers.items()}
    parts, reasons = [], {}
    for names, candidates, reason in _variants(surgeon, layers, units):
        if reason:
            reasons.update(dict.fromkeys((name for name, _ in names), reason))
            continue
        first = next(iter(candidates.values()))
        shape = surgeon.shapes[first.entry]
        shape = (batch_size, *(size if n is None else n for n in shape[1:]))
        lists = [_nonlinear(first.before), *(each.after for each in candidates.values())]
        if by == "time":
            saved = stopwatch.saved(lists, shape)
        else:
            before, *after = (macs(steps, shape) for steps in lists)
            saved = [before - each for each in after]
        least = (max(each, 0.0) for each in saved)
        parts.append(Part(names, dict(zip(candidates, least, strict=True))))
    saves = dict.fromkeys(layers, 0.0)
    for part in parts:
        names = dict.fromkeys(name for name, _ in part.layers)
        total = sum(units[name] for name in names)
        by_unit = np.mean([saved / (share * total) for share, saved in part.saved.items()])
        for name in names:
            saves[name] += float(by_unit)
    mean = np.mean([*saves.values()])
    if not mean:
        what = f"time in engine {engine!r}" if by == "time" else "multiplications"
        why = {reasons.get(name, "it does not pay"): name for name in reversed(layers)}
        raise ValueError(
            f"Linear units of model '{model.name}' save no {what}, so that there is nothing to "
            f"weigh. {'; '.join(f'{name}: {reason}' for reason, name in [*why.items()][:3])}"
        )
    rows = [
        {
            "name": name,
            "units": units[name],
            "saves": each,
            "weight": float(each / mean),
            "reason": "" if each else reasons.get(name, "it does not pay"),
        }
        for name, each in saves.items()
    ]
    timed_with = setting(engine, threads, batch_size) if by == "time" else {}
    return PressureWeights(rows, parts, by, timed_with)


def _variants(surgeon, layers, units):
    """Yields parts of a network: activations, and by share of linear channels what they merge to.

    Args:
        surgeon: A `Surgeon` in whose steps all units are nonlinear.
        layers: Dict from names to layers that are pressed.
        units: Dict from names to numbers of slopes.

    Yields:
        The names of the activations, each with its number of slopes for a channel; a dict from
        shares to candidates; and why nothing can be merged, or an empty string.
    """
    finder = surgeon.finder()
    names = {id(layer): name for name, layer in layers.items()}
    names = {
        id(step): names.get(surgeon.original(step))
        for step in surgeon.steps
        if isinstance(step, ActivationStep)
    }
    done: set[int] = set()
    # The shortest first: what is around an activation, without more.
    for number, run, between, ends in sorted(finder.runs(), key=lambda found: len(found[1])):
        activations = [step for step in between if step is not None]
        mine = [names[id(step)] for step in activations]
        if not mine or None in mine or not done.isdisjoint(map(id, activations)):
            continue
        channels = run[0].map.outputs
        candidates: dict[float, Candidate] = {}
        reason = ""
        for share in SHARES:
            linear = _spread(channels, share)
            tried = [
                step and replace(step, slopes=np.repeat(linear, len(step.slopes) // channels))
                for step in between
            ]
            found = list(finder.merged(run, tried, (number, *ends)))
            if not found or found[-1].reason:
                reason = found[-1].reason if found else ""
                break
            # With the shortcut, if there is one.
            candidates[share] = found[-1]
        # One slope for all channels can be linear as a whole only.
        if all(units[name] == 1 for name in mine):
            candidates = {1.0: candidates[1.0]} if 1.0 in candidates else {}
        if candidates or reason:
            done.update(map(id, activations))
            # What of a layer is a channel's; of one slope for all, that is every channel's.
            several = (max(units[name] // channels, 1) for name in mine)
            yield tuple(zip(mine, several)), candidates, reason
    for step in surgeon.steps:
        if names.get(id(step)) is not None and id(step) not in done:
            yield ((names[id(step)], 1),), {}, finder.barrier(step)


def _spread(channels, share):
    """Which of some channels are linear, as floats: a share of them, as even as can be."""
    return np.diff(np.floor(share * np.arange(channels + 1)))


def _nonlinear(steps):
    """Steps as they are without linear units."""
    return [
        replace(step, slopes=np.zeros_like(step.slopes), node=None)
        if isinstance(step, ActivationStep)
        else step
        for step in steps
    ]
