"""Claims are judged by made-up results, of which it is known what is to be found."""

import numpy as np
import pandas as pd
import pytest

from studies.claims import CLAIMS
from studies.claims.finding import (
    CONFIRMED,
    MIXED,
    NO_RESULTS,
    NOT_CONFIRMED,
    PARTLY,
    UNDECIDED,
    verdict,
)
from studies.claims.results import Results
from studies.statistics.comparison import at, curves, gaps, gaps_at_targets, ladders
from studies.statistics.spread import Spread

pytestmark = pytest.mark.once

FULL = 8.0
SEEDS = range(3)


def rows(experiment, variant, score, lengths=tuple(range(9)), noise=0.1, **columns):
    """Runs whose score is a function of path length, and differs between seeds by `noise`."""
    return [
        {
            "experiment": experiment,
            "variant": variant,
            "cell": f"{experiment}-{variant}-{seed}-{length}",
            "status": "finished",
            "seed": seed,
            "score": score(length) + noise * (seed - 1),
            "score_before": score(FULL) + noise * (seed - 1),
            "score_name": "accuracy in %",
            "path_length": float(length),
            "path_length_before": FULL,
            "start_epoch": 2,
            "parameters": 1000,
        }
        | columns
        for seed in SEEDS
        for length in lengths
    ]


def found(claim, table, epochs=(), **arguments):
    frame = pd.DataFrame(table)
    epochs = pd.DataFrame(epochs, columns=None if len(epochs) else ["cell"])
    return CLAIMS[claim](**arguments).find(Results(frame, epochs))


def test_spread():
    spread = Spread((1.0, 2.0, 3.0))
    assert str(spread) == "2.00 ± 1.00"
    # Student's t for 2 degrees of freedom is 4.303.
    assert spread.interval == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5), abs=1e-3)
    assert spread.sign == 0
    assert Spread((1.0, 1.1, 1.2)).sign == 1
    assert Spread((-1.0, -1.1, -1.2)).sign == -1
    assert Spread((5.0,)).sign == 0
    assert str(Spread((5.0,))) == "5.00 (one seed)"


def test_gaps_are_those_at_equal_path_length():
    """Two straight lines, of which one lies 3 above the other, at different path lengths."""
    upper = curves(pd.DataFrame(rows("a", "", lambda x: 90 + x, np.array([1.0, 2, 7]))))
    lower = curves(pd.DataFrame(rows("a", "", lambda x: 87 + x, np.array([0.0, 3, 4, 5]))))
    gap, ends = gaps(upper, lower)
    np.testing.assert_allclose(gap.values, 3)
    assert ends == (1.0, 5.0)
    assert gaps(upper, {})[0] is None
    assert at(upper, 4.0).mean == pytest.approx(94)
    assert at(upper, 0.5) is None
    assert at(lower, 0.5).values == pytest.approx((87.4, 87.5, 87.6))
    # Nothing lies between two points.
    assert curves(pd.DataFrame(rows("a", "", lambda x: x, np.array([1.0, 2])))) == {}


def late_and_early(experiment, gap, top=99.0, noise=0.0):
    """Seeds differ in both curves by the same, and in the gap by `noise`."""

    def table(variant, above):
        each = rows(experiment, variant, lambda x: top - FULL + x + above)
        for row in each:
            row["score"] += noise * (row["seed"] - 1) * (variant != "early")
        return each

    return [*table("early", 0), *table("late", gap), *table("late, longer", gap + 1)]


