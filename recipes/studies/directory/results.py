"""The table of all results of a study."""

import json
import sys
from pathlib import Path

import pandas as pd

from running.errors import RecipeError

# What is compared: for each recipe, the entry of its summary, that of before linearization, by how
# much they are multiplied, and what they are called.
SCORES = {
    "cifar": ("accuracy_after", "accuracy_before", 100, "accuracy in %"),
    "compress": ("accuracy", None, 100, "accuracy in %"),
    "translation": ("bleu_after", "bleu_before", 1, "BLEU"),
}
# What pressure is to come to, of the options of a cell and of the rows of `compress.py`.
TARGETS = ("target_path_length", "target_nonlinear_units", "budget")
# The versions of the library whose cells come out alike, this one among them. One that trains in
# another way stands here alone.
ALIKE = ("0.1.0", "0.2.0")
# What claims were judged by, a row for each epoch.
EPOCHS = "epochs.csv"
# The columns of what is kept of a study to go on with it elsewhere.
KEPT = ("cell", "experiment", "variant", "seed", "target", "score", "versions")
NUMBERS = (
    *("method", "budget", "accuracy_before", "accuracy_after", "accuracy", "bleu_before"),
    *("bleu_after", "reached", "path_length", "path_length_before", "nonlinear_units"),
    *("parameters", "macs", "nonlinear_operations", "seconds"),
)


def finding(cell, directory):
    """The summary of a cell, `None` if it is not finished.

    Raises:
        RecipeError: If a version of the library made it that trains in another way.
    """
    if not cell.finished(directory):
        return None
    summary = cell.summary(directory)
    version = summary.get("versions", {}).get("keras_nladv")
    if version not in ALIKE:
        raise RecipeError(
            f"`{cell.directory(directory)}` was made by keras_nladv {version}, and only cells of "
            f"{' and '.join(ALIKE)} are comparable here. Take another --study-dir, or remove what "
            "is old."
        )
    return summary


def rows(cell, directory):
    """The rows of a cell in the table: one, or one for each result of a cell that has several.

    Returns:
        List of dicts: what the cell is, its options, and the numbers and texts of its summary;
        `score` is what claims compare, `target` what the pressure was to come to.
    """
    summary = finding(cell, directory) or {}
    about = {
        "experiment": cell.experiment,
        "variant": cell.variant,
        "cell": cell.id,
        "recipe": cell.recipe,
        "status": cell.status(directory),
        "error": cell.error(directory),
        **{key: _plain(value) for key, value in cell.options.items()},
        "command": cell.command,
        "versions": ", ".join(f"{k} {v}" for k, v in summary.get("versions", {}).items()),
    }
    found = []
    for result in summary.pop("rows", [{}]):
        row = {key: _plain(value) for key, value in {**summary, **result}.items()}
        after, before, factor, name = SCORES[cell.recipe]
        if row.get(after) is not None:
            row |= {"score": factor * row[after], "score_name": name}
        if row.get(before) is not None:
            row["score_before"] = factor * row[before]
        # Options come first: a summary repeats some of them.
        row |= about
        # Pressure that stays on to the end has none, or 0.
        row["target"] = next((row[key] for key in TARGETS if row.get(key)), None)
        found.append(row)
    return found


def table(cells, directory):
    """Makes the table, a `pandas.DataFrame`, with the `rows` of all cells."""
    found = [row for cell in cells for row in rows(cell, directory)]
    options = [key for cell in cells for key in cell.options]
    first = dict.fromkeys(
        [
            *("experiment", "variant", "cell", "recipe", "status", "error", *options, "command"),
            *("versions", "score", "score_name", "score_before", "target"),
            *("path_length", "path_length_before"),
        ]
    )
    frame = pd.DataFrame(found)
    for name in frame:
        # Integers that some rows lack shall not become floats.
        if all(type(row[name]) is int for row in found if row.get(name) is not None):
            frame[name] = frame[name].astype("Int64")
    return frame.reindex(columns=[*first, *(c for c in frame.columns if c not in first)])


