"""What plans decide, where time is told by an engine that is made for the test."""

import itertools
import warnings
from dataclasses import replace

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers

from keras_nladv import (
    CollapsePlan,
    SparsePReLU,
    collapse,
    collapse_plan,
    register_engine,
    sparsify,
)
from keras_nladv.engines import Engine
from keras_nladv.merging.arguments import checked
from keras_nladv.merging.candidates import Candidate
from keras_nladv.merging.costs import Comparison, Stopwatch
from keras_nladv.merging.forms import by_liking
from keras_nladv.merging.planner import REFORMED, REWRITTEN, Planner, _worth_timing, choose
from keras_nladv.merging.surgeon import Surgeon

from .test_collapse import randomized

pytestmark = pytest.mark.once


class Priced(Engine):
    """Takes as long as the layers cost, in milliseconds, and now and then much longer."""

    name = "priced"
    packages = dict.fromkeys(("jax", "torch", "tensorflow"), ("keras",))
    prices: dict = {}  # noqa: RUF012
    noise = 0.0
    rng = np.random.default_rng(0)
    made: list = []  # noqa: RUF012
    sizes: list = []  # noqa: RUF012

    @classmethod
    def version(cls):
        return "1.2"

    def convert(self, model):
        self.made.append((self.batch_size, self.threads))
        self.sizes.append(self.size)
        self.shapes = [[n or 2 for n in x.shape] for x in model.outputs]
        kinds = [type(each).__name__ for each in model.operations]
        kinds += [
            "Fused"
            for each in model.operations
            if getattr(each, "activation", None) not in (None, keras.activations.linear)
        ]
        self.seconds = 1e-3 * sum(self.prices.get(kind, 0) for kind in kinds)

    def run(self, arrays):
        # A call takes something, too.
        self.clock.now += 1e-5 + self.seconds + self.rng.exponential(1e-3 * self.noise)
        return [np.zeros(shape) for shape in self.shapes]


@pytest.fixture(autouse=True)
def priced(monkeypatch, clock):
    register_engine("priced", Priced)
    Priced.made.clear()
    monkeypatch.setattr(Priced, "clock", clock, raising=False)

    def set_prices(noise=0.0, **prices):
        monkeypatch.setattr(Priced, "prices", prices)
        monkeypatch.setattr(Priced, "noise", noise)

    return set_prices


def feed_forward(share, blocks=1, width=64):
    inputs = x = keras.Input((8,))
    for block in range(blocks):
        y = layers.Dense(width, activation="gelu", name=f"wide_{block}")(x)
        y = layers.Dense(8, name=f"narrow_{block}")(y)
        x = layers.LayerNormalization()(layers.Add()([x, y]))
    sparse = sparsify(keras.Model(inputs, x))
    for layer in sparse.layers:
        if isinstance(layer, SparsePReLU):
            layer.alpha.assign(np.arange(width) < share * width)
    return sparse


def outcomes(plan):
    return {row["name"]: row["outcome"] for row in plan.rows}


def test_what_pays_is_up_to_the_engine(priced):
    """Half of the units are linear: a layer more, and a narrower activation."""
    model = feed_forward(0.5)
    priced(Dense=0.05, Where=0.25, Rescaling=0.25)
    plan = collapse_plan(model, engine="priced", verbose=False)
    assert "taken" in outcomes(plan).values()
    priced(Dense=0.1, Add=0.1)
    plan = collapse_plan(model, engine="priced", verbose=False)
    assert "taken" not in outcomes(plan).values()
    assert len(collapse(model, plan).weights) == len(collapse(model, plan, engine="priced").weights)


def test_what_is_hardly_faster_does_not_pay(priced):
    """Unless it takes no more multiplications."""
    few, half = feed_forward(0.03), feed_forward(0.5)
    for model, where, pays in ((few, 0.53, False), (few, 0.6, True), (half, 0.53, True)):
        priced(Dense=1.0, Where=where, Rescaling=where)
        plan = collapse_plan(model, engine="priced", verbose=False)
        assert ("taken" in outcomes(plan).values()) == pays
        reasons = {"", "others pay more"} if pays else {"it does not pay"}
        assert {row["reason"] for row in plan.rows} == reasons