@pytest.mark.parametrize(
    ("gap", "noise", "verdict", "said"),
    [
        (1.5, 0.1, CONFIRMED, "late is above early: the difference is 1.50 ± 0.10 points"),
        (-2.5, 0.1, NOT_CONFIRMED, "late is below early: the difference is -2.50 ± 0.10 points"),
        (0.5, 1.0, UNDECIDED, "late and early are not told apart: the difference is 0.50 ± 1.00"),
    ],
)
def test_late_against_early(gap, noise, verdict, said):
    finding = found(
        "late_against_early", late_and_early("digits", gap, noise=noise), experiments=["digits"]
    )
    assert finding.verdict == verdict
    assert said in finding.sentences[0]
    assert "late, longer - early" in list(finding.table[""])
    assert f"{gap + 1:.2f} ± {noise:.2f}" in finding.sentences[1]
    assert f"p = {finding.table['p, Holm'][0]} after Holm" in finding.sentences[0]
    assert finding.number.startswith(f"{gap:.2f} points, 95 % interval")
    # Only where it is not known takes it more.
    assert ("numbers of seeds: " in " ".join(finding.sentences)) == (verdict == UNDECIDED)
    differences, curves = finding.figure.axes
    names = [label.get_text() for label in differences.get_yticklabels()]
    assert names == ["late - early on digits", "late, longer - early on digits"]
    low, high = differences.lines[1].get_xdata()
    assert f"95 % interval {low:.2f} to {high:.2f}" in finding.number
    np.testing.assert_allclose(differences.lines[2].get_xdata(), gap)
    assert curves.get_title() == "digits"


@pytest.mark.parametrize(
    ("gaps", "verdict", "said"),
    [
        ((0, 0.5, 1, 2, 3, 4), CONFIRMED, "is 1.00, 95 % interval over seeds 1.00 to 1.00"),
        # The easiest has a gap.
        ((0.8, 1, 1.5, 2, 3, 4), NOT_CONFIRMED, "is 1.00, 95 % interval"),
        ((4, 3, 2, 1, 0.5, 0), NOT_CONFIRMED, "is -1.00, 95 % interval over seeds -1.00 to -1.00"),
        ((0, 3, 1, 2, 0.5, 1.5), UNDECIDED, "95 % interval over seeds"),
        ((0, 1, 2), UNDECIDED, "Over 3 tasks"),
    ],
)
def test_difficulty(gaps, verdict, said):
    tasks = [f"task{number}" for number in range(len(gaps))]
    table = []
    for number, (task, gap) in enumerate(zip(tasks, gaps)):
        table += late_and_early(task, gap, top=99 - 5 * number - gap, noise=0.05)
    finding = found("difficulty", table, experiments=tasks[::-1])
    assert finding.verdict == verdict
    assert said in finding.sentences[0]
    assert list(finding.table["experiment"]) == tasks
    assert finding.table["missing before"].iloc[1] == "6.00 ± 0.10"
    assert ("takes 6 tasks at least" in finding.sentences[-1]) == (len(gaps) < 6)
    assert found("difficulty", table, experiments=tasks[:1]).verdict == NO_RESULTS


def on_ladder(experiment, variant, above=0.0, targets=(4.0, 2.0), seeds=range(5), **columns):
    """Runs that stop at targets, and overshoot them by less than a unit."""
    return [
        {
            "experiment": experiment,
            "variant": variant,
            "cell": f"{experiment}-{variant}-{seed}-{target}",
            "status": "finished",
            "seed": seed,
            "score": 80 + target + above + seed + 0.1 * (seed % 2) * bool(above),
            "score_before": 90.0,
            "score_name": "accuracy in %",
            "target": target,
            "target_path_length": target,
            "path_length": target - 0.01 * seed,
            "path_length_before": FULL,
            "start_epoch": 2,
        }
        | columns
        for seed in seeds
        for target in targets
    ]


