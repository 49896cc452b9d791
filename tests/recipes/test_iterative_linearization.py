import csv
import itertools
import json

import numpy as np
import pytest

from .recipe import BACKEND, Recipe, assert_is_picture

recipe = Recipe("iterative_linearization.py")

# Four steps an epoch, so that a period of 3 has two updates.
SHORT = (
    "--epochs 2 --batch-size 40 --width 0.25 --periods 3 never --learning-rates 0.02 0.05 "
    "--repeats 2 --seed 3"
)
POINTS = [*itertools.product(("3", "never"), (0.02, 0.05), (3, 4))]


def points(path):
    return json.loads((path / "points.json").read_text())


def named(row):
    return row["period"], row["learning_rate"], row["seed"]


@pytest.fixture(scope="module")
def finished(npz, tmp_path_factory):
    """The directory of a finished run, and what the run printed."""
    return recipe.finished(f"--dataset {npz} {SHORT}", tmp_path_factory.mktemp("runs") / "finished")


def test_results(finished):
    path, out = finished
    rows = points(path)
    assert [named(row) for row in rows] == POINTS
    assert [row["feature_updates"] for row in rows] == [2] * 4 + [0] * 4
    with open(path / "results.csv") as file:
        table = list(csv.DictReader(file))
    assert table == [{name: str(value) for name, value in row.items()} for row in rows]
    summary = json.loads((path / "summary.json").read_text())
    for mean in summary["summaries"]:
        mine = [
            row["accuracy"]
            for row in rows
            if named(row)[:2] == (mean["period"], mean["learning_rate"])
        ]
        assert len(mine) == 2
        assert mean["accuracy"] == pytest.approx(np.mean(mine))
        assert mean["deviation"] == pytest.approx(abs(mine[0] - mine[1]) / 2**0.5)
        assert f"{100 * np.mean(mine):.1f} ± {100 * mean['deviation']:.1f}" in out
    assert (summary["backend"], summary["steps"], summary["seeds"]) == (BACKEND, 8, [3, 4])
    assert out.endswith((path / "report.txt").read_text() + "\n")


@pytest.mark.once
def test_picture(finished):
    assert_is_picture(finished[0] / "accuracy.png")


def test_events(finished, read_events):
    path, _ = finished
    directories = {file.name for file in (path / "tensorboard").iterdir()}
    assert directories == {f"period-{p}_rate-{rate:g}_seed-{seed}" for p, rate, seed in POINTS}
    events = read_events(path / "tensorboard" / "period-3_rate-0.05_seed-4")
    assert [event.value for event in events.Scalars("feature_updates")] == [1, 2]
    row = next(row for row in points(path) if named(row) == ("3", 0.05, 4))
    assert events.Scalars("loss")[-1].value == pytest.approx(row["loss"])


@pytest.mark.once
def test_a_finished_run_is_not_run_again(finished):
    message = "periods (there ['3', 'never'], now ['2'])"
    recipe.assert_does_not_run_again(finished[0], SHORT, "--periods 2", message)


@pytest.mark.slow
def test_a_run_that_is_killed_ends_with_the_same_numbers(finished, npz, tmp_path):
    path = tmp_path / "killed"
    number = np.random.default_rng().integers(1, len(POINTS))
    print(f"killed after {number} points")  # Shown if the test fails.
    out = recipe.killed_and_resumed(
        f"--dataset {npz} {SHORT}",
        path,
        lambda: (path / "points.json").exists() and len(points(path)) >= number,
        later=0.2,
    )
    assert f"period {3:>6}" not in out or number < 4
    assert points(path) == points(finished[0])


@pytest.mark.once
def test_a_rate_that_diverges(npz, tmp_path):
    path = tmp_path / "run"
    # With a period of 1, which is ordinary training, the linearized network is the network.
    arguments = (
        "--epochs 4 --batch-size 40 --width 0.25 --periods 1 --learning-rates 0.02 1e30 --repeats 1"
    )
    status, out, err = recipe.run_here(f"--dataset {npz} --run-dir {path} {arguments}")
    assert status == 0, err
    assert "*: of at least one seed, the loss ended above that of guessing" in out
    rows = points(path)
    assert [row["diverged"] for row in rows] == [False, True]
    assert rows[0]["accuracy_of_network"] == pytest.approx(rows[0]["accuracy"], abs=1e-6)


@pytest.mark.once
def test_lenet(npz, tmp_path):
    path = tmp_path / "run"
    arguments = "--network lenet --epochs 1 --batch-size 40 --periods 3 --learning-rates 0.02"
    status, out, err = recipe.run_here(f"--dataset {npz} --run-dir {path} {arguments} --repeats 1")
    assert status == 0, err
    # Kernels of 3 x 3 and 2 x 2, from one channel; two halvings of 8 x 8; 500 units.
    units = 20 * 9 + 20, 50 * 80 + 50, 500 * 50 + 500
    assert f"{sum(units) + 10 * 500 + 10:,} parameters" in out
    assert [row["feature_updates"] for row in points(path)] == [1]


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--periods 0 sometimes", "--periods must be integers of at least 1, or never"),
        ("--periods 2 2", "--periods must name each value once. Received: ['2', '2']"),
        ("--learning-rates 0", "--learning-rates must be greater than 0. Received: 0.0"),
        ("--train-images 50", "--batch-size must be at most 50"),
        ("--network mlp --width 2", "--width is for --network conv alone. Received: 2.0 with mlp"),
        ("--resume", "add --run-dir DIR"),
    ],
)
def test_bad_arguments(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe.assert_refuses(arguments, message, tmp_path)
