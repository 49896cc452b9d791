import time
from dataclasses import dataclass

import numpy as np

from keras_nladv.engines.timing import median_interval, rounds_by_turns
from keras_nladv.merging.rescaling import plain
from keras_nladv.merging.writer import Writer

# Rounds of timing, of which the median counts: at least, at most, and seconds after which the least
# is enough.
LEAST, MOST, ENOUGH = 7, 45, 3.0
# Networks that are kept, so that they need not be converted again.
KEPT = 32


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


@dataclass(frozen=True)
class Comparison:
    """What timing two networks by turns came to.

    Attributes:
        before: Milliseconds of the first, the median.
        after: Milliseconds of the second, the median.
        low: The ratio of the second to the first within a round is at least this, and
        high: at most this, by the median, with a confidence of about 95 %; 99.9 % if patient.
    """

    before: float
    after: float
    low: float
    high: float


class Stopwatch:
    """Times steps in an engine.

    Args:
        engine: The engine, a subclass of `Engine`.
        threads: Number of threads.
    """

    def __init__(self, engine, threads):
        self._engine = engine
        self._threads = threads
        self._known = {}
        # What candidates are compared with is the same for several.
        self._made = {}

    def compared(self, before, after, shape, threshold, patient):
        """Times two lists of steps from the same input, by turns.

        Args:
            before: List of steps in order.
            after: List of steps in order.
            shape: Shape of the input with the batch size.
            threshold: See `compared`.
            patient: See `compared`.

        Returns:
            `Comparison`. Steps of the same sizes are timed once.
        """
        key = (shape, *(tuple(step.signature for step in steps) for steps in (before, after)))
        if key not in self._known:
            networks = self._networks([before, after], shape)
            inputs = np.random.default_rng(0).normal(size=shape).astype("float32")
            self._known[key] = compared(networks, inputs, threshold, patient)
        return self._known[key]

    def saved(self, lists, shape):
        """Times several lists of steps from the same input, by turns.

        Args:
            lists: The lists of steps in order.
            shape: Shape of the input with the batch size.

        Returns:
            List of milliseconds that each takes less than the first; medians within a round. Steps
            of the same sizes are timed once. What the engine cannot run saves nothing.
        """
        key = (shape, *(tuple(step.signature for step in steps) for steps in lists))
        if key not in self._known:
            inputs = np.random.default_rng(0).normal(size=shape).astype("float32")
            networks = self._networks(lists[:1], shape)
            for steps in lists[1:]:
                try:
                    (network,) = self._networks([steps], shape)
                    network(inputs)
                except Exception:
                    # Converters and engines have errors of their own.
                    network = networks[0]
                networks.append(network)
            calls = [lambda network=network: network(inputs) for network in networks]
            began, times = time.perf_counter(), np.empty((0, len(calls)))
            while len(times) < MOST and time.perf_counter() - began < ENOUGH:
                times = np.concatenate([times, rounds_by_turns(calls, LEAST)])
            self._known[key] = (1e3 * np.median(times[:, :1] - times[:, 1:], axis=0)).tolist()
        return self._known[key]

    def _networks(self, lists, shape):
        """Lists of steps from the same input, as the engine runs them."""
        networks = []
        for steps in lists:
            key = (shape, *(step.signature for step in steps))
            if key not in self._made:
                while len(self._made) >= KEPT:
                    del self._made[next(iter(self._made))]
                # What is linear by factors takes as long as what is written in its place.
                written = [each for step in steps for each in plain(step)]
                model = Writer().segment(written, steps[0].inputs[0], shape)
                self._made[key] = self.network(model, shape[0], None)
            networks.append(self._made[key])
        return networks

    def network(self, model, batch_size, size):
        """A model as the engine runs it."""
        return self._engine(
            model, batch_size=batch_size, size=size, threads=self._threads, verify=False
        )


def compared(networks, inputs, threshold, patient=False):
    """Times two networks by turns.

    Args:
        networks: Two functions of a batch.
        inputs: A batch for both.
        threshold: The ratio of the second to the first that a decision depends on: where it is
            close, more rounds are run.
        patient: Whether the second counts as slower only where this is all but certain.

    Returns:
        `Comparison`.
    """
    began = time.perf_counter()
    calls = [lambda network=network: network(inputs) for network in networks]
    times = rounds_by_turns(calls, LEAST)
    while True:
        low, high = median_interval(times[:, 1] / times[:, 0], 3.3 if patient else 1.96)
        decided = high <= threshold or (low >= threshold and not patient)
        if decided or len(times) >= MOST or time.perf_counter() - began > ENOUGH:
            before, after = (1e3 * np.median(times, axis=0)).tolist()
            return Comparison(before, after, low, high)
        times = np.concatenate([times, rounds_by_turns(calls, LEAST)])
