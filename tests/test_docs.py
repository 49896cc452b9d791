"""Runs the examples of the documentation: all docstrings, and the Python code of all pages."""

import contextlib
import doctest
import importlib
import json
import pkgutil
import re
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import sklearn.datasets

import keras_nladv
from keras_nladv.engines.registry import find_engine
from keras_nladv.graph import rules
from keras_nladv.merging import costs, planner


def usable_engines():
    for name in ("onnxruntime", "litert", "openvino"):
        # The backend may have no way there, and only some environments have its package.
        with contextlib.suppress(ImportError, ValueError):
            # Those that torch has run there; tests/engines try them from each backend.
            if "torch" not in find_engine(name).packages or keras.backend.backend() == "torch":
                yield name


ROOT = Path(__file__).parent.parent
ENGINES = [f"python {engine}" for engine in usable_engines()]
RUN = {"python", *ENGINES, f"python {keras.backend.backend()}"}
# Pages that run on each backend: the first that is seen, and those on what differs.
EVERYWHERE = ["README.md", "docs/devices.md"] + ["docs/deploy.md"] * bool(ENGINES)
NAMES = {"keras": keras, "np": np}
NAMES |= {name: value for name, value in vars(keras_nladv).items() if not name.startswith("_")}


def docstrings():
    modules = [info.name for info in pkgutil.walk_packages(keras_nladv.__path__, "keras_nladv.")]
    for module in modules:
        for test in doctest.DocTestFinder().find(importlib.import_module(module), globs=NAMES):
            if test.examples:
                yield pytest.param(test, id=test.name)


def code_of_page(path):
    """The code of a page, on the lines it has in the page.

    What is marked as that of an engine or a backend, as in "python litert", runs where that does.
    """
    language = None
    for line in path.read_text().splitlines():
        if line.startswith("```"):
            language = line[3:] if language is None else None
            line = ""
        yield line if language in RUN else ""


def code_of_notebook(path):
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            yield from (line for line in "".join(cell["source"]).splitlines() if line[0:1] != "%")


def pages():
    codes = {
        path: code_of_page(path) for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    }
    # The notebook's code is that of this page: docs/notebook.py.
    del codes[ROOT / "docs" / "getting-started.md"]
    codes |= {path: code_of_notebook(path) for path in (ROOT / "docs").glob("*.ipynb")}
    for path, lines in sorted(codes.items()):
        code = "\n".join(lines)
        if code.strip():
            page = str(path.relative_to(ROOT))
            yield pytest.param(
                compile(code, page, "exec"),
                id=page,
                marks=[] if page in EVERYWHERE else [pytest.mark.once],
            )


@pytest.mark.once
def test_the_reference_has_all_public_names():
    reference = (ROOT / "docs" / "api.md").read_text()
    names = re.findall(r"^.. auto\w+:: (\S+)", reference, flags=re.MULTILINE)
    listed = {name.rpartition(".")[2] for name in names}
    public = {*keras_nladv.__all__} - {"tangent"}
    for info in pkgutil.iter_modules(keras_nladv.__path__):
        if not info.name.startswith("_"):
            room = vars(importlib.import_module(f"keras_nladv.{info.name}"))
            # Where something is imported only when it is asked for, names are listed.
            public |= {*room.get("__all__", ())} or {
                name
                for name, value in room.items()
                if not name.startswith("_") and not isinstance(value, types.ModuleType)
            }
    assert public == listed


@pytest.mark.once
@pytest.mark.parametrize("test", list(docstrings()))
def test_docstring(test, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert runner.run(test).failed == 0


@pytest.fixture
def few_digits(monkeypatch):
    """Lets pages train on fewer images, which takes them through the same code."""
    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    monkeypatch.setattr(
        sklearn.datasets, "load_digits", lambda return_X_y: (images[:500], labels[:500])
    )


@pytest.mark.parametrize("code", list(pages()))
def test_page(code, few_digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # What is timed here decides nothing: only the network as a whole is, a few times.
    monkeypatch.setattr(costs, "MOST", costs.LEAST)
    monkeypatch.setattr(planner, "PATIENCE", 0.0)
    monkeypatch.setattr(rules, "_rules", dict(rules._rules))  # Of what other tests try, too.
    try:
        exec(code, {"__name__": "__main__"})
    finally:
        if keras.backend.backend() == "jax":  # Elsewhere there is nothing to set.
            keras.distribution.set_distribution(None)
