import copy
import importlib.util
import re

import keras
import pytest
from common.convnets import convnet
from common.errors import RecipeError
from studies.definition import FOLDER, find, override, parse, read_file

pytestmark = pytest.mark.once

STUDIES = sorted(file.stem for file in FOLDER.glob("*.toml"))
TABLES = {
    "name": "mine",
    "title": "Mine",
    "experiments": [
        {
            "name": "digits",
            "recipe": "cifar",
            "options": {"dataset": "digits", "epochs": 4},
            "grid": {"seed": [0, 1, 2]},
            "variants": {"early": {"start_epoch": 0}, "late": {"start_epoch": 2, "epochs": 6}},
            "fill": {"option": "strength", "low": 0.1, "high": 1.0, "gap": 0.1, "cells": 5},
        },
        {"name": "plain", "recipe": "cifar", "grid": {"seed": [0, 1], "model": ["plain3"]}},
    ],
}


@pytest.fixture
def tables():
    return copy.deepcopy(TABLES)


def test_cells(tables):
    digits, plain = parse(tables).experiments
    cells = digits.cells("jax")
    assert [(cell.variant, cell.options["seed"], cell.options["epochs"]) for cell in cells] == [
        (variant, seed, epochs)
        for seed in range(3)
        for variant, epochs in (("early", 4), ("late", 6))
    ]
    assert cells[1].options == {"dataset": "digits", "epochs": 6, "seed": 0, "start_epoch": 2}
    assert [cell.variant for cell in plain.cells("jax")] == ["", ""]
    assert len({cell.id for cell in [*cells, *plain.cells("jax")]}) == 8
    assert cells[0].id != digits.cells("torch")[0].id


def test_the_id_is_that_of_the_configuration(tables):
    """Not of its order, and not of the study: cells are kept when a study grows."""
    [cell] = parse(tables).experiments[1].cells("jax")[1:]
    tables["experiments"][1] = {
        "name": "another",
        "recipe": "cifar",
        "options": {"model": "plain3", "seed": 1},
    }
    assert parse(tables).experiments[1].cells("jax")[0].id == cell.id
    # Known names of directories must not change.
    assert cell.id == "2992b092905f"


def test_arguments(tables):
    tables["experiments"][1]["options"] = {"augment": False, "resume": True, "budgets": [0.5, 0.1]}
    cell = parse(tables).experiments[1].cells("jax")[0]
    assert cell.command == (
        "python recipes/cifar.py --backend jax --no-augment --resume --budgets 0.5 0.1 --seed 0 "
        "--model plain3"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(experiment=[]), "unknown keys: experiment. Its keys are name, title"),
        (lambda t: t.pop("title"), "the study 'mine' has no title"),
        (lambda t: t.update(experiments=[]), "The study 'mine' is empty"),
        (lambda t: t.update(experiments={}), r"experiments must be tables, \[\[experiments\]\]"),
        (lambda t: t["experiments"][0].update(seeds=[0]), "experiment 'digits' has unknown keys"),
        (lambda t: t["experiments"][0].pop("recipe"), "experiment 'digits' has no recipe"),
        (lambda t: t["experiments"][0].update(recipe="mnist"), "one of cifar, compress, transl"),
        (lambda t: t["experiments"][0]["grid"].update(seed=[]), "'seed' must be a list with at"),
        (lambda t: t["experiments"][0]["grid"].update(seed=3), "'seed' must be a list with at"),
        (lambda t: t["experiments"][0].update(variants={}), "variants must be tables"),
        (lambda t: t["experiments"][0]["fill"].update(low=0), "fill needs 0 < low < high"),
        (lambda t: t["experiments"][0]["fill"].update(cell=5), "fill of .* has unknown keys: cell"),
        (lambda t: t["experiments"][0]["options"].update(strength=1), "'strength' is filled"),
        (lambda t: t["experiments"][1].update(name="digits"), "must have different names"),
    ],
)
def test_bad_studies(tables, change, message):
    change(tables)
    with pytest.raises(RecipeError, match=message):
        parse(tables)


def test_files_that_are_none(tmp_path):
    with pytest.raises(RecipeError, match=r"no study 'laptob': .* or .*laptop"):
        find("laptob")
    with pytest.raises(RecipeError, match="There is no study"):
        find(str(tmp_path / "missing.toml"))
    (tmp_path / "bad.toml").write_text("title = 'x")
    with pytest.raises(RecipeError, match="is not TOML"):
        read_file(find(str(tmp_path / "bad.toml")))