def test_what_saves_most_time_is_merged(monkeypatch, priced):
    """Which is not what takes most, nor most of the multiplications."""

    def compared(self, before, after, *args, **options):
        return {2: Comparison(2.0, 1.0, 0.4, 0.6), 3: Comparison(9.0, 8.5, 0.9, 0.95)}[len(before)]

    monkeypatch.setattr(Stopwatch, "compared", compared)
    priced(Dense=1.0)
    model = keras.Sequential(
        [keras.Input((16,)), *(layers.Dense(8, name=name) for name in ("a", "b", "c"))]
    )
    plan = collapse_plan(model, engine="priced", verbose=False)
    # Of what is refused there is nothing to say in the second round.
    assert [(row["round"], row["name"], row["outcome"], row["reason"]) for row in plan.rows] == [
        (1, "a + b", "taken", ""),
        (1, "a + b + c", "refused", "others pay more"),
        (1, "b + c", "refused", "others pay more"),
        (2, "b + c", "taken", ""),
    ]


@pytest.mark.parametrize("example", [False, True])
def test_unknown_sizes_are_those_that_are_given(priced, example):
    inputs = keras.Input((4, None, 3))
    x = SparsePReLU(name="units")(layers.Conv2D(8, 1)(inputs))
    model = keras.Model(inputs, layers.Conv2D(3, 1)(x))
    priced(Conv2D=1.0)
    Priced.sizes.clear()
    options = {"example_inputs": np.ones((1, 4, 7, 3))} if example else {"size": 7}
    plan = collapse_plan(model, engine="priced", verbose=False, **options)
    assert Priced.sizes[-1] == 7
    assert {None, 7} >= set(Priced.sizes)
    assert plan.rows == []


def test_forms_are_chosen_by_the_engine(priced):
    inputs = keras.Input((40, 40, 3))
    x = layers.Conv2D(16, 3)(inputs)
    x = layers.MaxPooling2D()(SparsePReLU(activation="relu6", name="units")(x))
    model = keras.Model(inputs, x)
    model.get_layer("units").alpha.assign(np.arange(16) % 2)
    for prices, expected in (({"Where": 1.0}, "Minimum"), ({"Maximum": 1.0}, "Add")):
        priced(Conv2D=0.2, **prices)
        collapsed = collapse(model, engine="priced")
        kinds = [type(each).__name__ for each in collapsed.operations]
        assert expected in kinds
        assert not kinds.count(next(iter(prices)))


def test_an_engine_need_not_name_all_forms(priced, monkeypatch):
    """The others come last, in Keras' own order."""
    monkeypatch.setattr(Priced, "forms", ("where",))
    inputs = keras.Input((4,))
    model = keras.Model(inputs, SparsePReLU(name="units")(layers.Dense(6)(inputs)))
    model.get_layer("units").alpha.assign(np.arange(6) % 2)
    collapsed = collapse(model, engine="priced")
    assert [type(each).__name__ for each in collapsed.operations][-1] == "Where"
    (step,) = [each for each in Surgeon(model).steps if hasattr(each, "slopes")]
    assert by_liking(step, ("where",)) == ["where", "maximum", "prelu", "sum", "apart"]


def test_layers_are_divided_where_that_pays(priced):
    """Borders keep them from being merged."""
    inputs = keras.Input((12, 12, 4))
    x = layers.Conv2D(8, 3, padding="same", name="one")(inputs)
    x = SparsePReLU(name="units", activation="gelu")(x)
    model = keras.Model(inputs, layers.Conv2D(4, 3, padding="same", name="two")(x))
    model.get_layer("units").alpha.assign(np.arange(8) % 2)
    priced(Conv2D=0.1, DepthwiseConv2D=1.0, Where=1.0, PReLU=1.0)
    plan = collapse_plan(model, engine="priced", verbose=False)
    assert [name for name, outcome in outcomes(plan).items() if outcome == "taken"] == [
        "one + two in two"
    ]


