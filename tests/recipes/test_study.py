import base64
import csv
import importlib.util
import json
import os
import re
import shutil
from unittest import mock

import filelock
import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams import metadata

from running.errors import RecipeError
from studies.directory.cell import Cell
from studies.directory.record import Record
from studies.pages.pages import Pages
from studies.planning.definition import Experiment, Study

from .recipe import BACKEND, Recipe, kill

pytestmark = pytest.mark.once

recipe = Recipe("study.py")

STUDY = """
title = "Tiny"

[[experiments]]
name = "digits"
recipe = "cifar"
options = {{ dataset = "{npz}", model = "plain2", epochs = 2, batch_size = 50, watch_images = 20 }}
grid = {{ seed = [0] }}
fill = {{ option = "strength", low = 0.01, high = 10.0, gap = 0.2, cells = 3 }}
variants = {{ early = {{ start_epoch = 0 }}, late = {{ start_epoch = 1 }} }}

[[experiments]]
name = "diverging"
recipe = "cifar"
options = {{ dataset = "{npz}", model = "plain2", epochs = 2, learning_rate = 1e30 }}

[[claims]]
claim = "units"
experiments = ["digits"]
share = 0.0
"""


@pytest.fixture(scope="module")
def file(npz, tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "tiny.toml"
    path.write_text(STUDY.format(npz=npz))
    return path


@pytest.fixture(scope="module")
def finished(file, tmp_path_factory):
    """The directory of a study that is through, and what was printed."""
    path = tmp_path_factory.mktemp("studies") / "tiny"
    status, out = recipe.run_apart(f"run {file} --study-dir {path}")
    # One of its cells fails.
    assert (status, "Traceback" in out) == (1, False), out
    return path, out


def histories(path):
    return {
        cell.name: (cell / "history.csv").read_text()
        for cell in (path / "cells").iterdir()
        if (cell / "history.csv").exists()
    }


def test_packages_that_are_not_installed(tmp_path, monkeypatch):
    """Told before anything is written."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "optuna" else found(name)
    )
    status, _, err = recipe.run_here(f"run quick --study-dir {tmp_path / 'new'}")
    assert status == 1
    assert "A study needs optuna. Install what it needs with `pip install '.[study]'`." in err
    assert not any(tmp_path.iterdir())


def test_what_is_run(finished):
    path, out = finished
    frame = pd.read_parquet(path / "results.parquet")
    digits = frame[frame["experiment"] == "digits"]
    assert set(digits["status"]) == {"finished"}
    assert digits["variant"].value_counts().to_dict() == {"early": 3, "late": 3}
    assert {0.01, 10.0} < set(digits["strength"])
    for row in digits.to_dict("records"):
        summary = json.loads((path / "cells" / row["cell"] / "summary.json").read_text())
        assert row["score"] == 100 * summary["accuracy_after"]
        assert row["path_length"] == summary["path_length"]
        config = json.loads((path / "cells" / row["cell"] / "config.json").read_text())
        assert (row["strength"], row["start_epoch"]) == (config["strength"], config["start_epoch"])
        assert f"--strength {row['strength']}" in row["command"]
        assert row["cell"] in out
    with open(path / "results.csv") as lines:
        table = list(csv.DictReader(lines))
    assert [row["cell"] for row in table] == list(frame["cell"])
    assert list(table[0]) == list(frame.columns)


def test_a_cell_that_fails_does_not_stop_the_rest(finished):
    path, out = finished
    frame = pd.read_csv(path / "results.csv")
    [failed] = frame[frame["experiment"] == "diverging"].to_dict("records")
    assert failed["status"] == "failed"
    assert "the loss is not finite" in failed["error"]
    assert failed["error"] in out
    log = path / "logs" / f"{failed['cell']}.txt"
    assert str(log) in out
    assert "the loss is not finite" in log.read_text()


def test_what_is_finished_is_not_run_again(finished, file):
    path, _ = finished
    cells = [p for p in (path / "cells").rglob("*") if "summary.json" in os.listdir(p.parent)]
    before = {p: p.stat().st_mtime_ns for p in cells}
    assert len(before) > 20
    pages = (path / "report.md").read_text()
    status, out, err = recipe.run_here(f"run {file} --study-dir {path} --only digits")
    assert status == 0, err
    assert {p: p.stat().st_mtime_ns for p in cells} == before
    assert (path / "report.md").read_text() == pages
    assert out.count("finished ") >= 6


@pytest.mark.slow
def test_results_do_not_depend_on_what_was_run_before(finished, file, tmp_path):
    """One cell, all by itself, in a process of its own; and the others in another order."""
    path, _ = finished
    expected = histories(path)
    frame = pd.read_csv(path / "results.csv")
    last = frame[frame["variant"] == "late"].iloc[-1]
    name, _, arguments = last["command"].removeprefix("python recipes/").partition(" ")
    status, _, err = Recipe(name).run(f"{arguments} --run-dir {tmp_path / 'alone'}")
    assert status == 0, err
    assert (tmp_path / "alone" / "history.csv").read_text() == expected[last["cell"]]

    other = tmp_path / "other"
    (other / "cells").mkdir(parents=True)
    # The first of each curve is there already.
    for cell in frame[frame["strength"] == 0.01]["cell"]:
        shutil.copytree(path / "cells" / cell, other / "cells" / cell)
    shutil.copy(path / "study.json", other)
    status, _, err = recipe.run(f"run {file} --study-dir {other} --only digits")
    assert status == 0, err
    assert histories(other) == expected


@pytest.mark.slow
def test_a_study_that_is_killed_ends_with_the_same_results(finished, file, tmp_path):
    path, _ = finished
    killed = tmp_path / "killed"
    process = recipe.start(f"run {file} --study-dir {killed}")
    # In the middle of the second cell.
    kill(
        process,
        lambda: (
            len(list(killed.glob("cells/*/summary.json"))) == 1
            and len(list(killed.glob("cells/*/state.json"))) == 2
        ),
    )
    status, out, err = recipe.run_here(f"run {file} --study-dir {killed} --dry-run")
    assert status == 0, err
    assert "stopped " in out
    status, _, err = recipe.run(f"run {file} --study-dir {killed}")
    assert (status, "Traceback" in err) == (1, False), err
    assert histories(killed) == histories(path)
    one, other = (pd.read_parquet(p / "results.parquet") for p in (path, killed))
    pd.testing.assert_frame_equal(
        one.drop(columns=["seconds", "error"]), other.drop(columns=["seconds", "error"])
    )


def test_report(finished):
    path, _ = finished
    before = {name: (path / name).read_bytes() for name in ("report.html", "results.csv")}
    for name in ("report.html", "report.md", "results.csv", "results.parquet"):
        (path / name).unlink()
    for name in ("figures", "tensorboard"):
        shutil.rmtree(path / name)
    status, out, err = recipe.run_here(f"report {path}")
    assert status == 0, err
    assert {name: (path / name).read_bytes() for name in before} == before
    page = (path / "report.html").read_text()
    # All in one file.
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    [figure] = re.findall(r'src="data:image/png;base64,([^"]*)"', page)
    assert base64.b64decode(figure) == (path / "figures/1-units.png").read_bytes()
    frame = pd.read_csv(path / "results.csv")
    # "&" and the like are written as HTML has it.
    assert all(command.replace('"', "&#34;") in page for command in frame["command"])
    assert "the loss is not finite" in page
    assert "Dead and always-on units beside linear ones: " in out
    text = (path / "report.md").read_text()
    assert "](figures/1-units.png)" in text
    assert "| diverging |" in text


def test_hparams(finished):
    path, _ = finished
    frame = pd.read_csv(path / "results.csv")
    runs = EventMultiplexer().AddRunsFromDirectory(str(path / "tensorboard")).Reload()
    found = {}
    for name in runs.Runs():
        summaries = runs.GetAccumulator(name).PluginTagToContent("hparams")
        session = metadata.parse_session_start_info_plugin_data(
            summaries[metadata.SESSION_START_INFO_TAG]
        )
        assert metadata.SESSION_END_INFO_TAG in summaries
        values = {
            key: getattr(value, value.WhichOneof("kind")) for key, value in session.hparams.items()
        }
        score = runs.Scalars(name, "score")
        assert [event.step for event in score] == [0, 1, 2]
        found[values["variant"], values["strength"]] = score[-1].value
    finished_rows = frame[frame["status"] == "finished"].to_dict("records")
    assert found == {
        (row["variant"], row["strength"]): pytest.approx(row["score"]) for row in finished_rows
    }


def test_results_of_another_version(finished, file, tmp_path):
    path = tmp_path / "old"
    shutil.copytree(finished[0], path)
    summary = next(path.glob("cells/*/summary.json"))
    old = json.loads(summary.read_text())
    old["versions"]["keras_nladv"] = "0.0.1"
    summary.write_text(json.dumps(old))
    status, _, err = recipe.run_here(f"run {file} --study-dir {path}")
    assert status == 1
    assert f"`{summary.parent}` was made by keras_nladv 0.0.1, and only cells of 0.1.0 and" in err
    assert "Traceback" not in err


def test_records_that_are_damaged(finished, tmp_path):
    record = json.loads((finished[0] / "study.json").read_text())
    (tmp_path / "study.json").write_text(json.dumps({**record, "format": 0}))
    with pytest.raises(RecipeError, match="has the format 0 of another version; this one writes 1"):
        Record.read(tmp_path)
    for text, message in {
        "{": "Invalid JSON",
        "[" * 10**5: "recursion limit",
        json.dumps({**record, "machines": 3}): "machines must be a valid array",
        json.dumps({**record, "backend": "caffe"}): "backend must be 'tensorflow'",
        json.dumps({**record, "more": 3}): "more is no known key",
    }.items():
        (tmp_path / "study.json").write_text(text)
        with pytest.raises(RecipeError, match=f"study.json` is damaged: .*{message}"):
            Record.read(tmp_path)
    cell = Cell("digits", "", "cifar", BACKEND, {})
    cell.directory(tmp_path).mkdir(parents=True)
    (cell.directory(tmp_path) / "summary.json").write_text("{")
    with pytest.raises(RecipeError, match="Remove its directory to run the cell again"):
        cell.summary(tmp_path)


def test_dry_run_and_overrides(tmp_path, npz):
    status, out, err = recipe.run_here(
        f"run gpu-quarter-hour --study-dir {tmp_path / 'new'} --dry-run --backend {BACKEND} --only "
        f"cifar10 --set dataset={npz} cifar10.seed=[5] cifar10.targets=[1.0,3.0] epochs=3 "
        "batch_size=80"
    )
    assert status == 0, err
    assert out.count("not run ") == 4
    assert f"dataset {npz}, model resnet20" in out
    assert "seed 5" in out
    assert "4 cells at most" in out
    assert not (tmp_path / "new").exists()


def test_a_study_that_comes_with_the_recipes_made_tiny(tmp_path, npz):
    path = tmp_path / "run"
    status, _, err = recipe.run_here(
        f"run gpu-quarter-hour --study-dir {path} --only cifar10 --set dataset={npz} model=plain3 "
        "seed=[0] epochs=1 start_epoch=0 precision=float32 cifar10.targets=[1.5,1.0] batch_size=80"
    )
    assert status == 0, err
    frame = pd.read_csv(path / "results.csv")
    mine = frame[frame["experiment"] == "cifar10"]
    # Both variants are the same now, and so they are run once.
    assert len(mine) == 4
    assert set(mine["status"]) == {"finished"}
    assert len(list((path / "cells").iterdir())) == mine["cell"].nunique() == 2
    # Targets are met within one unit, of 16.
    assert all(mine["target"] - 1 / 16 <= mine["path_length"])
    assert all(mine["path_length"] <= mine["target"])
    others = frame[(frame["experiment"] == "cifar100") & (frame["target"] == 2.0)]
    assert set(others["status"]) == {"not run"}
    assert "0.00 points, of one seed" in (path / "report.md").read_text()


def test_pairs_differ_in_what_is_compared_alone(tmp_path, npz):
    """Weights, order and augmentation follow from the seed: as long as nothing is pressed, logs are
    the same, whatever the start, the target and the number of epochs."""
    options = {"dataset": str(npz), "model": "plain3", "batch_size": 40, "evaluate_every": 2}
    fast = {"pressure": "fast", "epochs": 2}
    histories = []
    for different in (
        fast | {"seed": 0, "start_epoch": 1, "target_path_length": 1.5},
        fast | {"seed": 0, "start_epoch": 2, "target_path_length": 1.0, "epochs": 3},
        {"seed": 0, "start_epoch": 0, "strength": 0.0, "epochs": 2},
        fast | {"seed": 1, "start_epoch": 1, "target_path_length": 1.5},
    ):
        cell = Cell("digits", "", "cifar", BACKEND, options | different)
        cell.run(tmp_path)
        histories.append(cell.history(tmp_path)[0])
    first, second, third, other = (h["loss"] for h in histories)
    assert first == second == third
    assert first != other


def test_known_and_clock(finished, file, tmp_path):
    """A study goes on elsewhere from a table, and begins nothing when its time is over."""
    path, _ = finished
    command = f"run {file} --study-dir {tmp_path / 'new'} --only digits --stop-after 1e-9"
    status, out, err = recipe.run_here(f"{command} --known {path / 'cells.csv'}")
    assert status == 0, err
    assert len(re.findall("^finished", out, re.MULTILINE)) == 6
    assert "Stopped by the clock" not in out
    old, new = (pd.read_csv(p / "results.csv") for p in (path, tmp_path / "new"))
    columns = ["cell", "score", "path_length", "seconds"]
    old = old[old["experiment"] == "digits"]
    pd.testing.assert_frame_equal(old[columns], new[new["experiment"] == "digits"][columns])
    # What is judged by epochs, too.
    old, new = (
        (p / "report.md").read_text().partition("## Dead")[2] for p in (path, tmp_path / "new")
    )
    assert "% of the units are linear" in old
    assert new.partition("## Exp")[0] == old.partition("## Exp")[0]
    assert (tmp_path / "new" / "epochs.csv").read_text() == (path / "epochs.csv").read_text()
    command = command.replace("new", "newer")
    status, out, err = recipe.run_here(command)
    assert status == 0, err
    assert "Stopped by the clock: 2 cells at least were not begun" in out
    status, out, err = recipe.run_here(f"{command} --known {path / 'cells.csv'} --dry-run")
    assert status == 0, err
    assert out.count("known ") == 2
    timed = tmp_path / "tiny.toml"
    timed.write_text(f"stop_after = 1e-9\n{file.read_text()}")
    status, out, err = recipe.run_here(
        f"run {timed} --study-dir {tmp_path / 'timed'} --only digits"
    )
    assert status == 0, err
    assert "Stopped by the clock: 2 cells at least were not begun" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run quick --known missing.csv", "--known missing.csv: it cannot be read as CSV"),
        ("run quick --stop-after 0", "--stop-after"),
        ("run quick --set digits.targets=[1]", "--targets"),
        ("run laptob", "There is no study 'laptob'"),
        ("run quick --only mnist", "--only: there is no experiment mnist, but digits"),
        ("run quick --set seed=[]", "grid.seed List should have at least 1 item"),
        ("run quick --set strenght=3", "--strenght"),
        ("run quick --set model=3 --backend caffe", "invalid choice 'caffe'"),
        ("run quick --engine cluster", "invalid choice 'cluster'"),
        ("report .", "neither empty nor the directory of a study"),
        ("run quick --study-dir .", "is neither empty nor the directory of a study"),
    ],
)
def test_bad_arguments(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").touch()
    recipe.assert_refuses(arguments, message, tmp_path)


def test_directories_of_other_studies(finished, file):
    path, _ = finished
    status, _, err = recipe.run_here(f"run quick --study-dir {path}")
    assert (status, "is the directory of the study 'tiny'" in err) == (1, True)


def test_a_study_that_another_process_runs(file, tmp_path):
    path = tmp_path / "new"
    path.mkdir()
    with filelock.FileLock(path / ".lock"):
        recipe.assert_refuses(
            f"run {file} --study-dir {path}", "is that of another process", tmp_path
        )
        status, _, err = recipe.run_here(f"run {file} --study-dir {path} --dry-run")
        assert status == 0, err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"claim": "decay", "experiments": 3}, "experiments must be a valid array"),
        ({"claim": "core", "experiments": [], "share": "all"}, "share must be a valid number"),
        ({"claim": "units", "experiments": [], "shares": 1}, "shares is no known key"),
        ({"claim": ["decay"]}, "there is no"),
        ({"claim": "decay"}, "experiments is missing"),
        ({"claim": "decay", "experiments": ["other"]}, "that are not there: other"),
    ],
)
def test_claims_that_are_nonsense(arguments, message, tmp_path):
    study = Study("mine", "Mine", [Experiment("digits", "cifar")], [arguments])
    with pytest.raises(RecipeError, match=f"claim 1 of 'mine'.*{message}"):
        Pages(study, tmp_path)


def test_a_cell_that_ends_without_a_result(tmp_path, monkeypatch):
    cell = Cell("digits", "", "cifar", BACKEND, {})
    monkeypatch.setattr(Cell, "_run", lambda self, more: None)
    cell.run(tmp_path)
    assert cell.error(tmp_path) == "cifar.py ended without a result"


def test_whatever_a_recipe_raises(tmp_path, monkeypatch):
    cell = Cell("digits", "", "cifar", BACKEND, {"dataset": "digits"})
    error = ZeroDivisionError("division\nby zero")
    error.add_note("What a backend has to say about its traceback.")
    monkeypatch.setattr("options.images_config.load", mock.Mock(side_effect=error))
    cell.run(tmp_path)
    assert cell.status(tmp_path) == "failed"
    assert cell.error(tmp_path) == "ZeroDivisionError: division by zero"
    assert "Traceback" in cell.log(tmp_path).read_text()
