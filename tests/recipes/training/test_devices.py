import csv
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.batches import even_batch_size

from ..conftest import RECIPES
from ..recipe import BACKEND, Recipe

RUNS = {
    "cifar": "--dataset digits --train-images 200 --model plain4 --width 0.5 --epochs 3 "
    "--start-epoch 1 --strength 0.5 --batch-size 50",
    "translation": "--dataset text --layers 1 --dim 16 --heads 2 --ffn-dim 24 --epochs 3 "
    "--start-epoch 1 --strength 0.5 --batch-size 8 --evaluate-every 3 --dropout 0 --max-length 12",
}


def run(recipe, arguments):
    starter = Path(__file__).parents[1] / "on_two_devices.py"
    return subprocess.run(
        [sys.executable, starter, RECIPES / f"{recipe}.py", *shlex.split(arguments)],
        env={**os.environ, "KERAS_BACKEND": BACKEND},
        capture_output=True,
        text=True,
    )


def read_history(path):
    with open(path / "history.csv") as file:
        return [[float(value or 0) for value in row.values()] for row in csv.DictReader(file)]


@pytest.fixture
def text(tmp_path, monkeypatch):
    """A folder of sentences of many lengths, whose last batch has to be filled up."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "text"
    folder.mkdir()
    for split, number in {"train": 42, "val": 9, "test": 5}.items():
        for language, word in {"en": "one", "de": "eins"}.items():
            lines = [" ".join([word, "two"][: 1 + i % 2] * (1 + i % 5)) for i in range(number)]
            (folder / f"{split}.{language}").write_text("\n".join(lines) + "\n")


@pytest.mark.slow
@pytest.mark.usefixtures("text")
@pytest.mark.parametrize("recipe", RUNS)
def test_two_devices_come_to_the_same_as_one(recipe, tmp_path):
    one, two = (tmp_path / name for name in ("one", "two"))
    for path, devices in ((one, 1), (two, 2)):
        finished = run(recipe, f"{RUNS[recipe]} --run-dir {path} --devices {devices}")
        assert finished.returncode == 0, finished.stderr
    expected = read_history(one)
    assert len(expected) == 3
    np.testing.assert_allclose(read_history(two), expected, rtol=1e-3, atol=1e-5)
    # Another number of devices goes on with it.
    (two / "summary.json").unlink()
    (two / "checkpoints/epoch-0003.weights.h5").unlink()
    finished = run(recipe, f"--run-dir {two} --resume")
    assert " 2/3 " not in finished.stdout
    assert " 3/3 " in finished.stdout, finished.stderr
    np.testing.assert_allclose(read_history(two), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_more_devices_than_there_are(tmp_path):
    finished = run(
        "cifar", f"{RUNS['cifar']} --batch-size 120 --run-dir {tmp_path / 'none'} --devices 120"
    )
    assert finished.returncode == 1
    assert "--devices must be at most" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.once
def test_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Recipe("cifar.py").assert_refuses(
        "--dataset digits --devices 999", "--devices must be at most", tmp_path
    )


@pytest.mark.once
@pytest.mark.parametrize(
    "recipe", ["compress", "iterative_linearization", "neural_tangent_transfer"]
)
def test_recipes_that_train_many_networks_are_for_one_device(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Recipe(f"{recipe}.py").assert_refuses(
        "--devices 2", "Unrecognized options: --devices", tmp_path, statuses=(2,)
    )


@pytest.mark.once
def test_batches_that_devices_can_share():
    assert even_batch_size(360) == 360
    assert [even_batch_size(10_000, devices) for devices in (1, 2, 4, 8)] == [500, 500, 500, 400]
    assert even_batch_size(2 * 1009, 2) == 2