def test_forms_that_are_worth_timing():
    """Those of single activations that the engine likes best, and constant borders."""
    inputs = keras.Input((6, 6, 3))
    x = layers.AveragePooling2D(1)(layers.MaxPooling2D(1)(inputs))
    x = layers.Conv2D(3, 1, name="before", bias_initializer="normal")(x)
    x = layers.ReLU()(layers.Conv2D(3, 2, padding="same", name="padded")(x))
    x = SparsePReLU(name="one")(layers.Conv2D(8, 1, name="wide")(x))
    x = SparsePReLU(name="two", activation="silu")(layers.Conv2D(3, 3, name="narrow")(x))
    shared = layers.Conv2D(4, 1, name="shared")(x)
    three, pooled = SparsePReLU(name="three"), layers.AveragePooling2D(2)(shared)
    outputs = [three(shared), SparsePReLU(name="four", activation="silu")(pooled)]
    model = keras.Model(inputs, outputs)
    for layer in model.layers:
        if isinstance(layer, SparsePReLU):
            layer.alpha.assign(np.arange(layer.alpha.shape[0]) % 2)
    surgeon = Surgeon(model)
    surgeon.carry_out([x for x in surgeon.candidates() if x.name == "before + padded"])
    every = surgeon.forms()
    assert "wide + narrow in two" in {form.name for form in every if form.place[0] >= 0}
    assert all(form.rewrites for form in every)
    forms = {form.name: form for form in every if form.place[0] < 0}
    # Each excludes those of the same step.
    assert len({form.place for form in forms.values()}) == 5
    # With what they can be computed together with, where that goes nowhere else.
    for name, before in (("one", ["wide", "one"]), ("three", ["three"]), ("four", ["four"])):
        assert [step.name for step in forms[f"{name} as sum"].before] == before
        assert [step.name for step in forms[f"{name} as sum"].after] == before
    found = {form.name for form in _worth_timing(every, ["prelu", "sum", "gate", "apart"])}
    assert found == {
        *(f"{name} as {form}" for name in ("one", "three") for form in ("prelu", "sum")),
        *(f"{name} as {form}" for name in ("two", "four") for form in ("sum", "gate")),
        "padded with a constant border",
    }


@pytest.mark.parametrize("seed", range(3))
def test_noise_does_not_keep_what_is_linear_apart(priced, seed):
    """All units linear: an eighth of the multiplications, on cores that are busy."""
    Priced.rng = np.random.default_rng(seed)
    priced(noise=1.0, Dense=0.01)
    model = feed_forward(1.0, blocks=2)
    plan = collapse_plan(model, engine="priced", verbose=False)
    assert sum(isinstance(x, layers.Dense) for x in collapse(model, plan).layers) == 2


def test_certain_losses_are_refused(priced):
    """Also where half of the multiplications would be saved."""
    priced(Dense=0.1, Add=1.0)
    model = feed_forward(0.75)
    sparse = keras.Sequential([keras.Input((8,)), *model.layers[1:4]])
    plan = collapse_plan(sparse, engine="priced", verbose=False)
    (row,) = (row for row in plan.rows if "+" in row["name"])
    assert row["macs_after"] < 0.5 * row["macs_before"]
    assert row["outcome"] == "refused"


def test_nothing_linear_nothing_written_anew(priced):
    """Another layer is written only where it is faster for certain."""
    inputs = keras.Input((32, 32, 8))
    x = layers.Conv2D(48, 1, activation="relu")(inputs)
    model = keras.Model(inputs, layers.Conv2D(8, 1)(x))
    priced(noise=0.3)
    for engine_seed in range(3):
        Priced.rng = np.random.default_rng(engine_seed)
        collapsed = collapse(model, engine="priced", batch_size=8)
        assert [type(x).__name__ for x in collapsed.layers[1:]] == ["Conv2D", "Conv2D"]


