import csv
import json

import pytest

from .recipe import BACKEND, Recipe, assert_is_picture

recipe = Recipe("neural_tangent_transfer.py")

SHORT = (
    "--epochs 2 --transfer-epochs 2 --batch-size 40 --transfer-batch-size 16 --mask-every 3 "
    "--densities 0.5 --methods dense transfer synflow --repeats 1 --seed 3"
)
CASES = [("dense", 1.0), ("transfer", 0.5), ("synflow", 0.5)]


def points(path):
    rows = json.loads((path / "points.json").read_text())
    for row in rows:
        # The only number that depends on the machine.
        row.pop("transfer_seconds", None)
    return rows


@pytest.fixture(scope="module")
def finished(npz, tmp_path_factory):
    """The directory of a finished run, and what the run printed."""
    return recipe.finished(f"--dataset {npz} {SHORT}", tmp_path_factory.mktemp("runs") / "finished")


def test_results(finished):
    path, out = finished
    rows = points(path)
    assert [(row["method"], row["density"], row["seed"]) for row in rows] == [
        (*case, 3) for case in CASES
    ]
    with open(path / "results.csv") as file:
        table = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in table] == [row["accuracy"] for row in rows]
    for row in rows:
        assert (row["accuracy"], row["best"]) == (row["accuracies"][-1], max(row["accuracies"]))
        assert len(row["accuracies"]) == 2
    summary = json.loads((path / "summary.json").read_text())
    assert (summary["backend"], summary["seeds"]) == (BACKEND, [3])
    transfer = rows[1]
    drop = transfer["kernel_distance_before"] / transfer["kernel_distance_after"]
    assert f"kernel distance down {drop:.1f} to {drop:.1f} times" in out
    assert out.endswith((path / "report.txt").read_text() + "\n")


@pytest.mark.once
def test_picture(finished):
    assert_is_picture(finished[0] / "accuracy.png")


def test_events(finished, read_events):
    path, _ = finished
    directories = {file.name for file in (path / "tensorboard").iterdir()}
    assert directories == {f"{method}_density-{density:g}_seed-3" for method, density in CASES}
    events = read_events(path / "tensorboard" / "transfer_density-0.5_seed-3")
    accuracies = [event.value for event in events.Scalars("val_accuracy")]
    assert accuracies == pytest.approx(points(path)[1]["accuracies"])
    events = read_events(path / "tensorboard" / "transfer_density-0.5_seed-3" / "transfer")
    assert [event.step for event in events.Scalars("kernel_distance")] == [0, 1]


@pytest.mark.once
def test_a_finished_run_is_not_run_again(finished):
    message = "densities (there [0.5], now [0.2])"
    recipe.assert_does_not_run_again(finished[0], SHORT, "--densities 0.2", message)


@pytest.mark.slow
def test_a_run_that_is_killed_ends_with_the_same_numbers(finished, npz, tmp_path):
    path = tmp_path / "killed"
    rows = path / "points.json"
    out = recipe.killed_and_resumed(f"--dataset {npz} {SHORT}", path, rows.exists, later=0.5)
    assert "dense  density" not in out
    assert points(path) == points(finished[0])


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--densities 0 0.5", "--densities must be greater than 0. Received: 0.0"),
        ("--methods random random", "--methods must name each value once"),
        ("--transfer-rate 0", "--transfer-rate must be greater than 0. Received: 0.0"),
        ("--train-images 50", "--batch-size must be at most 50"),
    ],
)
def test_bad_arguments(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe.assert_refuses(arguments, message, tmp_path, statuses=(1,))
