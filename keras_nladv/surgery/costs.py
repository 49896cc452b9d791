import time

import numpy as np

from keras_nladv.surgery.writer import Writer

# Rounds of timing, of which the median counts.
WARM_UP, ROUNDS = 3, 9


def macs(steps, shape):
    """Multiplications of steps for one sample.

    Args:
        steps: List of steps in order.
        shape: Shape of the first step's first input, without unknown sizes.
    """
    shapes = {steps[0].inputs[0]: shape}
    total = 0
    for step in steps:
        shapes[step.outputs[0]] = step.shape(shapes[step.inputs[0]])
        total += step.macs(shapes[step.outputs[0]])
    return total


class Stopwatch:
    """Times steps on the backend and device at hand."""

    def __init__(self):
        self._known = {}

    def milliseconds(self, before, after, shape):
        """Times two lists of steps from the same input, by turns.

        Args:
            before: List of steps in order.
            after: List of steps in order.
            shape: Shape of the input with the batch size.

        Returns:
            Two floats, medians, in milliseconds. Steps of the same sizes are timed once.
        """
        key = (shape, *(tuple(step.signature for step in steps) for steps in (before, after)))
        if key not in self._known:
            models = [
                Writer().segment(steps, before[0].inputs[0], shape) for steps in (before, after)
            ]
            seconds = np.median(rounds_by_turns(models, shape), axis=0)
            self._known[key] = tuple(1e3 * seconds)
        return self._known[key]


def rounds_by_turns(models, shape):
    """Runs models by turns. Returns an array of seconds of shape (rounds, models)."""
    inputs = np.random.default_rng(0).normal(size=shape).astype("float32")
    for model in models:
        for _ in range(WARM_UP):
            model.predict_on_batch(inputs)
    rounds = np.empty((ROUNDS, len(models)))
    order = list(range(len(models)))
    for seconds in rounds:
        for index in order:
            began = time.perf_counter()
            models[index].predict_on_batch(inputs)
            seconds[index] = time.perf_counter() - began
        # What ran just before makes a difference, to caches and allocated memory.
        order.reverse()
    return rounds