def test_what_counts_as_slower(priced, monkeypatch):
    """Parts of the network, and all of it, by the median and what is certain: what saves much is
    refused if it is slower for certain, other merges if they are not faster by 3 %, or for certain
    with no more multiplications, and what is only written in another way if it is not faster for
    certain, by 5 and 10 %."""
    # As it was given it would not be faster.
    part = whole = Comparison(1.0, 0.99, 0.98, 0.995)
    slower = Comparison(1.0, 2.0, 1.9, 2.1)
    given = {}

    def compared(self, before, after, *args, **options):
        # Back again it is not.
        return part if given.setdefault(type(before[-1]), before[-1]) is before[-1] else slower

    monkeypatch.setattr(Stopwatch, "compared", compared)
    monkeypatch.setattr("keras_nladv.merging.planner.compared", lambda *args, **options: whole)
    # Not what is written anew.
    monkeypatch.setattr("keras_nladv.merging.planner.TELLING", {REWRITTEN: 1e9, REFORMED: 1e9})
    models = [feed_forward(share) for share in (0.03, 0.5, 1.0)]

    def pays(*models):
        for each in models:
            given.clear()
            plan = collapse_plan(each, engine="priced", verbose=False)
            yield "taken" in outcomes(plan).values()

    for numbers, expected in (
        ((0.96, 0.9, 1.1), (True, True, True)),
        ((0.98, 0.95, 0.99), (False, True, True)),
        ((0.98, 0.95, 1.01), (False, False, True)),
        ((1.02, 0.99, 1.1), (False, False, True)),
        ((1.02, 1.01, 1.03), (False, False, False)),
    ):
        part = Comparison(1.0, *numbers)
        assert (*pays(*models),) == expected, numbers
    part = Comparison(1.0, 0.9, 0.8, 0.95)
    for numbers, expected in (
        ((1.0, 0.98, 1.01), (True, True)),
        ((1.01, 0.99, 1.02), (False, True)),
        ((1.02, 1.01, 1.03), (False, False)),
    ):
        whole = Comparison(1.0, *numbers)
        assert (*pays(*models[1:]),) == expected, numbers
    whole = Comparison(1.0, 0.99, 0.98, 0.995)
    inputs = keras.Input((4, 4, 2))
    rewritten = keras.Model(inputs, layers.Conv2D(3, 1)(inputs))
    units = SparsePReLU(activation="gelu", name="units")
    reformed = keras.Model(inputs, units(inputs))
    units.alpha.assign([0.0, 1.0])
    monkeypatch.setattr("keras_nladv.merging.planner.TELLING", {})
    for numbers, expected in (
        ((0.89, 0.8, 0.99), (True, True)),
        ((0.89, 0.8, 1.01), (False, False)),
        ((0.91, 0.9, 0.92), (False, True)),
        ((0.96, 0.95, 0.97), (False, False)),
    ):
        part = Comparison(1.0, *numbers)
        assert (*pays(rewritten, reformed),) == expected, numbers
    part = Comparison(1.0, 0.8, 0.8, 0.8)
    whole = Comparison(1.0, 0.99, 0.98, 1.01)
    assert not any(pays(rewritten, reformed))


@pytest.mark.parametrize(
    ("size", "batch_size", "taken"),
    [
        (10, 9, []),
        (10, 10, ["units as prelu"]),
        (10, 99, ["units as prelu"]),
        (10, 100, ["conv as Dense", "units as prelu"]),
        (1, 100, []),
    ],
)
def test_what_is_too_little_to_be_told(priced, size, batch_size, taken):
    """A million multiplications for another layer, a tenth of that for another form."""
    inputs = keras.Input((size, size, 10))
    x = SparsePReLU(name="units")(layers.Conv2D(10, 1, name="conv")(inputs))
    model = keras.Model(inputs, layers.Softmax()(x))
    model.get_layer("units").alpha.assign(np.arange(10) % 2)
    priced(Conv2D=1.0, Maximum=1.0)
    plan = collapse_plan(model, engine="priced", batch_size=batch_size, verbose=False)
    assert sorted(name for name, outcome in outcomes(plan).items() if outcome == "taken") == taken


def test_plans_say_what_they_were_made_with(priced, tmp_path):
    priced(Dense=0.2)
    model = feed_forward(1.0)
    plan = collapse_plan(model, engine="priced", batch_size=3, threads=2, verbose=False)
    assert set(Priced.made) == {(3, 2)}
    wanted = {"engine": "priced", "version": "1.2", "threads": 2, "batch_size": 3}
    assert wanted.items() <= plan.setting.items()
    assert plan.setting["processor"]
    assert plan.setting["backend"] == keras.backend.backend()
    plan.save(tmp_path / "plan.json")
    again = CollapsePlan.load(tmp_path / "plan.json")
    assert again.setting == plan.setting
    with pytest.warns(UserWarning, match=r"made for engine 'priced'.*in 'keras'. Make it anew"):
        collapse(model, again, engine="keras")
    # Warnings are errors. Multiplications are the same in all.
    collapse(model, again)
    collapse(model, again, engine="priced")
    collapse(model, collapse_plan(model, cost="macs", verbose=False), engine="priced")
    Priced.made.clear()
    collapse(model, engine="priced")
    assert set(Priced.made) == {(1, 1)}


