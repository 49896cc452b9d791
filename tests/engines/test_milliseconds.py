"""Times, in an engine that takes as long as it is told to."""

import time
from collections import Counter
from itertools import pairwise

import keras
import numpy as np
import pytest
from keras import layers

from keras_nladv import milliseconds, register_engine
from keras_nladv.engines import Engine
from keras_nladv.engines.timing import rounds_by_turns

pytestmark = pytest.mark.once


class Sleeper(Engine):
    """Takes a tenth of a millisecond for each unit of a Dense layer."""

    name = "sleeper"
    packages = dict.fromkeys(("jax", "torch", "tensorflow"), ("keras",))
    made: list = []  # noqa: RUF012

    def convert(self, model):
        self.made.append(self)
        self.units = sum(getattr(layer, "units", 0) for layer in model.layers)

    def run(self, arrays):
        self.shape = arrays[0].shape
        time.sleep(1e-4 * self.units)
        return [np.zeros(1)]


@pytest.fixture(autouse=True)
def sleeper():
    register_engine("sleeper", Sleeper)
    Sleeper.made.clear()


def dense(*units, size=4, name=None):
    return keras.Sequential([keras.Input((size,)), *map(layers.Dense, units)], name=name)


def test_ratios():
    models = {"slow": dense(20), "fast": dense(10), "slower": dense(20, 20)}
    timings = milliseconds(models, "sleeper", batch_size=3, threads=2, seconds=0.5)
    assert [row["name"] for row in timings.rows] == list(models)
    for row, ms in zip(timings.rows, (2, 1, 4)):
        assert row["ms_low"] <= row["ms"] <= row["ms_high"]
        assert row["times_as_fast_low"] <= row["times_as_fast"] <= row["times_as_fast_high"]
        # Sleeping takes longer, never shorter, on busy cores much.
        assert row["ms"] >= ms
    slow, fast, slower = (row["times_as_fast"] for row in timings.rows)
    assert slow == 1
    assert slower < 0.75 < 1.2 < fast
    assert timings.rounds.shape[1] == 3
    assert timings.setting["engine"] == "sleeper"
    assert (timings.setting["threads"], timings.setting["batch_size"]) == (2, 3)
    assert [(x.threads, x.batch_size, x.shape) for x in Sleeper.made] == [(2, 3, (3, 4))] * 3
    title, heading, _, *lines = str(timings).splitlines()
    assert title.startswith(f"sleeper {keras.__version__} from {keras.backend.backend()}, batches")
    assert heading.split()[:2] == ["model", "ms"]
    assert [line.split()[0] for line in lines] == list(models)


@pytest.mark.parametrize("number", [2, 4])
def test_all_run_behind_all(number):
    """What runs behind itself finds its weights in caches."""
    ran: list[int] = []
    calls = [lambda index=index: ran.append(index) for index in range(number)]
    rounds_by_turns(calls, 1600)
    pairs = Counter(pairwise(ran))
    times = [pairs[index, index] for index in range(number)]
    assert min(times) > 0.5 * max(times)


def test_lists_sizes_and_inputs():
    model = dense(1, name="one")
    timings = milliseconds([model, model], "sleeper", seconds=0.01)
    assert [row["name"] for row in timings.rows] == ["one", "one (2)"]
    inputs = keras.Input((None, None, 2))
    free = keras.Model(inputs, layers.Dense(1)(inputs))
    milliseconds(free, "sleeper", size=5, seconds=0.01)
    assert Sleeper.made[-1].shape == (1, 5, 5, 2)
    given = np.zeros((4, 3, 7, 2))
    timings = milliseconds(free, "sleeper", inputs=given, seconds=0.01)
    assert Sleeper.made[-1].shape == given.shape
    assert timings.setting["batch_size"] == 4


def test_keras_takes_any_model():
    class Own(keras.Model):
        def call(self, inputs):
            return 2 * inputs

    timings = milliseconds({"own": Own()}, inputs=np.ones((2, 3)), seconds=0.01)
    assert timings.setting["threads"] is None


def test_bad_arguments():
    small = dense(1)
    for wrong in ([], {}, "model", [3], None):
        with pytest.raises(ValueError, match="`models` must be Keras models"):
            milliseconds(wrong)
    for argument in ("batch_size", "threads", "size"):
        with pytest.raises(ValueError, match=f"`{argument}` must be an integer of at least 1"):
            milliseconds(small, **{argument: 0})
    with pytest.raises(ValueError, match="`seconds` must be a number greater than 0"):
        milliseconds(small, seconds=0)
    with pytest.raises(ValueError, match="`engine` must be one of"):
        milliseconds(small, "abacus")
    with pytest.raises(ValueError, match="a subclassed model"):
        milliseconds(type("Net", (keras.Model,), {})())
