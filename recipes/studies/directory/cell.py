import contextlib
import csv
import dataclasses
import functools
import hashlib
import io
import json
import runpy
import shlex
import sys
import traceback
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from running import files
from running.errors import RecipeError
from running.run_directory import release
from running.values import read_json

RECIPES = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a recipe.

    Its run directory, `cells/ID` in the directory of the study, says how far it is: the recipes'
    own `summary.json` is there when it is finished, and `--resume` goes on where it was killed.
    """

    experiment: str
    variant: str
    recipe: str
    backend: str
    options: dict[str, Any]

    @functools.cached_property
    def id(self) -> str:
        """A name that is the same for the same configuration, whatever study it is in."""
        what = json.dumps([self.recipe, self.backend, self.options], sort_keys=True)
        return hashlib.sha256(what.encode()).hexdigest()[:12]

    @property
    def arguments(self) -> list[str]:
        """The options as the recipe's command line takes them."""
        given = []
        for option, value in {"backend": self.backend, **self.options}.items():
            name = option.replace("_", "-")
            if isinstance(value, bool):
                given.append(f"--{name}" if value else f"--no-{name}")
            elif isinstance(value, list):
                given += [f"--{name}", *map(str, value)]
            else:
                given += [f"--{name}", str(value)]
        return given

    @property
    def command(self) -> str:
        """What does the same by itself."""
        return f"python recipes/{self.recipe}.py {shlex.join(self.arguments)}"

    def __str__(self):
        options = ", ".join(f"{name} {value}" for name, value in self.options.items())
        return f"{self.id} ({self.experiment}: {options})"

    # ---- What is on disk.

    def directory(self, study: Path) -> Path:
        return study / "cells" / self.id

    def log(self, study: Path) -> Path:
        """What it printed."""
        return study / "logs" / f"{self.id}.txt"

    def error(self, study: Path) -> str | None:
        """Why it failed, when it was last tried."""
        file = self._error_file(study)
        if not file.exists() or self.finished(study):
            return None
        return file.read_text(encoding="utf-8", errors="replace")

    def finished(self, study: Path) -> bool:
        return (self.directory(study) / "summary.json").exists()

    def status(self, study: Path) -> str:
        """`"finished"`, `"failed"`, `"stopped"`, or `"not run"`."""
        if self.finished(study):
            return "finished"
        if self.error(study) is not None:
            return "failed"
        return "stopped" if self.directory(study).exists() else "not run"

    def summary(self, study: Path) -> dict[str, Any]:
        """What the run found.

        Raises:
            RecipeError: If it is damaged.
        """
        file = self.directory(study) / "summary.json"
        remedy = "Remove its directory to run the cell again."
        return read_json(dict[str, JsonValue], file, remedy)

    def history(self, study: Path) -> list[dict[str, float]]:
        """The logs of each epoch; none for recipes that train more than one network.

        What was not logged, as epochs were not evaluated, is left out.
        """
        file = self.directory(study) / "history.csv"
        if not file.exists():
            return []
        with open(file, encoding="utf-8") as lines:
            return [
                {key: float(value) for key, value in row.items() if value}
                for row in csv.DictReader(lines)
            ]

    # ---- What it does.

    def check(self) -> None:
        """Reads the options as the recipe does.

        Raises:
            RecipeError: If the recipe does not take them, or needs what is not installed.
        """
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            message = self._run(["--check"])
        if message is not None:
            # What is in the box that tyro draws.
            text = output.getvalue().translate(str.maketrans("╭╮╰╯│─", " " * 6))
            said = " ".join((text or message).split())
            raise RecipeError(f"{self.recipe}.py cannot run {self}: {said}")

    def run(self, study: Path) -> None:
        """Runs the recipe, or goes on with it; what it prints goes to the log."""
        for folder in ("cells", "logs", "errors"):
            (study / folder).mkdir(parents=True, exist_ok=True)
        self._error_file(study).unlink(missing_ok=True)
        with (
            open(self.log(study), "a", encoding="utf-8", errors="backslashreplace") as log,
            contextlib.redirect_stdout(log),
            contextlib.redirect_stderr(log),
        ):
            message = self._run(["--run-dir", str(self.directory(study)), "--resume"])
            release(self.directory(study))
            if message is None and not self.finished(study):
                message = f"{self.recipe}.py ended without a result"
            if message is not None:
                print(message, file=sys.stderr)
        if message is not None:
            self.fail(study, " ".join(message.split()))

    def take_over(self, study: Path, summary: dict[str, Any], history: Any) -> None:
        """Takes what is known of it from elsewhere for a run of its own.

        Args:
            study: The directory of the study.
            summary: A few numbers.
            history: A table of its epochs, or `None`.
        """
        self.directory(study).mkdir(parents=True, exist_ok=True)
        if history is not None:
            # Without the activations of other networks.
            logs = history.drop(columns="cell").dropna(axis=1, how="all")
            files.write(self.directory(study) / "history.csv", logs.to_csv(index=False))
        files.write(self.directory(study) / "summary.json", json.dumps(summary, indent=2) + "\n")

    def fail(self, study: Path, message: str) -> None:
        """Notes why the cell failed."""
        files.write(self._error_file(study), message)

    def _error_file(self, study):
        return study / "errors" / f"{self.id}.txt"

    def _run(self, more):
        """Runs the recipe as `python` would, and returns what went wrong, or `None`."""
        argv, hook = sys.argv, sys.excepthook
        file = str(RECIPES / f"{self.recipe}.py")
        sys.argv = [file, *self.arguments, *more]
        try:
            runpy.run_path(file, run_name="__main__")
        except SystemExit as end:
            return None if end.code in (None, 0) else f"{self.recipe}.py refused its options"
        except RecipeError as error:
            return str(error)
        # Whatever it is, the other cells can do without this one.
        except Exception as error:
            traceback.print_exc()
            # Without notes, which backends add behind the message.
            return f"{type(error).__name__}: {error}"
        finally:
            sys.argv, sys.excepthook = argv, hook
        return None
