"""Cells in processes of Ray, which only one of the test environments has: its wheel is large."""

import pandas as pd
import pytest

from .recipe import Recipe

pytestmark = pytest.mark.once

pytest.importorskip("ray", reason="Ray is not installed with this backend; one tests it")

recipe = Recipe("study.py")


@pytest.fixture
def study(tmp_path, npz):
    (tmp_path / "tiny.toml").write_text(f"""
        title = "Tiny"
        [[experiments]]
        name = "digits"
        recipe = "cifar"
        options = {{ dataset = "{npz}", model = "plain2", epochs = 2, batch_size = 50 }}
        grid = {{ learning_rate = [0.1, 1e30] }}
    """)
    return f"run {tmp_path / 'tiny.toml'}"


def test_the_same_results_as_in_this_process(study, tmp_path):
    tables, histories = [], []
    for engine in ("local", "ray"):
        path = tmp_path / engine
        status, _, err = recipe.run(f"{study} --engine {engine} --study-dir {path}")
        # One of the two fails.
        assert (status, "Traceback" in err) == (1, False), err
        tables.append(pd.read_parquet(path / "results.parquet").drop(columns=["seconds"]))
        [history] = path.glob("cells/*/history.csv")
        histories.append(history.read_text())
    assert list(tables[0]["status"]) == ["finished", "failed"]
    pd.testing.assert_frame_equal(*tables)
    assert histories[0] == histories[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--ray-address 127.0.0.1:9", "--ray-address 127.0.0.1:9: there is no Ray cluster"),
        ("--ray-address ray://127.0.0.1:9", "there is no Ray cluster"),
        ("--ray-address here", "there is no Ray cluster"),
        ("--gpus-per-cell 99", "A cell wants 99 GPUs, but no machine of Ray has more than"),
    ],
)
def test_what_is_not_there(study, tmp_path, options, message):
    path = tmp_path / "run"
    status, _, err = recipe.run(f"{study} --engine ray --study-dir {path} {options}")
    assert status == 1
    assert message in err
    assert "Traceback" not in err
    assert not path.exists()