def test_gaps_are_those_at_the_same_targets():
    """Of the same seeds, whose scores differ by more than the gap."""
    table = [*on_ladder("a", "early"), *on_ladder("a", "late", 3.0)]
    # It missed its target, as the learning rate fell first.
    table += on_ladder("a", "late", 50.0, targets=(1.0,), path_length=1.5)
    table += on_ladder("a", "early", targets=(1.0,))
    finding = found("late_against_early", table, experiments=["a"])
    assert finding.verdict == CONFIRMED
    assert (
        "a: at the same targets (4, 2), late is above early: the difference is 3.04 ± 0.05"
        in (finding.sentences[0])
    )
    assert list(finding.table["target"]) == ["mean of 2", "4", "2"]
    frame = pd.DataFrame(table)
    early, late = (ladders(frame[frame["variant"] == each]) for each in ("early", "late"))
    gap, at_targets = gaps_at_targets(late, early)
    np.testing.assert_allclose(gap.values, [3.0, 3.1, 3.0, 3.1, 3.0])
    assert list(at_targets) == [4.0, 2.0]
    assert gaps_at_targets(late, {}) == (None, {})
    # Shares of units, and budgets of compress.py, are met as closely.
    shares = frame.drop(columns="target_path_length").assign(target=0.1, nonlinear_units=0.11)
    assert ladders(shares).keys() == {0, 1, 2, 3, 4}
    assert not ladders(shares.assign(nonlinear_units=0.13))
    assert not ladders(shares.assign(budget=0.1, reached=0.13))


def test_starts_and_reasons():
    table = [
        row
        for experiment, above in (("a", 2.0), ("one cosine", 0.0))
        for variant, gap in (("early", 0.0), ("from 1/8", above / 2), ("late", above))
        for row in on_ladder(experiment, variant, gap)
    ]
    finding = found(
        "late_against_early",
        table,
        experiments=["a"],
        starts=["from 1/8"],
        reasons={"one cosine": "the learning rate falls once"},
    )
    # Reasons do not count, and neither does what is the same once more.
    assert finding.verdict == CONFIRMED
    again = [row | {"experiment": "again"} for row in table if row["experiment"] == "a"]
    twice = found("late_against_early", [*table, *again], experiments=["a", "again"])
    assert set(twice.table["experiment"]) == {"a"}
    assert set(finding.table[""]) == {"late - early", "from 1/8 - early"}
    assert (
        "Tested as a reason: the learning rate falls once. There one cosine: at the same"
        in (finding.sentences[-2])
    )


@pytest.mark.parametrize(
    ("means", "noise", "expected"),
    [
        ((2, 3), 0.1, CONFIRMED),
        ((2, 0), 0.1, PARTLY),
        ((2, -2), 0.1, MIXED),
        ((0, -2), 0.1, NOT_CONFIRMED),
        # Less than a point, and known to be.
        ((0.0, 0.0), 0.1, NOT_CONFIRMED),
        ((0.0, 0.0), 3.0, UNDECIDED),
        # Each is below 5 %, but not both together.
        ((1.0, 1.0), 0.9, UNDECIDED),
    ],
)
def test_verdicts(means, noise, expected):
    gaps = [Spread(tuple(m + noise * x for x in (-1, -0.5, 0, 0.5, 1))) for m in means]
    assert verdict(gaps) == expected


def test_decay():
    # 1 point for a tenth, and 20 for the last.
    collapsing = rows(
        "digits",
        "late",
        lambda x: 90 + 10 * x / FULL if x > 0.8 else 71 + 25 * x,
        noise=0,
        lengths=np.array([0, 0.4, 0.8, 1, 2, 4, 6, 8]),
    )
    finding = found("decay", collapsing, experiments=["digits"])
    assert finding.verdict == CONFIRMED
    assert "costs 1.00 ± 0.00 points in its upper half, and 20.00 ± 0.00 in" in finding.sentences[0]
    assert finding.table["50%"].iloc[0] == "95.00 ± 0.00"
    straight = rows("digits", "late", lambda x: 90 + x)
    assert found("decay", straight, experiments=["digits"]).verdict == NOT_CONFIRMED


@pytest.mark.parametrize(("above", "verdict"), [(2.0, CONFIRMED), (-2.0, NOT_CONFIRMED)])
def test_shallow(above, verdict):
    table = rows("digits", "late", lambda x: 90 + x)
    for variant, depth, better in (
        ("plain3", 2.0, 0),
        ("plain5", 4.0, 0),
        ("plain3, wide", 2.0, 1),
    ):
        level = 90 + depth - above + better
        table += rows("plain", variant, lambda x, level=level: level, np.array([depth]))
    finding = found("shallow", table, experiments={"digits": "plain"})
    assert finding.verdict == verdict
    plain, widened = finding.sentences
    assert f"pressed minus plain is {above:.2f} ± 0.00 points at 2.00, {above:.2f}" in plain
    assert f"pressed minus widened is {above - 1:.2f} ± 0.00 points at 2.00." in widened


