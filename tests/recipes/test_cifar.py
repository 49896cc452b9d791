import csv
import json

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_nladv import path_length

from .recipe import BACKEND, Recipe, assert_is_picture

recipe = Recipe("cifar.py")

# What makes a run short. With 3 steps an epoch, the pressure has to be high.
SHORT = "--model resnet8 --width 0.5 --epochs 5 --start-epoch 2 --batch-size 50 --strength 2"
WHOLE = f"{SHORT} --kernel-images 2 --seed 3"
KEYS = {
    *("accuracy_before", "accuracy_after", "path_length", "path_length_unnormalized"),
    *("nonlinear_units", "per_layer", "dataset", "backend", "seconds", "versions", "seed"),
}


def read_history(path):
    with open(path / "history.csv") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(npz, tmp_path_factory):
    """The directory of a finished run, and what the run printed."""
    path = tmp_path_factory.mktemp("runs") / "finished"
    status, out, err = recipe.run(f"--dataset {npz} {WHOLE} --run-dir {path}")
    assert status == 0, err
    return path, out


def test_summary(finished, npz):
    path, out = finished
    summary = json.loads((path / "summary.json").read_text())
    assert set(summary) > KEYS
    history = read_history(path)
    assert [row["epoch"] for row in history] == list("12345")
    assert summary["accuracy_before"] == float(history[1]["val_accuracy"])
    assert summary["accuracy_after"] == float(history[-1]["val_accuracy"])
    assert summary["path_length"] == float(history[-1]["path_length"])
    assert summary["nonlinear_units"] == float(history[-1]["nonlinear_units"]) < 1
    assert summary["path_length_before"] == pytest.approx(5.5)
    assert sum(row["nonlinear"] for row in summary["per_layer"]) == round(
        summary["nonlinear_units"] * sum(row["units"] for row in summary["per_layer"])
    )
    assert (summary["backend"], summary["seed"]) == (BACKEND, 3)
    assert summary["dataset"] == str(npz)
    assert {"keras", "keras_nladv", BACKEND} < set(summary["versions"])
    assert f"{summary['accuracy_after']:.2%}" in out
    assert out.endswith((path / "report.txt").read_text() + "\n")


def test_kernel(finished):
    path, _ = finished
    history = read_history(path)
    distances, velocities = (
        [float(row[key]) for row in history] for key in ("ntk_distance", "ntk_velocity")
    )
    assert velocities[0] == distances[0]
    assert all(0 < each < 1 for each in distances + velocities)
    assert steps(path / "tensorboard" / "kernel")["ntk"] == [0, 1, 2, 3, 4]


def test_configuration(finished):
    config = json.loads((finished[0] / "config.json").read_text())
    assert (config["epochs"], config["ramp_epochs"], config["seed"]) == (5, 0, 3)
    assert (config["learning_rate"], config["target_nonlinear_units"]) == (0.1, 0.3)
    assert None not in {config["backend"], config["strength"], config["batch_size"]}


def test_the_model_that_is_saved(finished, arrays):
    summary = json.loads((finished[0] / "summary.json").read_text())
    model = keras.models.load_model(finished[0] / "model.keras")
    assert path_length(model) == summary["path_length"]
    logits = model.predict(arrays["x_test"][..., None].astype("float32"), verbose=0)
    accuracy = np.mean(logits.argmax(axis=1) == arrays["y_test"])
    assert accuracy == pytest.approx(summary["accuracy_after"], abs=1e-6)


@pytest.mark.parametrize("name", ["core.png", "training.png"])
def test_pictures(finished, name):
    assert_is_picture(finished[0] / name)


def steps(path):
    """The steps of each tag of TensorBoard's events."""
    everything = {"scalars": 0, "histograms": 0, "images": 0}
    events = EventAccumulator(str(path), everything).Reload()
    read = {"scalars": events.Scalars, "histograms": events.Histograms, "images": events.Images}
    return {tag: [e.step for e in read[k](tag)] for k in read for tag in events.Tags()[k]}


def test_events(finished):
    found = steps(finished[0] / "tensorboard")
    assert {"loss", "val_accuracy", "path_length", "omega", "core", "alpha/stem"} < set(found)
    assert all(seen == [0, 1, 2, 3, 4] for seen in found.values())


