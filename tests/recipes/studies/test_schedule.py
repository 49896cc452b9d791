"""In what order cells come, when there are enough seeds, and what is known from elsewhere."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import keras_nladv
from running.errors import RecipeError
from studies.directory import results
from studies.planning import schedule
from studies.planning.definition import Experiment, Ladder, Seeds, find, parse, read_file
from studies.planning.schedule import Clock, carry_out
from studies.statistics.significance import holm, seeds_needed

pytestmark = pytest.mark.once

DOCS = Path(__file__).parents[3] / "docs"
VARIANTS = {"early": {"start_epoch": 0}, "late": {"start_epoch": 1}}


class MadeUp:
    """An engine whose cells have the scores of a function, of a variant and a seed."""

    free = True

    def __init__(self, directory, score, seconds=60.0):
        self.directory, self.score, self.seconds, self.ran = directory, score, seconds, []

    def submit(self, cell):
        self.free, self.cell = False, cell

    def next(self):
        self.free = True
        self.ran.append(self.cell)
        score = self.score(self.cell.variant, self.cell.options["seed"])
        if score is None:
            (self.directory / "errors").mkdir(exist_ok=True)
            self.cell.fail(self.directory, "it diverged")
            return self.cell.id
        summary = {
            "accuracy_after": score / 100,
            "path_length": 2.0,
            "path_length_before": 8.0,
            "seconds": self.seconds,
            "versions": {"keras_nladv": keras_nladv.__version__, "keras": "3"},
        }
        self.cell.take_over(self.directory, summary, None)
        return self.cell.id


def experiment(name="a", recipe="cifar", **arguments):
    arguments = {"variants": VARIANTS, "seeds": Seeds(2, 3, 6)} | arguments
    return Experiment(name, recipe, ladder=Ladder("target_path_length", [4.0, 2.0]), **arguments)


def test_holm():
    # Of R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm").
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_seeds_needed():
    # Of G*Power and R's power.t.test(type = "paired"): for an effect of 1, 0.5 and 2.
    assert [seeds_needed(1.0), seeds_needed(2.0), seeds_needed(0.5)] == [10, 34, 5]
    assert seeds_needed(0.0) == 2
    assert seeds_needed(1e6, most=50) == 50
    # And by drawing.
    drawn = np.random.default_rng(0).normal(1.0, 0.7, (20_000, seeds_needed(0.7)))
    assert (stats.ttest_1samp(drawn, 0.0, axis=1).pvalue < 0.05).mean() >= 0.79
    assert (stats.ttest_1samp(drawn[:, 1:], 0.0, axis=1).pvalue < 0.05).mean() < 0.8


def test_the_first_seed_of_all_comes_first(tmp_path):
    one = experiment("one", seeds=None, options={"width": 0.5}, grid={"seed": [7, 3]})
    two, last = experiment("two"), experiment("last", options={"width": 2.0}, rank=0)
    later = experiment("later", options={"width": 3.0}, rank=2)
    engine = MadeUp(tmp_path, lambda variant, seed: 50.0)
    cells = list(carry_out([later, one, two, last], "jax", tmp_path, engine))
    order = [(cell.experiment, cell.options["seed"]) for cell in cells]
    # Gaps are the same with each seed: the fewest are enough.
    assert list(dict.fromkeys(order)) == [
        *(("one", 7), ("two", 0), ("last", 0), ("one", 3), ("two", 1), ("last", 1)),
        *(("later", 0), ("two", 2), ("last", 2), ("later", 1), ("later", 2)),
    ]
    # What is on disk says the same, and nothing is run again.
    again = MadeUp(tmp_path, None)
    assert [*carry_out([later, one, two, last], "jax", tmp_path, again)] == cells
    assert [*carry_out([later, one, two, last], "jax", tmp_path, None)] == cells
    assert not again.ran


@pytest.mark.parametrize(("spread", "seeds"), [(0.0, 3), (0.5, 4), (1.0, 6)])
def test_seeds_follow_from_the_pilot(tmp_path, spread, seeds):
    """The gap is 3 + spread * (-1 or 1): its deviation is that times the square root of 2."""
    engine = MadeUp(
        tmp_path,
        lambda variant, seed: 50 + 9 * seed + (variant == "late") * (3 + spread * (-1) ** seed / 2),
    )
    cells = list(carry_out([experiment()], "jax", tmp_path, engine))
    assert max(cell.options["seed"] for cell in cells) + 1 == seeds
    assert seeds == np.clip(seeds_needed(spread * 2**0.5 / 2), 3, 6)


def test_a_pilot_whose_seeds_happen_to_agree(tmp_path):
    """Their spread asks for 3 seeds; that of 3 for 5, and that of 5 for no more than those."""
    gaps = [3.0, 3.0, 3.9, 3.5, 3.5, 20.0]
    wanted = [seeds_needed(np.std(gaps[:number], ddof=1)) for number in (2, 3, 5)]
    assert wanted == [2, 5, 4]
    engine = MadeUp(tmp_path, lambda variant, seed: 50 + (variant == "late") * gaps[seed])
    cells = list(carry_out([experiment()], "jax", tmp_path, engine))
    assert {cell.options["seed"] for cell in cells} == {0, 1, 2, 3, 4}
    assert [*carry_out([experiment()], "jax", tmp_path, None)] == cells


def test_a_pilot_that_fails(tmp_path):
    """Then as few seeds as may be are run, and the study goes on."""
    engine = MadeUp(tmp_path, lambda variant, seed: None if variant == "late" else 50)
    cells = list(carry_out([experiment()], "jax", tmp_path, engine))
    assert {cell.options["seed"] for cell in cells} == {0, 1, 2}
    # One that was never run says nothing of more.
    new = tmp_path / "new"
    assert len(list(carry_out([experiment()], "jax", new, None))) == 2 * 2 * 2


def test_clock(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr(schedule.time, "monotonic", lambda: now)
    engine = MadeUp(tmp_path, lambda variant, seed: 50.0, seconds=60.0)
    clock = Clock(tmp_path, minutes=2.5)
    states = []
    for cell in carry_out([experiment()], "jax", tmp_path, engine, may_begin=clock.may_begin):
        clock.tell(cell)
        states.append(cell.status(tmp_path))
        if states[-1] == "finished":
            now += 60.0
    # After two minutes the third would take too long.
    assert states == ["finished"] * 2 + ["not run"] * 6


def test_known_cells(tmp_path, capsys):
    here, there = tmp_path / "here", tmp_path / "there"
    engine = MadeUp(there, lambda variant, seed: 50.0 + seed)
    cells = list(carry_out([experiment()], "jax", there, engine))
    results.write(results.table(cells, there), there)
    known = results.known(there / "cells.csv")
    assert known.keys() == {cell.id for cell in cells}
    # One more seed, and another backend.
    more = experiment(seeds=Seeds(2, 4, 6))
    engine = MadeUp(here, lambda variant, seed: 50.0 + seed)
    cells = list(carry_out([more], "jax", here, engine, known))
    assert {cell.options["seed"] for cell in engine.ran} == {3}
    frame = results.table(cells, here)
    assert list(frame["score"]) == [50.0 + seed for seed in frame["seed"]]
    assert set(frame["versions"]) == {f"keras_nladv {keras_nladv.__version__}, keras 3"}
    assert set(frame["seconds"]) == {60.0}
    engine = MadeUp(tmp_path / "torch", lambda variant, seed: 50.0)
    list(carry_out([more], "torch", tmp_path / "torch", engine, known))
    assert len(engine.ran) == 4 * 4
    old = pd.read_csv(there / "cells.csv")
    old["versions"] = "keras_nladv 0.0.1, keras 3"
    old.to_csv(there / "old.csv")
    assert results.known(there / "old.csv") == {}
    assert "12 cells are not taken, since keras_nladv 0.0.1 made them" in capsys.readouterr().err


def test_this_version_is_one_of_those_that_are_alike():
    assert keras_nladv.__version__ == results.ALIKE[-1]


@pytest.mark.parametrize(
    ("name", "backend"),
    [("evening", "tensorflow"), ("evening-card", "jax"), ("laptop", "tensorflow")],
)
def test_going_on_from_the_tables_of_the_pages(name, backend, tmp_path):
    study = parse(read_file(find(name.removesuffix("-card"))), "")
    known = results.known(DOCS / "studies" / name / "cells.csv")
    engine = MadeUp(tmp_path, lambda variant, seed: 50.0 + seed)
    cells = list(carry_out(study.experiments, backend, tmp_path, engine, known))
    assert known.keys() <= {cell.id for cell in cells} - {cell.id for cell in engine.ran}


def test_three_hours_of_evening_come_to_all_claims(tmp_path):
    """On two cores, with what its cells took."""
    study = parse(read_file(find("evening")), "")
    known = results.known(DOCS / "studies" / "evening" / "cells.csv")
    minutes = 0.0

    class Again(MadeUp):
        def next(self):
            nonlocal minutes
            if self.cell.id in known:
                self.free = True
                self.ran.append(self.cell)
                self.cell.take_over(self.directory, *known[self.cell.id])
            else:
                super().next()
            minutes += self.cell.summary(self.directory)["seconds"] / 60
            return self.cell.id

    engine = Again(tmp_path, lambda variant, seed: 50.0 + seed, seconds=300.0)
    list(
        carry_out(study.experiments, "tensorflow", tmp_path, engine, None, lambda _: minutes < 360)
    )
    assert {cell.id for cell in engine.ran} < known.keys()
    for claim in study.claims:
        seeds = [
            {cell.options["seed"] for cell in engine.ran if cell.experiment == name}
            for name in claim["experiments"]
        ]
        assert max(map(len, seeds)) >= (10 if claim["claim"] == "late_against_early" else 2)


def test_known_epochs(tmp_path):
    """Each cell gets its own, whatever activations its network has."""
    found = {}
    for seed, layers in ((0, ["stem", "stage1"]), (1, ["plain"]), (2, [])):
        [cell] = Experiment("a", "cifar", options={"seed": seed}).cells("jax")
        per_layer = [{"name": layer, "units": 8} for layer in layers]
        logs = [{"cell": "", "epoch": e, **{f"dead/{n}": 0.1 * e for n in layers}} for e in (1, 2)]
        summary = {"accuracy_after": 0.5, "path_length": 2.0, "per_layer": per_layer}
        summary["versions"] = {"keras_nladv": keras_nladv.__version__}
        cell.take_over(tmp_path, summary, pd.DataFrame(logs) if layers else None)
        found[cell.id] = cell
    cells = list(found.values())
    results.write(results.table(cells, tmp_path), tmp_path)
    epochs = results.histories(cells, tmp_path)
    assert set(epochs["cell"]) == {cell.id for cell in cells[:2]}
    results.write_epochs(epochs, tmp_path)
    for name, known in results.known(tmp_path / "cells.csv").items():
        found[name].take_over(tmp_path / "new", *known)
    pd.testing.assert_frame_equal(results.histories(cells, tmp_path / "new"), epochs)
    for cell in cells[:2]:
        assert cell.history(tmp_path / "new")[0].keys() - cell.history(tmp_path)[0].keys() == {
            f"units/{layer['name']}" for layer in cell.summary(tmp_path)["per_layer"]
        }
    (tmp_path / "epochs.csv").write_text("a,b\n1,2")
    with pytest.raises(RecipeError, match=r"must be the epochs.csv of a study. It lacks: cell"):
        results.known(tmp_path / "cells.csv")


def test_known_cells_with_several_results(tmp_path):
    cell = Experiment("a", "compress", options={"seed": 1}).cells("jax")[0]
    rows = [
        {"method": method, "budget": budget, "accuracy": 0.5, "path_length": 2.0}
        for method, budget in (("original", None), ("ours", 0.5))
    ]
    versions = {"keras_nladv": keras_nladv.__version__}
    cell.take_over(tmp_path, {"rows": rows, "seconds": 9.0, "versions": versions}, None)
    frame = results.table([cell], tmp_path)
    results.write(frame, tmp_path)
    known = results.known(tmp_path / "cells.csv")
    cell.take_over(tmp_path / "new", *known[cell.id])
    columns = ["method", "budget", "target", "score", "seconds", "status"]
    pd.testing.assert_frame_equal(results.table([cell], tmp_path / "new")[columns], frame[columns])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"cannot be read as CSV \(.*No such file"),
        ("", "cannot be read as CSV"),
        ("a,b\n1,2", "must be the cells.csv of a study. It lacks: cell, score, path_length, vers"),
    ],
)
def test_tables_that_are_none(tmp_path, text, message):
    file = tmp_path / "cells.csv"
    if text is not None:
        file.write_text(text)
    with pytest.raises(RecipeError, match=message):
        results.known(file)


def test_ids_are_those_of_configurations(tmp_path):
    """So that a table that is kept stays of use."""
    cell = experiment().cells("jax")[0]
    same = json.loads(json.dumps(cell.options))
    assert Experiment("b", "cifar", options=same).cells("jax")[0].id == cell.id
