"""Cells in processes of Ray, which only one of the test environments has: its wheel is large."""

import socket
from types import SimpleNamespace

import keras
import pandas as pd
import pytest

from running.errors import RecipeError
from studies.engines import ray_address
from studies.engines.ray_address import require_cluster

from ..recipe import Recipe

pytestmark = pytest.mark.once

ray = pytest.importorskip("ray", reason="Ray is not installed with this backend; one tests it")

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


@pytest.mark.slow
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


@pytest.mark.parametrize("gpus", [0.0, 0.1, 1.0])
def test_cells_on_one_card_leave_each_other_memory(gpus, tmp_path, monkeypatch):
    from studies.engines.ray_engine import RayEngine

    given = {}

    def init(**arguments):
        given.update(arguments["runtime_env"]["env_vars"])
        raise RuntimeError("that is enough")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(RecipeError, match="that is enough"):
        RayEngine(tmp_path, gpus=gpus)
    names = ("XLA_PYTHON_CLIENT_PREALLOCATE", "TF_FORCE_GPU_ALLOW_GROWTH")
    shared = ("false", "true") if gpus == 0.1 else (None, None)
    assert tuple(map(given.get, names)) == shared


def test_a_card_that_refuses_leaves_the_cell_to_ray(tmp_path, monkeypatch):
    """It is tried again there: nothing of it may be on disk, least of all that it failed."""
    from studies.engines.ray_engine import _run

    def refuse(*_):
        raise RuntimeError("no supported devices found")

    ran = []
    cell = SimpleNamespace(backend=keras.backend.backend(), run=ran.append)
    monkeypatch.setattr(keras.ops, "zeros", refuse)
    with pytest.raises(RuntimeError, match="no supported devices"):
        _run(cell, tmp_path, on_card=True)
    assert not ran
    _run(cell, tmp_path, on_card=False)
    assert ran == [tmp_path]


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "here", "", "a:99999999"])
def test_addresses_where_nobody_is(address):
    with pytest.raises(RecipeError, match=f"--ray-address {address}: there is no Ray cluster"):
        require_cluster(address)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_addresses_where_somebody_else_is(scheme, monkeypatch):
    """Who takes connections and says nothing."""
    monkeypatch.setattr(ray_address, "SECONDS", 2)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(RecipeError, match="nobody answered as Ray does within 2 seconds"),
    ):
        require_cluster(f"{scheme}127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.slow
def test_more_than_there_is(study, tmp_path):
    path = tmp_path / "run"
    status, _, err = recipe.run(f"{study} --engine ray --study-dir {path} --gpus-per-cell 99")
    assert status == 1
    assert "A cell wants 99 GPUs, but no machine of Ray has more than" in err
    assert "Traceback" not in err
    assert not path.exists()
