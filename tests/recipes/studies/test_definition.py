import copy
import importlib.util
import math
import re

import keras
import pytest

from networks.convnets import convnet
from running.errors import RecipeError
from studies.planning.definition import FOLDER, find, override, parse, read_file
from studies.planning.reachable import require_reachable

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


LADDER = {"option": "target_path_length", "targets": [4, 2]}


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


def test_ladders_and_seeds(tables):
    """All that differs between two cells of a pair is what is compared."""
    tables["experiments"][0] |= {"ladder": LADDER, "seeds": {"pilot": 3, "least": 5}, "grid": {}}
    del tables["experiments"][0]["fill"]
    digits = parse(tables).experiments[0]
    assert digits.most == 10 * 2 * 2
    early, late = digits.cells("jax")[:2]
    assert early.options.items() ^ late.options.items() == {
        *(("start_epoch", 0), ("start_epoch", 2), ("epochs", 4), ("epochs", 6))
    }
    pairs = [
        (cell.variant, cell.options["seed"], cell.options["target_path_length"])
        for cell in digits.cells("jax")
    ]
    assert pairs == [
        (variant, seed, target)
        for seed in range(3)
        for target in (4.0, 2.0)
        for variant in ("early", "late")
    ]
    assert {cell.options["seed"] for cell in digits.cells("jax", [3, 4])} == {3, 4}


