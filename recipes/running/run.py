"""The run directory: what a run writes, and what it needs to go on after it was killed."""

import csv
import dataclasses
import hashlib
import importlib
import io
import json
import platform
from pathlib import Path
from typing import Annotated

import keras
import numpy as np
from pydantic import ConfigDict, Field, create_model

import keras_nladv
from running import files, workers
from running.errors import RecipeError
from running.run_directory import ANEW, checkpoint_file
from running.values import read_json


@dataclasses.dataclass
class Checkpoint:
    """A file of weights that is complete."""

    epochs: Annotated[int, Field(ge=1)]
    file: str
    sha256: str

    def __post_init__(self):
        if self.file != checkpoint_file(self.epochs):
            raise ValueError(f"must be {checkpoint_file(self.epochs)}. Received: {self.file!r:.60}")


@dataclasses.dataclass
class State:
    """What `state.json` holds."""

    checkpoints: list[Checkpoint]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    # The logs of each epoch.
    history: list[dict[str, int | float]]

    def __post_init__(self):
        if any(checkpoint.epochs > len(self.history) for checkpoint in self.checkpoints):
            raise ValueError("history has fewer epochs than checkpoints")


class Run:
    """A run directory.

    After each epoch, or every few, the state of the model and of its optimizer is saved: whenever
    the process is killed, the last that was can be gone on with. `state.json` names the checkpoints
    that are complete, with their digests, and holds the history up to there; it is replaced in one
    step, as all other files. Of several processes the first writes.

    Args:
        config: The configuration.
        start_epoch: `None`, or an integer. The state after so many epochs is kept for other runs
            to start from.
        save_every: Integer, the number of epochs from one state that is saved to the next, or 0 if
            none is.

    Attributes:
        path: Where it is.
        history: List of dicts, the logs of each epoch.
        seconds: Float. The time that these epochs took.
        checkpoints: List of dicts, the newest first.
    """

    def __init__(self, config, start_epoch=None, save_every=1):
        """Makes the directory, if it is not that of a run that is resumed."""
        self.path = Path(config.run_dir)
        self.config = config
        self.start_epoch = start_epoch
        self.save_every = save_every
        self.history, self.checkpoints, self.seconds = [], [], 0.0
        if not workers.rank():
            self.path.mkdir(parents=True, exist_ok=True)
        fields = dataclasses.asdict(config)
        kept = {name: value for name, value in fields.items() if name not in config.momentary}
        self.write_json("config.json", kept)

    def __str__(self):
        """What was run, and how long it took."""
        config = self.config
        return f"{config.backend}, seed {config.seed}, {self.epochs} epochs in {self.seconds:.0f} s"

    def options(self, *names):
        """Some options as they were used, for the summary."""
        return {name: getattr(self.config, name) for name in names}

    def introduce(self, **lines):
        """Prints what is run: lines, by what each is about."""
        lines["backend"] = f"{self.config.backend}, {self.config.precision}"
        lines["output"] = self.path
        print("".join(f"{name:9}{line}\n" for name, line in lines.items()))

    def finish(self, report, summary):
        """Prints and writes the report, and writes the summary: then the run is finished."""
        self.write("report.txt", report)
        self.write_json("summary.json", {**summary, "versions": versions()})
        print(f"\n{report}")

    @property
    def epochs(self):
        """Number of epochs that the model has gone through."""
        return len(self.history)

    def write(self, name, data):
        """Writes a text file, so that it is there as a whole or not at all."""
        if not workers.rank():
            files.write(self.path / name, data)

    def save(self, name, save):
        """Lets `save(path)` write a file, so that it is there as a whole or not at all."""
        if not workers.rank():
            files.save(self.path / name, save)

    def write_json(self, name, value):
        self.write(name, json.dumps(value, indent=2) + "\n")

    def write_csv(self, name, rows):
        """Writes dicts as a table. A cell is empty where a dict lacks what another one has."""
        text = io.StringIO()
        if rows:
            columns = dict.fromkeys(column for row in rows for column in row)
            writer = csv.DictWriter(text, [*columns], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        self.write(name, text.getvalue())

    def read_points(self, **kinds):
        """The rows of `points.json`, which a recipe that trains several networks goes on from.

        Args:
            **kinds: What each row has, and of which type; a pair with a default where some have it.

        Raises:
            RecipeError: If the file is damaged.
        """
        file = self.path / "points.json"
        if not file.exists():
            return []
        fields = {
            name: kind if isinstance(kind, tuple) else (kind, ...) for name, kind in kinds.items()
        }
        point = create_model("Point", __config__=ConfigDict(extra="allow"), **fields)
        return [row.model_dump(exclude_unset=True) for row in read_json(list[point], file, ANEW)]

    def commit(self, model, logs, seconds):
        """Keeps the logs of an epoch, and saves the state of the model if it is time."""
        self.history.append(logs)
        self.seconds = seconds
        is_time = self.epochs == self.start_epoch or self.epochs % (self.save_every or 1) == 0
        if self.save_every and is_time and not workers.rank():
            self._save(model)
        self.write_history()

    def _save(self, model):
        (self.path / "checkpoints").mkdir(exist_ok=True)
        name = checkpoint_file(self.epochs)
        self.save(name, model.save_weights)
        self.checkpoints.insert(
            0, {"epochs": self.epochs, "file": name, "sha256": _digest(self.path / name)}
        )
        # One more than needed, should the newest be damaged.
        self.checkpoints[2:] = [c for c in self.checkpoints[2:] if c["epochs"] == self.start_epoch]
        self.write_json(
            "state.json",
            {"checkpoints": self.checkpoints, "seconds": self.seconds, "history": self.history},
        )
        kept = [self.path / checkpoint["file"] for checkpoint in self.checkpoints]
        for file in (self.path / "checkpoints").iterdir():
            if file not in kept:
                file.unlink()

    def write_history(self):
        rows = [{"epoch": i, **logs} for i, logs in enumerate(self.history, start=1)]
        self.write_csv("history.csv", rows)

    def restore(self, model, trained=None):
        """Takes a compiled model back to the last epoch that was committed, if there is one.

        Args:
            model: The model.
            trained: `None`, or the directory of another run. If no epoch was committed, it is that
                run's state after `start_epoch` epochs that is gone on with.

        Raises:
            RecipeError: If the state is damaged.
        """
        path, own = self.path, (self.path / "state.json").exists()
        if trained is not None and not own:
            path = Path(trained)
        try:
            state = read_json(State, path / "state.json", ANEW)
        except FileNotFoundError:
            return
        checkpoints, history = [vars(each) for each in state.checkpoints], state.history
        if not own:
            checkpoints = [c for c in checkpoints if c["epochs"] == self.start_epoch]
        while checkpoints and not _intact(path, checkpoints[0]):
            print(f"`{path / checkpoints.pop(0)['file']}` is damaged; trying the one before.")
        if not checkpoints:
            raise RecipeError(f"No checkpoint in {path} is intact. {ANEW}")
        model.optimizer.build(model.trainable_variables)
        model.load_weights(path / checkpoints[0]["file"])
        if own:
            self.checkpoints = checkpoints
        self.history = history[: checkpoints[0]["epochs"]]
        self.seconds = state.seconds * self.epochs / len(history)
        self.write_history()


def _intact(path, checkpoint):
    file = path / checkpoint["file"]
    return file.exists() and _digest(file) == checkpoint["sha256"]


def _digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def versions():
    """What a run ran with."""
    backend = keras.backend.backend()
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "keras_nladv": keras_nladv.__version__,
        backend: importlib.import_module(backend).__version__,
        "numpy": np.__version__,
    }
