import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch):
    pytest.importorskip("tyro")
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu

    return gpu


@pytest.mark.once
def test_a_part_that_hangs_or_breaks_is_said(gpu, tmp_path):
    """It is ended with what it has started."""
    starts = f"sleep 60 & echo $! > {tmp_path}/pid; sleep 60"
    with open(tmp_path / "log.txt", "w") as log:
        error = gpu.run(["sh", "-c", starts], 1.0, log)
        assert error == "stopped at its limit of 1 s"
        child = Path("/proc") / (tmp_path / "pid").read_text()
        assert not child.exists() or "Z" in (child / "stat").read_text()
        error = gpu.run(["sh", "-c", "kill -9 $$"], 60, log)
        assert error == "ended with status -9, see log.txt"
        assert gpu.run(["true"], 60, log) is None


@pytest.mark.once
def test_rows_are_kept_and_shown(gpu, tmp_path, capsys):
    row = {"part": "kernel", "setting": "a card", "what": "all of it", "ms": 1234.5}
    gpu.write(tmp_path, {**row, "times half": [1.9, 2.0, 2.1]})
    gpu.write(tmp_path, {"part": "vit", "error": "ValueError: a\nb | c"})
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('\n{"part": "cut o')
    rows = gpu.read(tmp_path)
    assert len(rows) == 2
    first = "| kernel | all of it | 1,234 ms, 2.00 (1.90-2.10) times half |"
    second = "| vit |  | failed: ValueError: a b c |"
    assert capsys.readouterr().out.splitlines() == [first, second]
    assert gpu.table(rows).splitlines()[0] == "a card"
    assert gpu.table(rows).splitlines()[-2:] == [first, second]


def tried(path, *options):
    """Runs it as small as can be, and returns the rows."""
    finished = subprocess.run(
        [sys.executable, BENCHMARKS / "gpu.py", "--tiny", "--output", path, *options],
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend()},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    assert (path / "table.md").read_text() in finished.stdout
    lines = (path / "results.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line]


@pytest.mark.once
def test_all_parts_are_processes(gpu, tmp_path):
    """The quickest of them, and one that breaks."""
    options = ["--parts", "kernel", "study", "--set", "nothing=1"]
    *rows, broken = tried(tmp_path, *options)
    assert [row["what"] for row in rows] == [
        "LeNet-5-Caffe: 2 with 2 inputs",
        "ResNet-8: 2 with 2 inputs",
    ]
    assert all(row["ms"] > 0 and keras.__version__ in row["setting"] for row in rows)
    assert broken["part"] == "study"
    assert broken["error"].startswith("RuntimeError: ")

    command = [sys.executable, BENCHMARKS / "gpu.py", "--parts", "kernal"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "--part and --parts must be of step-float32, " in refused.stderr


@pytest.mark.slow
def test_each_part_finds_something(gpu, tmp_path):
    rows = tried(tmp_path)
    assert [row for row in rows if "error" in row] == []
    assert {row["part"] for row in rows} == gpu.PARTS.keys()
