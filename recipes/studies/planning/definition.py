"""A study as its file says it."""

import dataclasses
import itertools
import json
import math
import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, JsonValue

from options.run_config import RunConfig
from running.errors import RecipeError
from running.values import EXACT, parsed
from studies.directory.cell import Cell

FOLDER = Path(__file__).parents[1] / "definitions"
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
class Ladder:
    """Targets of the pressure that all variants share."""

    # The option.
    option: Literal["target_path_length", "target_nonlinear_units"]
    # Its values.
    targets: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]

    __pydantic_config__: ClassVar = EXACT

    def __post_init__(self):
        if len(set(self.targets)) < len(self.targets):
            raise ValueError(f"targets must name each value once. Received: {self.targets}")
        if self.option == "target_nonlinear_units" and max(self.targets) >= 1:
            raise ValueError(
                "targets of target_nonlinear_units are shares of the units that the network has, "
                f"and so they must be less than 1. Received: {self.targets}"
            )


@dataclasses.dataclass(frozen=True)
class Seeds:
    """How many seeds an experiment has: as many as it takes to find a gap of one point.

    That is computed from the gaps of a pilot, the first of them.
    """

    # The number of seeds that it is computed from.
    pilot: Annotated[int, Field(ge=2, le=MOST)]
    # The limits of what comes out.
    least: Annotated[int, Field(ge=2, le=MOST)] = 5
    most: Annotated[int, Field(ge=2, le=MOST)] = 10

    __pydantic_config__: ClassVar = EXACT

    def __post_init__(self):
        if not self.pilot <= self.least <= self.most:
            raise ValueError(
                "pilot must be at most least, and least at most most. Received: "
                f"{self.pilot}, {self.least} and {self.most}"
            )


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Runs of one recipe: each variant with each point of the grid, and each filled value."""

    name: str
    recipe: Literal["cifar", "compress", "translation"]
    # So many seeds of those of rank 0 come before its first one.
    rank: Annotated[int, Field(ge=0, le=MOST)] = 0
    options: Options = dataclasses.field(default_factory=dict)
    grid: dict[Option, Annotated[list[Value], Field(min_length=1)]] = dataclasses.field(
        default_factory=dict
    )
    # Named options, which go together: `{"late": {"start_epoch": 10}, ...}`.
    variants: Annotated[dict[str, Options], Field(min_length=1)] = dataclasses.field(
        default_factory=lambda: {"": {}}
    )
    fill: Fill | None = None
    ladder: Ladder | None = None
    seeds: Seeds | None = None

    __pydantic_config__: ClassVar = EXACT

    def __post_init__(self):
        given = {*self.options, *self.grid}.union(*self.variants.values())
        for what, option in (
            ("filled", self.fill and self.fill.option),
            ("that of the ladder", self.ladder and self.ladder.option),
            ("decided by seeds", self.seeds and "seed"),
        ):
            if option in given:
                raise ValueError(f"{option} is {what}, and so it must not be given")
        if self.ladder and self.recipe == "compress":
            raise ValueError("ladder is none of compress, whose targets are its budgets")
        if self.recipe == "translation" and self.ladder_of_lengths:
            raise ValueError(
                "ladder of target_path_length is one of cifar; translation takes one of "
                "target_nonlinear_units"
            )
        if self.seeds and self.fill:
            raise ValueError("seeds need a ladder in place of fill: gaps at the same targets")
        if self.seeds and self.recipe != "compress" and len(self.variants) < 2:
            raise ValueError(
                "seeds need a pilot of at least two variants, between which there are gaps. "
                f"Received: {list(self.variants)}"
            )

    @property
    def ladder_of_lengths(self) -> bool:
        """Whether its targets are path lengths."""
        return self.ladder is not None and self.ladder.option == "target_path_length"

    @property
    def most(self) -> int:
        """The number of its cells at most."""
        curves = math.prod(map(len, self.grid.values())) * len(self.variants)
        curves *= len(self.ladder.targets) if self.ladder else 1
        return (
            curves * (self.seeds.most if self.seeds else 1) * (self.fill.cells if self.fill else 1)
        )

    def cells(self, backend: str, seeds: Iterable[int] | None = None) -> list[Cell]:
        """The cells of the grid: all, or of each curve that is to be filled the beginning.

        Args:
            backend: The backend.
            seeds: Those of an experiment that has `seeds`, by default those of its pilot.
        """
        grid = dict(self.grid)
        if self.seeds:
            grid = {"seed": list(range(self.seeds.pilot) if seeds is None else seeds), **grid}
        if self.ladder:
            grid[self.ladder.option] = self.ladder.targets
        points = itertools.product(*grid.values())
        return [
            Cell(
                self.name,
                variant,
                self.recipe,
                backend,
                {**self.options, **dict(zip(grid, point)), **options},
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
    # For how many minutes cells are begun, if the command line does not say.
    stop_after: Annotated[float, Field(gt=0)] | None = None

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


# Keys that are no options of recipes, but of a part of an experiment.
PARTS = {
    field.name: part
    for part, kind in {"fill": Fill, "ladder": Ladder, "seeds": Seeds}.items()
    for field in dataclasses.fields(kind)
    if field.name != "option"
}


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
            part = PARTS.get(option)
            if part in experiment:
                experiment[part][option] = value
                continue
            if option == "seed":
                experiment.pop("seeds", None)
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
