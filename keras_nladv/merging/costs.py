import logging
import time
from contextlib import contextmanager

import numpy as np

from keras_nladv.merging.writer import Writer

WARM_UP = 2
# Rounds of timing, of which the median counts: at least, at most, and seconds after which the least
# is enough.
LEAST, MOST, ENOUGH = 7, 45, 3.0


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

    def milliseconds(self, before, after, shape, threshold):
        """Times two lists of steps from the same input, by turns.

        Args:
            before: List of steps in order.
            after: List of steps in order.
            shape: Shape of the input with the batch size.
            threshold: See `compared`.

        Returns:
            Two floats, medians, in milliseconds. Steps of the same sizes are timed once.
        """
        key = (shape, *(tuple(step.signature for step in steps) for steps in (before, after)))
        if key not in self._known:
            models = [
                Writer().segment(steps, before[0].inputs[0], shape) for steps in (before, after)
            ]
            inputs = np.random.default_rng(0).normal(size=shape).astype("float32")
            self._known[key] = compared(models, inputs, threshold)
        return self._known[key]


def compared(models, inputs, threshold):
    """Times two models by turns.

    Args:
        models: The two models.
        inputs: A batch for both.
        threshold: The ratio of the second to the first that a decision depends on: where it is
            close, more rounds are run.

    Returns:
        Two floats, medians, in milliseconds.
    """
    began = time.perf_counter()
    times = rounds_by_turns(models, inputs, LEAST)
    while len(times) < MOST and time.perf_counter() - began < ENOUGH:
        low, high = median_interval(times[:, 1] / times[:, 0])
        if not low < threshold < high:
            break
        times = np.concatenate([times, rounds_by_turns(models, inputs, LEAST)])
    return tuple(1e3 * np.median(times, axis=0))


def rounds_by_turns(models, inputs, rounds):
    """Runs models by turns. Returns an array of seconds of shape (rounds, models)."""
    seconds = np.empty((rounds, len(models)))
    order = list(range(len(models)))
    with _many_models():
        for model in models:
            for _ in range(WARM_UP):
                model.predict_on_batch(inputs)
        for row in seconds:
            for index in order:
                began = time.perf_counter()
                models[index].predict_on_batch(inputs)
                row[index] = time.perf_counter() - began
            # What ran just before makes a difference, to caches and allocated memory.
            order.reverse()
    return seconds


def median_interval(values):
    """Two of the values between which the median lies, with a confidence of about 95 %."""
    number = len(values)
    rank = max(int(number / 2 - 0.98 * number**0.5), 0)
    ordered = np.sort(values)
    return ordered[rank], ordered[number - 1 - rank]


@contextmanager
def _many_models():
    """Keeps TensorFlow from warning that there are many models, which it takes for one."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