def write(frame, directory):
    """Writes `results.csv`, `results.parquet`, and `cells.csv`, which `known` reads."""
    frame.to_csv(directory / "results.csv", index=False)
    frame.to_parquet(directory / "results.parquet", index=False)
    finished = frame[frame["status"] == "finished"]
    kept = [name for name in (*KEPT, *NUMBERS) if name in finished and finished[name].notna().any()]
    finished[kept].drop_duplicates().to_csv(directory / "cells.csv", index=False)


def write_epochs(epochs, directory):
    """Writes `epochs.csv`, with what claims were judged by, which `known` reads beside `cells.csv`.

    Args:
        epochs: `histories` of these cells.
        directory: That of the study.
    """
    epochs = epochs.dropna(axis=1, how="all")
    epochs.to_csv(directory / EPOCHS, index=False, float_format="%.6g")


def known(file):
    """What `cells.csv` of another directory says of cells, and `epochs.csv` beside it.

    Args:
        file: The path of `cells.csv`.

    Returns:
        Dict from ids of cells to their summaries, of which there is what the table keeps, and to
        tables of their epochs, `None` where these are not there. Cells of versions of the library
        that are not `ALIKE` are left out, and it is said. The backend is part of an id.

    Raises:
        RecipeError: If they are no such files.
    """
    frame = _read(file, "cell", "score", "path_length", "versions")
    epochs = Path(file).with_name(EPOCHS)
    histories = {}
    if epochs.exists():
        histories = dict(iter(_read(epochs, "cell").groupby("cell")))
    found, others = {}, []
    for name, mine in frame.groupby("cell", sort=False):
        versions = dict(
            each.rsplit(" ", 1) for each in str(mine["versions"].iloc[0]).split(", ") if " " in each
        )
        if versions.get("keras_nladv") not in ALIKE:
            others.append(versions.get("keras_nladv"))
            continue
        results = [
            {key: value for key, value in row.items() if key in NUMBERS and pd.notna(value)}
            for row in mine.to_dict("records")
        ]
        summary = {"rows": results, **results[0]} if "method" in results[0] else results[0]
        summary = {**summary, "versions": versions, "known": str(file)}
        found[str(name)] = summary, histories.get(name)
    if others:
        print(
            f"--known {file}: {len(others)} cells are not taken, since keras_nladv "
            f"{', '.join(sorted(map(str, set(others))))} made them, and only those of "
            f"{' and '.join(ALIKE)} are comparable here.",
            file=sys.stderr,
        )
    return found


def histories(cells, directory):
    """The logs of all epochs of all finished cells that have such.

    Returns:
        A `pandas.DataFrame` with a row for each epoch: the id of the `cell`, the logs, and
        `units/NAME`, the number of units of each activation.
    """
    finished = {cell.id: cell for cell in cells if cell.finished(directory)}
    found = []
    for cell in finished.values():
        layers = cell.summary(directory).get("per_layer", [])
        units = {f"units/{layer['name']}": layer["units"] for layer in layers}
        found += [{"cell": cell.id, **logs, **units} for logs in cell.history(directory)]
    return pd.DataFrame(found, columns=None if found else ["cell"])


def _read(file, *needed):
    """Reads a table that another study has written."""
    try:
        frame = pd.read_csv(file, dtype={"cell": str})
    # The reader of tables raises whatever it comes upon.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RecipeError(f"--known {file}: it cannot be read as CSV ({reason}).") from error
    if missing := [name for name in needed if name not in frame]:
        raise RecipeError(
            f"--known {file} must be the {Path(file).name} of a study. It lacks: "
            f"{', '.join(missing)}."
        )
    return frame


def _plain(value):
    """What fits into a cell of a table."""
    if isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(each, dict) for each in value)
    ):
        return None
    return json.dumps(value) if isinstance(value, list) else value
