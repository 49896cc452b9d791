"""How long is timed, and what is made of it, by a clock that networks move themselves."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

from keras_nladv import SparsePReLU, register_engine
from keras_nladv.merging.costs import LEAST, MOST, Stopwatch, compared, macs
from keras_nladv.merging.rescaling import FORMS
from keras_nladv.merging.surgeon import Surgeon
from tests.merging.test_rescaling import Liking

pytestmark = pytest.mark.once

# With those that do not count.
CALLS = LEAST + 2
UNDECIDED = -(-MOST // LEAST) * CALLS


@pytest.fixture(autouse=True)
def everybody_reads(clock, monkeypatch):
    monkeypatch.setattr("keras_nladv.merging.costs.time", clock)
    clock.now = 9.0


@pytest.fixture
def taking(clock):
    """Makes a network that takes these seconds, over and over again, and counts its calls."""

    def make(*seconds):
        seconds = itertools.cycle(seconds)

        def network(inputs):
            network.calls += 1
            clock.now += next(seconds)

        network.calls = 0
        return network

    return make


@pytest.mark.parametrize(
    ("before", "after", "threshold", "patient", "calls"),
    [
        ([1e-3], [0.5e-3], 0.97, False, CALLS),
        ([1e-3], [0.5e-3], 0.97, True, CALLS),
        ([1e-3], [2e-3], 0.97, False, CALLS),
        # Only what is faster is certain at once.
        ([1e-3], [2e-3], 0.97, True, UNDECIDED),
        ([1e-3], [1e-3], 1.0, False, CALLS),
        ([1e-3], [0.5e-3, 1.5e-3], 1.0, False, UNDECIDED),
        # Two and three seconds for each round of rounds.
        ([0.11], [0.055, 0.165], 1.0, False, 2 * CALLS),
        ([0.18], [0.09, 0.27], 1.0, False, CALLS),
    ],
)
def test_rounds_until_it_is_decided(taking, before, after, threshold, patient, calls):
    networks = [taking(*before), taking(*after)]
    found = compared(networks, None, threshold, patient)
    assert [network.calls for network in networks] == [calls, calls]
    assert found.before == pytest.approx(1e3 * before[0])
    assert any(found.after == pytest.approx(1e3 * each) for each in (*after, np.mean(after)))
    low, high = min(after) / before[0], max(after) / before[0]
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_more_certain_is_less_precise(taking):
    seconds = 1e-3 * (1 + np.random.default_rng(0).random(53) / 2)
    networks = [taking(1e-3), taking(*seconds)]
    usual = compared(networks, None, 1.25)
    networks = [taking(1e-3), taking(*seconds)]
    patient = compared(networks, None, 1.25, patient=True)
    assert patient.low < usual.low < usual.after < usual.high < patient.high


class Engine:
    """Networks that take a millisecond for each unit of their first layer."""

    def __init__(self, taking):
        self.taking = taking
        self.made = []

    def __call__(self, model, batch_size, size, threads, verify):
        self.made.append((batch_size, threads, verify))
        widths = [x.units for x in model.layers if isinstance(x, layers.Dense)]
        if widths[0] == 7:
            raise RuntimeError("not seven")
        self.last = self.taking(1e-3 * widths[0])
        return self.last


def steps_of(width):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(width), layers.Dense(2)])
    return Surgeon(model).steps


def test_what_is_alike_is_timed_once(taking, monkeypatch):
    engine = Engine(taking)
    stopwatch = Stopwatch(engine, threads=2)
    four, six = steps_of(4), steps_of(6)
    found = stopwatch.compared(four, six, (5, 3), 1.0, patient=False)
    assert (found.before, found.after) == (pytest.approx(4), pytest.approx(6))
    assert stopwatch.compared(steps_of(4), steps_of(6), (5, 3), 1.0, patient=False) is found
    assert engine.made == [(5, 2, False)] * 2
    back = stopwatch.compared(six, four, (5, 3), 1.0, patient=False)
    assert (back.before, back.after) == (pytest.approx(6), pytest.approx(4))
    assert len(engine.made) == 2
    assert stopwatch.compared(four, six, (8, 3), 1.0, patient=False) is not found
    assert len(engine.made) == 4
    # The oldest are forgotten.
    monkeypatch.setattr("keras_nladv.merging.costs.KEPT", 4)
    stopwatch.compared(four, steps_of(5), (8, 3), 1.0, patient=False)
    stopwatch.compared(six, steps_of(5), (8, 3), 1.0, patient=False)
    assert (len(engine.made), len(stopwatch._made)) == (5, 4)
    stopwatch.compared(steps_of(5), four, (5, 3), 1.0, patient=False)
    assert (len(engine.made), len(stopwatch._made)) == (7, 4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("activation", ["relu", "relu6", "silu", "gelu", "tanh", "sigmoid"])
def test_what_is_timed_is_what_is_written(activation, form, taking, monkeypatch):
    """Of units that are linear by factors, too: a bound of almost 0 can take longer than one of
    0."""
    monkeypatch.setattr(Liking, "forms", (form, *Liking.forms))
    register_engine("liking", Liking)
    inputs = keras.Input((4, 4, 3))
    x = SparsePReLU(activation=activation, name="units")(layers.Conv2D(4, 1)(inputs))
    model = keras.Model(inputs, layers.Conv2D(2, 1)(x))
    model.get_layer("units").alpha.assign([0.0, 1.0, 0.0, 1.0])
    surgeon = Surgeon(model)
    surgeon.prefer_for("liking")
    made = []

    def engine(network, **options):
        made.append(kinds(network))
        return taking(1e-3)

    stopwatch = Stopwatch(engine, threads=1)
    stopwatch.compared(surgeon.steps, surgeon.steps, (1, 4, 4, 3), 1.0, patient=False)
    assert made == [kinds(surgeon.write_to_time())]


def kinds(network):
    return [type(each).__name__ for each in network.operations]


def test_what_is_saved(taking):
    """By each that the engine can run, beside the first."""
    engine = Engine(taking)
    stopwatch = Stopwatch(engine, threads=1)
    lists = [steps_of(width) for width in (6, 4, 7, 9)]
    saved = stopwatch.saved(lists, (5, 3))
    assert saved == [pytest.approx(2), pytest.approx(0), pytest.approx(-3)]
    # It was called once to see that it runs.
    assert engine.last.calls == 1 + UNDECIDED
    made = len(engine.made)
    assert stopwatch.saved(lists, (5, 3)) is saved
    assert len(engine.made) == made

    # Of what takes long, until three seconds are over.
    saved = stopwatch.saved([steps_of(100), steps_of(90)], (5, 3))
    assert saved == [pytest.approx(10)]
    assert engine.last.calls == 1 + 2 * CALLS


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_multiplications(data_format):
    """Of the same network with its channels elsewhere."""
    first = data_format == "channels_first"
    inputs = keras.Input((4, 9, 7) if first else (9, 7, 4))
    common = {"data_format": data_format, "use_bias": False}
    x = layers.Conv2D(6, (3, 1), activation="relu", groups=2, **common)(inputs)
    x = layers.DepthwiseConv2D(2, strides=2, activation="relu", depth_multiplier=3, **common)(x)
    x = layers.Conv2D(5, 1, **common)(x)
    steps = Surgeon(keras.Model(inputs, x)).steps
    parts = [7 * 7 * 6 * 2 * 3, 3 * 3 * 18 * 4, 3 * 3 * 18 * 5]
    shape = (None, *inputs.shape[1:])
    assert macs(steps, shape) == sum(parts)
    for number in range(3):
        assert macs(steps[: 2 * number + 1], shape) == sum(parts[: number + 1])
