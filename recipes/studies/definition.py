"""A study as its file says it."""

import dataclasses
import itertools
import math
import tomllib
from pathlib import Path
from typing import Any

from common.errors import RecipeError

from studies.cell import Cell

FOLDER = Path(__file__).parent
RECIPES = ("cifar", "compress", "translation")


@dataclasses.dataclass(frozen=True)
class Fill:
    """How the values of an option are chosen, so that path lengths are filled evenly."""

    # The option.
    option: str
    # The least and the greatest value. Between them, logarithms are halved.
    low: float
    high: float
    # No two neighbors shall be further apart, in shares of the path length before linearization.
    gap: float
    # No more cells than this for each curve.
    cells: int


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Runs of one recipe: each variant with each point of the grid, and each filled value."""

    name: str
    recipe: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    grid: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    # Named options, which go together: `{"late": {"start_epoch": 10}, ...}`.
    variants: dict[str, dict[str, Any]] = dataclasses.field(default_factory=lambda: {"": {}})
    fill: Fill | None = None

    def cells(self, backend: str) -> list[Cell]:
        """The cells of the grid: all, or of each curve that is to be filled the beginning."""
        points = itertools.product(*self.grid.values())
        return [
            Cell(
                self.name,
                variant,
                self.recipe,
                backend,
                {**self.options, **dict(zip(self.grid, point)), **options},
            )
            for point, (variant, options) in itertools.product(points, self.variants.items())
        ]


@dataclasses.dataclass(frozen=True)
class Study:
    """Experiments, and what they are asked."""

    name: str
    title: str
    experiments: list[Experiment]
    # For each of `studies.claims.CLAIMS` that is judged its key, as `claim`, and its arguments.
    claims: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    about: str = ""


def find(name: str) -> Path:
    """The file of a study: its path, or the name of one that comes with the recipes."""
    file = Path(name)
    if file.suffix != ".toml":
        file = FOLDER / f"{name}.toml"
    if not file.is_file():
        names = ", ".join(sorted(each.stem for each in FOLDER.glob("*.toml")))
        raise RecipeError(f"There is no study {name!r}: give the path of a .toml file, or {names}.")
    return file


def read_file(file: Path) -> dict[str, Any]:
    try:
        return {"name": file.stem, **tomllib.loads(file.read_text())}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"`{file}` is not TOML: {error}") from error


def override(tables: dict[str, Any], changes: list[str]) -> None:
    """Changes options of a study, whatever its grid and variants say of them.

    Args:
        tables: The study as `read_file` gives it.
        changes: Each is `OPTION=VALUE`, or `EXPERIMENT.OPTION=VALUE` for one experiment; the value
            is one of TOML, or text. A list of values becomes part of the grid.

    Raises:
        RecipeError: If one is none of these, or names no experiment.
    """
    experiments = {each.get("name"): each for each in tables.get("experiments", [])}
    for change in changes:
        where, equals, text = change.partition("=")
        name, dot, option = where.rpartition(".")
        if not equals or not option:
            raise RecipeError(f"--set takes [EXPERIMENT.]OPTION=VALUE. Received: {change!r}")
        if dot and name not in experiments:
            raise RecipeError(
                f"--set {change}: there is no experiment {name!r}, but {', '.join(experiments)}."
            )
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        option = option.replace("-", "_")
        for experiment in [experiments[name]] if dot else experiments.values():
            fill = experiment.get("fill")
            if fill and option in fill:
                fill[option] = value
                continue
            for options in experiment.get("variants", {}).values():
                options.pop(option, None)
            experiment.get("grid", {}).pop(option, None)
            place = experiment.setdefault("grid" if isinstance(value, list) else "options", {})
            place[option] = value


def parse(tables: dict[str, Any]) -> Study:
    """Makes a study of the tables of its file.

    Raises:
        RecipeError: If keys are unknown or missing, or a grid is empty.
    """
    name = tables.get("name")
    experiments = []
    for table in _entries(tables, "experiments", f"the study {name!r}"):
        where = f"experiment {table.get('name')!r}"
        if "fill" in table:
            table = {**table, "fill": _made(Fill, table["fill"], f"fill of {where}")}
        experiment = _made(Experiment, table, where)
        _check(experiment, where)
        experiments.append(experiment)
    names = [experiment.name for experiment in experiments]
    if not names:
        raise RecipeError(f"The study {name!r} is empty: it has no [[experiments]].")
    if len(set(names)) < len(names):
        raise RecipeError(f"The experiments of {name!r} must have different names: {names}")
    return _made(Study, {**tables, "experiments": experiments}, f"the study {name!r}")


def _check(experiment, where):
    if experiment.recipe not in RECIPES:
        raise RecipeError(
            f"{where}: recipe must be one of {', '.join(RECIPES)}. Received: {experiment.recipe!r}"
        )
    for option, values in experiment.grid.items():
        if not isinstance(values, list) or not values:
            raise RecipeError(
                f"{where}: the grid of {option!r} must be a list with at least one value. "
                f"Received: {values!r}"
            )
    if not experiment.variants or not all(
        isinstance(options, dict) for options in experiment.variants.values()
    ):
        raise RecipeError(f"{where}: variants must be tables of options, one at least.")
    fill = experiment.fill
    if fill is None:
        return
    if not (0 < fill.low < fill.high < math.inf and 0 < fill.gap < 1 and fill.cells >= 2):
        raise RecipeError(
            f"{where}: fill needs 0 < low < high, 0 < gap < 1 and cells of at least 2. Received: "
            f"{dataclasses.asdict(fill)}"
        )
    given = {*experiment.options, *experiment.grid}.union(*experiment.variants.values())
    if fill.option in given:
        raise RecipeError(f"{where}: {fill.option!r} is filled, and so it must not be given.")


def _entries(tables, key, where):
    entries = tables.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise RecipeError(f"{where}: {key} must be tables, [[{key}]].")
    return entries


def _made(kind, table, where):
    fields = dataclasses.fields(kind)
    unknown = table.keys() - {field.name for field in fields}
    missing = [
        field.name
        for field in fields
        if field.default is field.default_factory is dataclasses.MISSING and field.name not in table
    ]
    if unknown or missing:
        raise RecipeError(
            f"{where} has "
            + " and ".join(
                [f"unknown keys: {', '.join(sorted(unknown))}"] * bool(unknown)
                + [f"no {', '.join(missing)}"] * bool(missing)
            )
            + f". Its keys are {', '.join(field.name for field in fields)}."
        )
    return kind(**table)