def test_override(tables):
    override(
        tables,
        [
            "epochs=1",
            "digits.seed=[7]",
            "plain.dataset=a.npz",
            "digits.cells=2",
            "plain.model=plain5",
            "start-epoch=0",
        ],
    )
    digits, plain = parse(tables).experiments
    assert {cell.options["epochs"] for cell in digits.cells("jax")} == {1}
    assert {cell.options["start_epoch"] for cell in digits.cells("jax")} == {0}
    assert {cell.options["seed"] for cell in digits.cells("jax")} == {7}
    assert digits.fill.cells == 2
    assert [cell.options for cell in plain.cells("jax")] == [
        {"epochs": 1, "dataset": "a.npz", "model": "plain5", "start_epoch": 0, "seed": seed}
        for seed in (0, 1)
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [("epochs", "--set takes"), ("=3", "--set takes"), ("x.epochs=3", "no experiment 'x'")],
)
def test_bad_overrides(tables, change, message):
    with pytest.raises(RecipeError, match=message):
        override(tables, [change])


@pytest.mark.parametrize("option", [{"strenght": 0.1}, {"model": 3, "epochs": "many"}])
def test_options_that_the_recipe_does_not_take(tables, option):
    tables["experiments"][1]["options"] = option
    with pytest.raises(RecipeError, match=r"cifar.py cannot run") as error:
        parse(tables).experiments[1].cells("jax")[0].check()
    assert ("--strenght" if "strenght" in option else "epochs") in str(error.value)


def test_packages_that_are_not_installed(tables, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "keras_hub" else find_spec(name)
    )
    tables["experiments"].append({"name": "text", "recipe": "translation"})
    cells = [each.cells(keras.backend.backend())[0] for each in parse(tables).experiments]
    cells[1].check()
    with pytest.raises(RecipeError, match=r"translation.py cannot run .*: keras_hub cannot be"):
        cells[2].check()


@pytest.mark.parametrize("name", STUDIES)
def test_studies_that_come_with_the_recipes(name, monkeypatch):
    backend = keras.backend.backend()
    monkeypatch.setenv("KERAS_BACKEND", backend)
    study = parse(read_file(find(name)))
    for experiment in study.experiments:
        fill = experiment.fill
        value = {fill.option: fill.low} if fill else {}
        seen = set()
        for cell in experiment.cells(backend):
            if cell.variant not in seen:
                cell.options.update(value)
                cell.check()
            seen.add(cell.variant)
        assert len(experiment.grid["seed"]) >= (1 if name == "quick" else 3)


def parameters(model, width=1.0):
    """Of a network of `convnet`, for images of one channel and 10 classes: building takes long."""
    family, depth = re.fullmatch(r"(resnet|plain)(\d+)", model).groups()
    channels = [max(round(base * width), 1) for base in (16, 32, 64)]
    convolutions, before = [(9, 1, channels[0])], channels[0]
    for stage, filters in enumerate(channels):
        number = (int(depth) - 2 + stage) // 3
        if family == "resnet" and stage:
            convolutions.append((1, before, filters))
        for _ in range(number):
            convolutions.append((9, before, filters))
            before = filters
    # Batch normalization has 4 numbers for each channel, and each unit a slope and whether it is
    # frozen.
    units = sum(filters for size, _, filters in convolutions if size == 9)
    return (
        sum(size * inputs * filters + 4 * filters for size, inputs, filters in convolutions)
        + 10 * (before + 1)
        + 2 * units
    )


@pytest.mark.parametrize("model", ["plain4", "resnet8"])
def test_parameters(model):
    assert convnet(model, (8, 8, 1), 10, 0.25).count_params() == parameters(model, 0.25)


@pytest.mark.parametrize("name", STUDIES)
def test_widened_networks_have_as_many_parameters(name):
    study = parse(read_file(find(name)))
    experiments = {experiment.name: experiment for experiment in study.experiments}
    for claim in study.claims:
        if claim["claim"] != "shallow":
            continue
        for pressed, plain in claim["experiments"].items():
            options = experiments[pressed].options
            wanted = parameters(options["model"], options.get("width", 1.0))
            for variant, options in experiments[plain].variants.items():
                if variant.endswith(", wide"):
                    assert parameters(**options) == pytest.approx(wanted, rel=0.05)
