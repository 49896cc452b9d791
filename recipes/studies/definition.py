"""A study as its file says it."""

import dataclasses
import itertools
import json
import math
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from common.config import RunConfig
from common.errors import RecipeError
from common.values import EXACT, parsed
from pydantic import AfterValidator, Field, JsonValue

from studies.cell import Cell

FOLDER = Path(__file__).parent
# No more cells than this, of all experiments: each is looked at before the first is run.
MOST = 10_000
# Options of the recipes that do not say what a cell is.
RESERVED = {*RunConfig.momentary, "backend", "devices", "help", "translate"}


def is_option(name: str) -> str:
    """Raises a `ValueError` if this is no option that a cell can have."""
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise ValueError(
            "must be an option of the recipe, with _ for -, and without what it begins with"
        )
    if name in RESERVED:
        raise ValueError(
            "is none of a study, which gives the backend and the run directory to all its cells"
        )
    if name.startswith(("no_", "tyro_")):
        raise ValueError("is none of a study: give true or false to an option that is switched")
    return name


def is_value(value: JsonValue) -> JsonValue:
    """Raises a `ValueError` if this is no value of an option."""
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, bool | int | float | str) or each in (math.inf, -math.inf):
            raise ValueError("must be a number, text, true or false, or a list of these")
        if each != each:
            raise ValueError("must be a number")
        if isinstance(each, str) and each.startswith("-"):
            raise ValueError("must not begin with -, as options do")
    return value


Option = Annotated[str, AfterValidator(is_option)]
Value = Annotated[JsonValue, AfterValidator(is_value)]
Options = dict[Option, Value]


@dataclasses.dataclass(frozen=True)
class Fill:
    """How the values of an option are chosen, so that path lengths are filled evenly."""

    # The option.
    option: Option
    # The least and the greatest value. Between them, logarithms are halved.
    low: Annotated[float, Field(gt=0)]
    high: Annotated[float, Field(gt=0)]
    # No two neighbors shall be further apart, in shares of the path length before linearization.
    gap: Annotated[float, Field(gt=0, lt=1)]
    # No more cells than this for each curve.
    cells: Annotated[int, Field(ge=2, le=MOST)]

    __pydantic_config__: ClassVar = EXACT

    def __post_init__(self):
        if self.low >= self.high:
            raise ValueError(f"low must be less than high. Received: {self.low} and {self.high}")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Runs of one recipe: each variant with each point of the grid, and each filled value."""

    name: str
    recipe: Literal["cifar", "compress", "translation"]
    options: Options = dataclasses.field(default_factory=dict)
    grid: dict[Option, Annotated[list[Value], Field(min_length=1)]] = dataclasses.field(
        default_factory=dict
    )
    # Named options, which go together: `{"late": {"start_epoch": 10}, ...}`.
    variants: Annotated[dict[str, Options], Field(min_length=1)] = dataclasses.field(
        default_factory=lambda: {"": {}}
    )
    fill: Fill | None = None

    __pydantic_config__: ClassVar = EXACT

    def __post_init__(self):
        given = {*self.options, *self.grid}.union(*self.variants.values())
        if self.fill and self.fill.option in given:
            raise ValueError(f"{self.fill.option} is filled, and so it must not be given")

    @property
    def most(self) -> int:
        """The number of its cells at most."""
        curves = math.prod(map(len, self.grid.values())) * len(self.variants)
        return curves * (self.fill.cells if self.fill else 1)

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

    name: Annotated[str, Field(pattern=r"^[^/\\\x00]+$")]
    title: str
    experiments: Annotated[list[Experiment], Field(min_length=1)]
    # For each of `studies.claims.CLAIMS` that is judged its key, as `claim`, and its arguments.
    claims: list[dict[str, JsonValue]] = dataclasses.field(default_factory=list)
    about: str = ""

    __pydantic_config__: ClassVar = EXACT

    def __post_init__(self):
        names = [experiment.name for experiment in self.experiments]
        if len(set(names)) < len(names):
            raise ValueError(f"experiments must have different names. Received: {names}")
        most = sum(experiment.most for experiment in self.experiments)
        if most > MOST:
            raise ValueError(
                f"experiments must have {MOST:,} cells at most, all grids, variants and fills "
                f"together. Received: {most:,}"
            )


def find(name: str) -> Path:
    """The file of a study: its path, or the name of one that comes with the recipes."""
    file = Path(name)
    if file.suffix != ".toml":
        file = FOLDER / f"{name}.toml"
    if not os.path.isfile(file):
        names = ", ".join(sorted(each.stem for each in FOLDER.glob("*.toml")))
        raise RecipeError(f"There is no study {name!r}: give the path of a .toml file, or {names}.")
    return file


def read_file(file: Path) -> dict[str, Any]:
    try:
        tables = {"name": file.stem, **tomllib.loads(file.read_text(encoding="utf-8"))}
        # Dates are text, as everything that is kept in the record of a study.
        return json.loads(json.dumps(tables, default=str))
    # Numbers of thousands of digits are a `ValueError`, too.
    except (OSError, ValueError, RecursionError) as error:
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
            value = json.loads(json.dumps(tomllib.loads(f"value = {text}")["value"], default=str))
        except (ValueError, RecursionError):
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


def parse(tables: dict[str, Any], where: str = "") -> Study:
    """Makes a study of the tables of its file.

    Args:
        tables: The study as `read_file` gives it.
        where: What errors begin with, in place of the name of the study.

    Raises:
        RecipeError: If keys are unknown or missing, or values are not what they must be.
    """
    return parsed(Study, json.dumps(tables), where or f"the study {tables.get('name')!r}: ")