def test_time_is_over(priced, monkeypatch):
    priced(Dense=0.2)
    monkeypatch.setattr("keras_nladv.merging.planner.PATIENCE", 0.0)
    rows = collapse_plan(feed_forward(1.0), engine="priced", verbose=False).rows
    assert "taken" in {row["outcome"] for row in rows}
    assert all(row["ms_before"] is row["ms_after"] is None for row in rows)
    rows = collapse_plan(feed_forward(0.25), engine="priced", verbose=False).rows
    assert {row["reason"] for row in rows} == {"the time for planning was over"}


def test_plans_as_text():
    """Times where there are some, rounds by number."""
    row = {"round": 1, "name": "a + b", "macs_before": 100, "macs_after": 40}
    timed = {**row, "ms_before": 1.23456, "ms_after": 0.5, "outcome": "taken", "reason": ""}
    untimed = {**row, "round": 2, "ms_before": None, "ms_after": None, "outcome": "refused"}
    untimed["reason"] = "borders"

    def said(*rows):
        head, _, *lines = str(CollapsePlan([*rows], "", "time")).splitlines()
        return [" ".join(line.split()) for line in (head, *lines)]

    heads = "round layers MACs after why", "round layers MACs after ms after why"
    assert said(timed) == [heads[1], "1 a + b 100 40 1.235 0.500 taken"]
    assert said(untimed) == [heads[0], "2 a + b 100 40 refused borders"]
    head, _, last = said(timed, untimed)
    assert head == heads[1]
    assert last.endswith("refused borders")
    assert str(CollapsePlan([], "", "time")) == "nothing to merge"
    assert CollapsePlan([timed, untimed, {**timed, "round": 3}], "", "time").taken == [
        ["a + b"],
        [],
        ["a + b"],
    ]


PLACES = st.tuples(st.integers(1, 2), st.integers(0, 3), st.integers(0, 3))


# The clock is for others.
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_the_best_of_what_does_not_overlap_is_chosen(data):
    """Found by trying; of equal gains, that which leaves fewer steps."""
    steps = {chain: [object() for _ in range(4)] for chain in (1, 2)}
    spans = PLACES.filter(lambda place: place[1] <= place[2])
    gains = {
        Candidate("", (chain, first, last), steps[chain][first : last + 1]): data.draw(
            st.integers(1, 3)
        )
        for chain, first, last in data.draw(st.lists(spans, min_size=1, max_size=7, unique=True))
    }

    def score(some):
        return sum(gains[each] for each in some), sum(len(each.before) for each in some)

    def lie_apart(some):
        covered = [step for each in some for step in each.before]
        return len(covered) == len(set(covered))

    subsets = (itertools.combinations(gains, count) for count in range(len(gains) + 1))
    possible = filter(lie_apart, itertools.chain.from_iterable(subsets))
    chosen = choose(gains)
    assert lie_apart(chosen)
    assert score(chosen) == max(map(score, possible))


def test_what_gains_more_is_served_first():
    """Of two chains that meet."""
    one, other, both = object(), object(), object()
    gains = {
        Candidate("less", (1, 0, 1), [one, both]): 2,
        Candidate("more", (2, 0, 0), [both]): 3,
        Candidate("apart", (3, 0, 0), [other]): 1,
    }
    for order in itertools.permutations(gains):
        chosen = choose({each: gains[each] for each in order})
        assert [each.name for each in chosen] == ["more", "apart"]