def test_targets_that_networks_do_not_have(tables):
    tables["experiments"][1]["ladder"] = LADDER | {"targets": [9.5, 2, 1]}
    tables["experiments"][1]["grid"]["model"] = ["plain20", "plain3"]
    with pytest.raises(RecipeError, match=r"'plain': .* less than 2, .* plain3. Received: 9.5, 2"):
        require_reachable(parse(tables).experiments)
    tables["experiments"][1]["ladder"] = LADDER | {"targets": [1.5]}
    require_reachable(parse(tables).experiments)


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
    tables["experiments"][1]["options"] = {"augment": False, "watch": True, "budgets": [0.5, 0.1]}
    cell = parse(tables).experiments[1].cells("jax")[0]
    assert cell.command == (
        "python recipes/cifar.py --backend jax --no-augment --watch --budgets 0.5 0.1 --seed 0 "
        "--model plain3"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiment": []}, "experiment is no known key"),
        ({"title": ...}, "title is missing"),
        ({"title": 3}, "title must be a valid string. Received: 3"),
        ({"name": "../mine"}, "name String should match"),
        ({"experiments": []}, "experiments List should have at least 1 item"),
        ({"experiments": {}}, "experiments must be a valid array"),
        ({"experiments": [3]}, r"experiments\[0\] must be an object"),
        ({"claims": [3]}, r"claims\[0\] must be"),
        ({"about": ["a"]}, "about must be a valid string"),
        ({"stop_after": 0}, "stop_after must be greater than 0"),
        ({"0.seed": [0]}, r"experiments\[0\].seed is no known key"),
        ({"0.rank": -1}, r"experiments\[0\].rank must be greater than or equal to 0"),
        ({"1.ladder": LADDER | {"option": "strength"}}, "ladder.option must be 'target_path"),
        ({"1.ladder": {"option": "target_path_length"}}, "ladder.targets is missing"),
        ({"1.ladder": LADDER | {"targets": []}}, "ladder.targets List should have at least 1 item"),
        ({"1.ladder": LADDER | {"targets": [2, 2]}}, "targets must name each value once"),
        ({"1.ladder": LADDER | {"targets": [-2]}}, "targets.* must be greater than 0"),
        ({"1.ladder": LADDER | {"rungs": 3}}, "ladder.rungs is no known key"),
        (
            {"1.ladder": {"option": "target_nonlinear_units", "targets": [1.5, 0.5]}},
            "shares of the units that the network has, and so they must be less than 1",
        ),
        (
            {"1.ladder": LADDER, "1.options": {"target_path_length": 3}},
            "target_path_length is that of the ladder",
        ),
        ({"1.ladder": LADDER, "1.recipe": "compress"}, "ladder is none of compress"),
        ({"1.ladder": LADDER, "1.recipe": "translation"}, "translation takes one of target_nonl"),
        ({"1.seeds": {}}, r"seeds.pilot is missing"),
        ({"1.seeds": {"pilot": 1}}, r"seeds.pilot must be greater than or equal to 2"),
        ({"1.seeds": {"pilot": 7, "most": 8}}, r"pilot must be at most least, and least at most"),
        ({"1.seeds": {"pilot": 3, "gap": 8}}, r"seeds.gap is no known key"),
        ({"1.seeds": {"pilot": 3}}, "seed is decided by seeds, and so it must not be given"),
        (
            {"1.seeds": {"pilot": 3}, "1.grid": {}},
            r"seeds need a pilot of at least two variants, between which there are gaps",
        ),
        ({"0.seeds": {"pilot": 3}, "0.grid": {}}, "seeds need a ladder in place of fill"),
        ({"0.recipe": ...}, r"experiments\[0\].recipe is missing"),
        ({"0.recipe": "mnist"}, r"recipe must be 'cifar', 'compress' or 'translation'"),
        ({"0.grid.seed": []}, r"grid.seed List should have at least 1 item"),
        ({"0.grid.seed": 3}, r"grid.seed must be a valid array"),
        ({"0.grid.seed": [[[]]]}, r"grid.seed\[0\] must be a number, text, true or false"),
        ({"0.grid.seed": [None]}, r"grid.seed\[0\] must be a number, text, true or false"),
        ({"0.options.epochs": {"a": 1}}, r"options.epochs must be a number, text"),
        ({"0.options.width": math.nan}, r"options.width must be a number"),
        ({"0.options.width": -math.inf}, r"options.width must be a number"),
        ({"0.options.dataset": "--check"}, r"options.dataset must not begin with -"),
        ({"0.options.methods": ["ours", "--check"]}, r"options.methods must not begin with -"),
        (
            {"0.options.learning-rate": 1},
            r"learning-rate must be an option .* with _ for -",
        ),
        ({"0.variants": {}}, r"variants .*at least 1 item"),
        ({"0.variants.late": 3}, r"variants.late must be"),
        ({"0.fill.low": 0}, r"fill.low must be greater than 0"),
        ({"0.fill.low": 2}, r"low must be less than high. Received: 2.0 and 1.0"),
        ({"0.fill.high": 10**400}, r"fill.high must be a finite number"),
        ({"0.fill.cells": 10**9}, r"fill.cells must be less than or equal to 10000"),
        ({"0.fill.cells": 2.5}, r"fill.cells must be a valid integer"),
        ({"0.fill.cell": 5}, r"fill.cell is no known key"),
        ({"0.options.strength": 1}, "strength is filled"),
        ({"1.name": "digits"}, "must have different names"),
        (
            {"1.grid": {name: [*range(10)] for name in "abcdefgh"}},
            r"10,000 cells at most, .* Received: 100,000,030",
        ),
    ],
)
def test_bad_studies(tables, change, message):
    for path, value in change.items():
        *keys, last = path.split(".") if path[0].isdigit() else [path]
        place = tables["experiments"][int(keys.pop(0))] if keys else tables
        for key in keys:
            place = place[key]
        place[last] = value
        if value is ...:
            del place[last]
    with pytest.raises(RecipeError, match=message) as error:
        parse(tables, "`mine.toml`: ")
    assert str(error.value).startswith("`mine.toml`: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("place", ["options", "grid", "variants", "fill"])
@pytest.mark.parametrize(
    "option", ["backend", "check", "help", "resume", "run_dir", "no_check", "tyro_print_completion"]
)
def test_options_that_are_none_of_a_study(tables, place, option):
    """Cells would be run on another backend than is recorded, or be checked and not be run."""
    experiment = tables["experiments"][0]
    if place == "fill":
        experiment["fill"]["option"] = option
    elif place == "variants":
        experiment["variants"]["late"][option] = True
    else:
        experiment[place][option] = [True] if place == "grid" else True
    with pytest.raises(RecipeError, match=rf"experiments\[0\]\.{place}.*is none of a study"):
        parse(tables)


def test_files_that_are_none(tmp_path):
    with pytest.raises(RecipeError, match=r"no study 'laptob': .* or .*laptop"):
        find("laptob")
    with pytest.raises(RecipeError, match="There is no study"):
        find(str(tmp_path / "missing.toml"))
    for text in (b"title = 'x", b"title = '\xff'", b"x = " + b"9" * 5000, b"x = " + b"[" * 10**5):
        (tmp_path / "bad.toml").write_bytes(text)
        with pytest.raises(RecipeError, match="is not TOML"):
            read_file(find(str(tmp_path / "bad.toml")))
    (tmp_path / "date.toml").write_text("title = 'ä'\nabout = 2020-01-01", encoding="utf-8")
    tables = read_file(find(str(tmp_path / "date.toml")))
    assert (tables["title"], tables["about"]) == ("ä", "2020-01-01")


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


def test_override_ladders_and_seeds(tables):
    plain = tables["experiments"][1]
    plain |= {"ladder": dict(LADDER), "seeds": {"pilot": 3}, "grid": {}}
    plain["variants"] = {"early": {}, "late": {"start_epoch": 1}}
    override(tables, ["plain.targets=[1.5]", "plain.pilot=2", "plain.most=6"])
    parsed = parse(tables).experiments[1]
    assert (parsed.ladder.targets, parsed.seeds.pilot, parsed.seeds.most) == ([1.5], 2, 6)
    override(tables, ["plain.seed=[7]"])
    assert {cell.options["seed"] for cell in parse(tables).experiments[1].cells("jax")} == {7}


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
def test_studies_that_come_with_the_recipes(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "multi30k").mkdir()
    for file in ("train.en", "train.de", "val.en", "val.de", "test.en", "test.de"):
        (tmp_path / "multi30k" / file).write_text("one line\n" * 8_000)
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
        seeds = experiment.seeds.least if experiment.seeds else len(experiment.grid["seed"])
        assert seeds >= (1 if name == "quick" else 2 if name == "gpu-quarter-hour" else 3)


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