def test_velocity_at_targets():
    """The cost of a start is what a network without pressure has more, at the same epochs."""
    table = rows("kernel", "", lambda x: 95, (8,), noise=0, epochs=8)
    logs = [
        {"cell": row["cell"], "epoch": epoch, "ntk_velocity": 0.5**epoch}
        for row in table
        for epoch in range(1, 9)
    ]
    for start in (1, 2, 4, 6):
        late = {"start_epoch": start, "score": 80 + start}
        table += on_ladder("starts", f"{start}", start, epochs=8, **late)
    table += on_ladder("starts", "longer", start_epoch=4, epochs=12, score=0.0)
    finding = found("velocity", table, logs, experiments={"starts": "kernel"})
    assert finding.verdict == CONFIRMED
    assert list(finding.table["cost in points"]) == [f"{15 - s:.2f} ± 0.00" for s in (1, 2, 4, 6)]


def test_shallow_at_targets():
    table = on_ladder("digits", "late", 1.5)
    plain = on_ladder("plain", "plain3", targets=(2.0,))
    table += [row | {"target_path_length": None, "target": None, "parameters": 9} for row in plain]
    finding = found("shallow", table, experiments={"digits": "plain"})
    assert finding.verdict == CONFIRMED
    assert finding.number.startswith("1.54 points, 95 % interval")
    assert "pressed minus plain is 1.54 ± 0.05 points at 1.98" in finding.sentences[0]


def test_baselines():
    table = []
    for method, above in (("ours", 2.0), ("random", 0.0), ("entropy", 3.0)):
        table += rows("budgets", "", lambda x, above=above: 90 + x + above, method=method)
    finding = found("baselines", table, experiments=["budgets"])
    assert finding.verdict == MIXED
    assert "ours is above random: the difference is 2.00 ± 0.00" in finding.sentences[0]
    assert "ours is below entropy: the difference is -1.00 ± 0.00" in finding.sentences[1]


def epochs(table, nonlinear, dead, always_on):
    """Six epochs of two layers of 10 and 30 units. Linearization starts after the second."""
    return [
        {
            "cell": row["cell"],
            "path_length": nonlinear[epoch] * FULL,
            "units/stem": 10,
            "units/stage1_layer1": 30,
            "nonlinear/stem": round(10 * nonlinear[epoch]),
            "nonlinear/stage1_layer1": round(30 * nonlinear[epoch]),
            "dead/stem": 0.0,
            "dead/stage1_layer1": dead,
            "always_on/stem": always_on,
            "always_on/stage1_layer1": 0.0,
        }
        for row in table
        for epoch in range(6)
    ]


@pytest.mark.parametrize(
    ("nonlinear", "verdict"),
    [([1, 1, 0.6, 0.3, 0.3, 0.3], CONFIRMED), ([1, 1, 0.8, 0.6, 0.4, 0.3], NOT_CONFIRMED)],
)
def test_core(nonlinear, verdict):
    table = rows("digits", "late", lambda x: 90 + x, np.array([0.0, 2.4, 8.0]))
    finding = found("core", table, epochs(table, nonlinear, 0, 0), experiments=["digits"])
    assert finding.verdict == verdict
    # Halfway from epoch 2 to epoch 6, and at the end; (3 + 9) / 2 units are left then.
    assert f"from {8 * nonlinear[3]:.2f} ± 0.00 to 2.40 ± 0.00" in finding.sentences[0]
    assert finding.table["width"].iloc[1] == "6.00 ± 0.00"
    assert finding.table["stage1"].iloc[1] == "1 of 1, 30%"
    picture = finding.figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(picture[0], [round(10 * share) / 10 for share in nonlinear])