@pytest.mark.once
def test_a_finished_run_is_not_run_again(finished, npz):
    arguments = f"--dataset {npz} {WHOLE}"
    recipe.assert_does_not_run_again(
        finished[0], arguments, f"{arguments} --seed 4", "seed (there 3, now 4)"
    )


@pytest.mark.once
def test_a_run_that_is_killed_ends_with_the_same_numbers(finished, npz, tmp_path):
    undisturbed, _ = finished
    path = tmp_path / "killed"
    epochs = np.random.default_rng().integers(5)
    print(f"killed after {epochs} epochs")  # Shown if the test fails.
    file = path / ("state.json" if epochs else "config.json")

    def is_time():
        if not file.exists():
            return False
        return not epochs or len(json.loads(file.read_text())["history"]) >= epochs

    out = recipe.killed_and_resumed(f"--dataset {npz} {WHOLE}", path, is_time, later=0.2)
    assert epochs == 0 or " 1/5 " not in out

    assert (path / "history.csv").read_text() == (undisturbed / "history.csv").read_text()
    summaries = [json.loads((p / "summary.json").read_text()) for p in (path, undisturbed)]
    for summary in summaries:
        assert summary.pop("seconds") > 0
    assert summaries[0] == summaries[1]
    for events in ("tensorboard", "tensorboard/kernel"):
        assert steps(path / events) == steps(undisturbed / events)


@pytest.mark.slow
def test_a_loss_that_is_not_finite(npz, tmp_path):
    path = tmp_path / "run"
    status, _, err = recipe.run(f"--dataset {npz} --run-dir {path} {SHORT} --learning-rate 1e30")
    assert status == 1
    assert "the loss is not finite" in err
    assert "Traceback" not in err
    assert not (path / "summary.json").exists()


@pytest.mark.once
def test_fast_pressure(npz, tmp_path):
    arguments = (
        "--model resnet8 --width 0.5 --epochs 5 --start-epoch 1 --batch-size 50 --pressure fast "
        "--reach-within 1 --target-path-length 1.5 --schedule one --evaluate-every 4 "
        f"--save-every 0 --label-noise 0.2 --dataset {npz} --run-dir {tmp_path / 'run'}"
    )
    status, _, err = recipe.run_here(arguments)
    assert status == 0, err
    history = read_history(tmp_path / "run")
    assert [row["epoch"] for row in history if row["val_accuracy"]] == ["1", "4", "5"]
    assert [float(row["omega"]) > 0 for row in history] == [False, True, False, False, False]
    lengths = [float(row["path_length"]) for row in history]
    assert lengths[0] == pytest.approx(5.5)
    assert 1.5 >= lengths[2] == lengths[4] > 1.5 - 1 / 8
    rates = [float(row["learning_rate"]) for row in history]
    np.testing.assert_allclose(rates, 0.05 * (1 + np.cos(np.pi * np.arange(5) / 5)), rtol=1e-5)
    assert not (tmp_path / "run" / "checkpoints").exists()
    refused = f"{arguments.replace('1.5', '5.6')}2"
    status, _, err = recipe.run_here(refused)
    assert (status, "--target-path-length must be at most 5.5, that of" in err) == (1, True)


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--label-noise 1.5", "--label-noise must be less than or equal to 1. Received: 1.5"),
        ("--reach-within 0", "--reach-within must be greater than or equal to 1. Received: 0"),
        ("--evaluate-every 0", "--evaluate-every must be greater than or equal to 1"),
        ("--target-nonlinear-units 2", "--target-nonlinear-units must be less than or equal to 1"),
        ("--backend caffe", "invalid choice 'caffe'"),
        ("--dataset cifar11", "--dataset must be auto, digits"),
        ("--dataset missing.npz", "there is no file"),
        ("--strength -1", "--strength must be greater than or equal to 0. Received: -1.0"),
        ("--batch-size 2000", "--batch-size must be at most 1437"),
        ("--resume", "add --run-dir DIR"),
    ],
)
def test_bad_arguments(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = "" if "--dataset" in arguments else "--dataset digits "
    recipe.assert_refuses(dataset + arguments, message, tmp_path)