def test_what_is_blamed_when_the_network_is_not_faster():
    """The half that gains least of its time, but nothing that saves much beside what does not."""
    gains = {"a": 1.0, "b": 0.5, "c": 3.0}

    def blamed(*names, much=""):
        rows = {
            name: {
                "macs_before": 10,
                "macs_after": 4 if name in much else 9,
                "ms_before": 1 if name == "b" else 10,
            }
            for name in names
        }
        return Planner._blamed(None, rows, gains)

    assert blamed("a", "b", "c") == {"a", "c"}
    assert blamed("b", "c") == blamed("c") == {"c"}
    assert blamed("a", "b", "c", much="c") == {"a", "b"}
    assert blamed("b", "c", much="bc") == {"c"}


@pytest.mark.parametrize("first", [False, True])
def test_what_could_be_written_as_another_layer(first):
    common = {"data_format": "channels_first" if first else "channels_last"}
    inputs = keras.Input((5, 4, 3))
    x = layers.Conv2D(3, 1, name="conv", **common)(inputs)
    x = layers.MaxPooling2D(1, **common)(layers.Conv2D(3, 2, activation="relu", **common)(x))
    x = layers.ReLU()(layers.BatchNormalization(axis=1 if first else -1)(x))
    x = layers.GlobalMaxPooling2D()(layers.Dense(2, name="dense")(x))
    surgeon = Surgeon(keras.Model(inputs, layers.Dense(2)(x)))
    names = {each.name for each in surgeon.candidates() if each.rewrites}
    assert names == ({"dense as Conv2D"} if first else {"conv as Dense", "dense as Conv2D"})


def test_batches_are_those_that_the_engine_is_used_with():
    model = feed_forward(0.0)
    assert checked(model, "keras", "time", None, 1, 8) == [32, 1, 8]
    assert checked(model, "priced", "time", None, 2, 8) == [1, 2, 8]


def test_bad_arguments():
    model = feed_forward(1.0)
    for call in (collapse, collapse_plan):
        with pytest.raises(ValueError, match="`engine` must be one of"):
            call(model, engine="abacus")
        for argument in ("batch_size", "threads"):
            with pytest.raises(ValueError, match=f"`{argument}` must be an integer of at least 1"):
                call(model, **{argument: 0})


@pytest.mark.parametrize(
    ("anywhere", "reason"),
    [(True, "cannot run it: "), (False, "cannot run the network with it: ")],
)
def test_what_the_engine_cannot_run_is_not_taken(priced, monkeypatch, anywhere, reason):
    """By itself, or in the whole network."""
    model = feed_forward(0.75)
    convert = Priced.convert

    def refusing(self, model):
        convert(self, model)
        kinds = [type(each).__name__ for each in model.operations]
        if kinds.count("Dense") > 2 and (anywhere or "LayerNormalization" in kinds):
            raise RuntimeError("too many\nlayers")

    monkeypatch.setattr(Priced, "convert", refusing)
    priced(Dense=0.05, Where=0.9, Rescaling=0.9)
    plan = collapse_plan(model, engine="priced", verbose=False)
    reasons = [row["reason"] for row in plan.rows if "+" in row["name"]]
    assert any(reason in each and "too many" in each for each in reasons)
    assert not any("layers" in each for each in reasons)
    assert collapse(model, plan).count_params()


@pytest.mark.parametrize("function", ["relu6", "sigmoid"])
def test_channels_come_in_blocks_that_the_engine_likes(priced, monkeypatch, function):
    inputs = keras.Input((6, 6, 4))
    x = layers.Conv2D(30, 1, bias_initializer="normal")(inputs)
    first, second = (SparsePReLU(activation=function, name=name) for name in ("first", "second"))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, bias_initializer="normal")(first(x))
    model = keras.Model(inputs, layers.Conv2D(4, 1)(second(x)))
    # 12 of the 30 are linear on both sides, and 3 on one.
    first.alpha.assign(np.arange(30) < 15)
    second.alpha.assign(np.arange(60) < 24)
    priced(Conv2D=0.1, DepthwiseConv2D=0.1, Maximum=2, Minimum=2, Where=2, Rescaling=2)
    # What would be all channels again stays as it is.
    for multiple, channels in ((1, 18), (8, 24), (16, 18)):
        monkeypatch.setattr(Priced, "multiple", multiple)
        # It compares what comes out with what was given.
        collapsed = collapse(model, engine="priced")
        (depthwise,) = (x for x in collapsed.layers if isinstance(x, layers.DepthwiseConv2D))
        assert depthwise.input.shape[-1] == channels


