"""What every recipe does with its arguments before Keras is imported."""

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import TypeVar

import tyro
from pydantic import JsonValue

from options.backends import choose_backend
from options.run_config import RunConfig
from running import workers
from running.errors import RecipeError, show_errors_plainly
from running.files import PARTIAL
from running.run_directory import ANEW, LOCK, checkpoint_file, claim
from running.values import parsed, read_json

Config = TypeVar("Config", bound=RunConfig)


def read_config(kind: type[Config]) -> Config:
    """Reads the arguments of the command line, and those of the run that is to be gone on with.

    From here on errors that the user can mend end the recipe with one line.

    Args:
        kind: The dataclass of the recipe.

    Returns:
        The configuration. Its backend is known, and is what `import keras` will give.

    Raises:
        RecipeError: If values are out of their limits, if the backend or a package cannot be had,
            if a run directory holds something else, or if the run that is to be gone on with has
            another configuration.
        SystemExit: If the run that is to be gone on with has ended: its report is shown.
    """
    show_errors_plainly()
    if workers.rank():
        # As the first process has read it.
        return parsed(kind, workers.told())
    config = _read(kind)
    config.backend = choose_backend(config.backend)
    config.require_packages()
    if config.needs_run == "--resume" and not config.check:
        _show_if_finished(Path(config.run_dir))
    return config


def begin(config: RunConfig, name: str) -> None:
    """Makes the run directory, which no other run then uses; or ends, if this is a check.

    Devices of torch get processes of their own here.

    It comes when all is known to be right, and before Keras is imported.

    Args:
        config: The configuration.
        name: That of the recipe.

    Raises:
        RecipeError: If the directory cannot be made, or if another process uses it.
        SystemExit: If the arguments were only to be checked.
    """
    if workers.rank():
        return
    if config.check:
        sys.exit()
    if config.run_dir is None:
        config.run_dir = time.strftime(f"runs/{name}-%Y%m%d-%H%M%S")
    claim(Path(config.run_dir), "--run-dir")
    if config.backend == "torch" and config.devices > 1:
        workers.start(config.devices, json.dumps(dataclasses.asdict(config)))


def _command_line(kind, default=None):
    config = tyro.cli(kind, default=default)
    return parsed(kind, json.dumps(vars(config)), options=True)


def _read(kind):
    """The configuration, but for the backend."""
    config = _command_line(kind)
    if config.run_dir is not None:
        path = Path(config.run_dir)
        file = path / "config.json"
        # Names that the system does not take are said later, when the directory cannot be made.
        if os.path.exists(file):
            if not config.needs_run:
                raise RecipeError(
                    f"--run-dir {path} holds a run already. Add --resume to go on with it, or "
                    "choose another directory."
                )
            return _as_in(file, kind, config, kind.momentary)
        # A run that was killed early may have left parts of files.
        if os.path.exists(path) and not (
            path.is_dir() and all(p.name.startswith((LOCK, PARTIAL)) for p in path.iterdir())
        ):
            raise RecipeError(
                f"--run-dir {path} is neither empty nor the directory of a run. Choose another."
            )
        if config.resume:
            print(f"{path} holds no run yet: starting from the beginning.")
    elif config.needs_run:
        raise RecipeError(f"{config.needs_run} needs the directory of the run: add --run-dir DIR.")
    trained = getattr(config, "trained", None)
    if trained is not None:
        file = Path(trained, "config.json")
        if not os.path.exists(file):
            raise RecipeError(f"--trained needs the directory of a run. {trained} holds none.")
        free = [*kind.momentary, *kind.later]
        wanted = config
        config = _as_in(file, kind, wanted, free)
        if config.schedule == "one":
            # There the learning rate has been what it is with so many epochs.
            free.remove("epochs")
            config = _as_in(file, kind, wanted, free)
        if not (file.parent / checkpoint_file(config.start_epoch or 0)).exists():
            raise RecipeError(
                f"--trained {trained} holds no network to start from: it has not gone through the "
                f"{config.start_epoch} epochs before its linearization, or has kept no checkpoints "
                "(--save-every 0)."
            )
    return config


def _show_if_finished(path):
    if (path / "summary.json").exists():
        report = (path / "report.txt").read_text(encoding="utf-8", errors="replace")
        print(f"The run is finished already.\n\n{report}")
        sys.exit()


def _as_in(file, kind, config, free):
    """Reads the arguments once more: what they do not say is as in the configuration in a file.

    Options that are `free` may differ from it.
    """
    fields = {field.name for field in dataclasses.fields(kind)}
    stored = read_json(dict[str, JsonValue], file, ANEW)
    if stored.keys() | {*kind.momentary} != fields:
        raise RecipeError(f"`{file}` is that of another recipe or version. {ANEW}")
    stored = vars(parsed(kind, json.dumps(stored), f"`{file}` is damaged: "))
    stored |= {name: getattr(config, name) for name in free}
    config = _command_line(kind, default=kind(**stored))
    differing = []
    for name, value in stored.items():
        given = getattr(config, name)
        if given in (None, "auto"):
            setattr(config, name, value)
        elif given != value and name not in free:
            differing.append(f"{name} (there {value!r}, now {given!r})")
    if differing:
        raise RecipeError(
            f"{file.parent} is the directory of a run with another configuration: "
            f"{', '.join(differing)}. Leave these options out to go on with that run, or choose "
            "another directory."
        )
    return config