def test_units():
    table = rows("digits", "late", lambda x: 90 + x, np.array([2.4, 8.0]))
    pressed = [row for row in table if row["path_length"] == 2.4]
    free = [row for row in table if row["path_length"] == 8.0]
    logs = [
        *epochs(pressed, [1, 1, 0.6, 0.3, 0.3, 0.3], 0.1, 0.2),
        *epochs(free, [1] * 6, 0.2, 0.4),
    ]
    finding = found("units", table, logs, experiments=["digits"])
    assert finding.verdict == CONFIRMED
    # Weighted by units: 30 of 40 are in the second layer.
    assert "70.00 ± 0.00 % of the units are linear" in finding.sentences[0]
    assert "15.00 ± 0.00 % are never on and 10.00 ± 0.00 % always on" in finding.sentences[0]
    assert "45.00 ± 0.00 % of the units more" in finding.sentences[0]
    unwatched = pd.DataFrame(logs).drop(columns=["dead/stem", "dead/stage1_layer1"])
    assert found("units", table, unwatched, experiments=["digits"]).verdict == NO_RESULTS


@pytest.mark.parametrize("claim", ["core", "units"])
def test_of_cells_that_were_run_elsewhere_the_epochs_are_not_known(claim):
    table = rows("digits", "late", lambda x: 90 + x, np.array([2.4, 8.0]))
    assert found(claim, table, experiments=["digits"]).verdict == NO_RESULTS
    mine = [row for row in table if row["seed"] == SEEDS[0]]
    finding = found(
        claim, table, epochs(mine, [1, 1, 0.6, 0.3, 0.3, 0.3], 0, 0), experiments=["digits"]
    )
    assert finding.verdict != NO_RESULTS


@pytest.mark.parametrize(("falls", "verdict"), [(True, CONFIRMED), (False, NOT_CONFIRMED)])
def test_velocity(falls, verdict):
    table = rows("kernel", "", lambda x: 99, (8,))
    logs = [
        {"cell": row["cell"], "epoch": epoch, "ntk_velocity": 0.5**epoch}
        for row in table
        for epoch in range(1, 9)
    ]
    for start in (1, 3, 5, 7):
        cost = 8 - start if falls else start
        # At a quarter of the path length it has been paid.
        table += rows(
            *("starts", f"from {start}", lambda x, cost=cost: 99 - cost * (x <= 2)),
            start_epoch=start,
        )
    finding = found("velocity", table, logs, experiments={"starts": "kernel"})
    assert finding.verdict == verdict
    first, last = (7, 1) if falls else (1, 7)
    assert (
        f"{first:.2f} ± 0.00 points from the first start on and {last:.2f}"
        in (finding.sentences[0])
    )
    assert f"is {1 if falls else -1:.2f} ± 0.00" in finding.sentences[0]
    assert list(finding.table["kernel velocity before"])[:2] == ["0.5000", "0.1250"]


@pytest.mark.parametrize("claim", CLAIMS)
def test_nothing_was_run(claim):
    table = [
        {**row, "status": "not run", "score": None, "path_length": None}
        for row in rows("digits", "late", lambda x: x)
    ]
    names = {"digits": "digits"} if claim in ("shallow", "velocity") else ["digits"]
    finding = found(claim, table, experiments=names)
    assert finding.verdict == NO_RESULTS
    assert finding.figure is finding.table is None


@pytest.mark.parametrize("claim", CLAIMS)
def test_few_runs(claim):
    """A study that is not through: two ends are no curve."""
    table = [
        row
        for variant in ("early", "late", "layers")
        for row in rows("digits", variant, lambda x: 90 + x, (0, 8))
    ]
    names = {"digits": "digits"} if claim in ("shallow", "velocity") else ["digits"]
    finding = found(claim, table, epochs(table, [1] * 6, 0.1, 0.1), experiments=names)
    assert finding.verdict == NO_RESULTS
    assert finding.figure is finding.table is None