def test_what_was_given_is_a_candidate(priced, monkeypatch, tmp_path):
    """An engine may like normalization where it was; and what is done at once is not asked for."""
    inputs = keras.Input((6, 6, 4))
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(8, 3, name="conv")(inputs))
    model = keras.Model(inputs, layers.ReLU()(x))
    assert not collapse_plan(model, engine="priced", verbose=False).rows
    convert = Priced.convert

    def convert_slowly(self, model):
        convert(self, model)
        if not any(isinstance(x, layers.BatchNormalization) for x in model.layers):
            self.seconds += 1e-3

    monkeypatch.setattr(Priced, "convert", convert_slowly)
    priced(Conv2D=1.0)
    plan = collapse_plan(model, engine="priced", verbose=False)
    assert outcomes(plan) == {"all of it, as given": "taken"}
    plan.save(tmp_path / "plan.json")
    plan = CollapsePlan.load(tmp_path / "plan.json")
    for collapsed in (collapse(model, plan), collapse(model, engine="priced")):
        assert [layer.name for layer in collapsed.layers][1:3] == ["conv", "norm"]


def test_what_is_slower_than_plain_activations_is_said(priced, tmp_path):
    """There is nothing to go back to."""
    inputs = keras.Input((4, 4, 3))
    x = SparsePReLU(name="units")(layers.Conv2D(8, 3)(inputs))
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    priced(Conv2D=1.0, Maximum=0.25)
    assert collapse_plan(model, engine="priced", verbose=False).speed is None
    model.get_layer("units").alpha.assign(np.arange(8) % 2)
    with pytest.warns(UserWarning, match=r"is 0\.8. times as fast in engine 'priced' as it would"):
        plan = collapse_plan(model, engine="priced", verbose=False)
    assert plan.speed == pytest.approx(1.0 / 1.25, abs=0.01)
    plan.save(tmp_path / "plan.json")
    plan = CollapsePlan.load(tmp_path / "plan.json")
    assert str(plan).endswith("0.80 times as fast as with all units nonlinear")
    priced(Conv2D=1.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*times as fast in engine")
        assert collapse_plan(model, engine="priced", verbose=False).speed == pytest.approx(1.0)


@pytest.mark.parametrize("function", ["relu", "relu6"])
def test_that_weights_stay_in_float32_is_asked_where_it_helps(function, priced, monkeypatch):
    monkeypatch.setattr(Priced, "forms_in_float32", ("centered", *Engine.forms))
    inputs = keras.Input((4, 4, 3))
    x = SparsePReLU(activation=function)(layers.Conv2D(8, 3)(inputs))
    model = randomized(keras.Model(inputs, layers.Conv2D(2, 1)(x)), 0.5)
    priced(Conv2D=1.0, Maximum=0.5)
    said = {}
    for for_int8 in (None, True, False):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            plan = collapse_plan(model, engine="priced", for_int8=for_int8, verbose=False)
        said[for_int8] = "".join(
            str(x.message) for x in caught if "times as fast" in str(x.message)
        )
        assert plan.setting["for_int8"] is for_int8
        fast = function == "relu6" and for_int8 is False
        assert plan.speed == pytest.approx(1.0 if fast else 0.8, abs=0.01)
        assert bool(said[for_int8]) != fast
    assert ("say `for_int8=False`" in said[None]) == (function == "relu6")
    assert "for_int8" not in said[True] + said[False]


def test_what_is_timed_alike():
    """Steps are told apart by all that their time depends on, their values aside."""
    one, other = (
        keras.Sequential([keras.Input((6, 6, 6)), layers.Conv2D(6, 3, activation="relu")])
        for _ in range(2)
    )
    (mapped, activated), (same, _) = (Surgeon(model).steps for model in (one, other))
    assert mapped.signature == same.signature
    for change in ({"axis": 1}, {"kind": "dense"}, {"policy": "float16"}, {"border": "constant"}):
        assert replace(mapped, **change).signature != mapped.signature
    for change in (
        {"axis": 1},
        {"form": "sum"},
        {"function": keras.activations.relu6},
        {"slopes": np.ones(6)},
        {"slopes": np.zeros(1)},
    ):
        assert replace(activated, **change).signature != activated.signature
