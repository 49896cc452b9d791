"""The table of all results of a study."""

import json

import pandas as pd

from studies.schedule import finding

# What is compared: for each recipe, the entry of its summary, by how much it is multiplied, and
# what it is called.
SCORES = {
    "cifar": ("accuracy_after", 100, "accuracy in %"),
    "compress": ("accuracy", 100, "accuracy in %"),
    "translation": ("bleu_after", 1, "BLEU"),
}


def table(cells, directory):
    """Makes the table, with a row for each cell, or for each result of a cell that has several.

    Args:
        cells: List of `Cell`s.
        directory: That of the study.

    Returns:
        A `pandas.DataFrame`: what the cell is, its options, and the numbers and texts of its
        summary; `score` is what claims compare.
    """
    rows = []
    for cell in cells:
        summary = finding(cell, directory) or {}
        results = summary.pop("rows", [{}])
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
        for result in results:
            found = {key: _plain(value) for key, value in {**summary, **result}.items()}
            key, factor, name = SCORES[cell.recipe]
            if found.get(key) is not None:
                found |= {"score": factor * found[key], "score_name": name}
            # Options come first: a summary repeats some of them.
            rows.append({**found, **about})
    first = dict.fromkeys([*about, "score", "score_name", "path_length", "path_length_before"])
    frame = pd.DataFrame(rows)
    for name in frame:
        # Integers that some rows lack shall not become floats.
        if all(type(row[name]) is int for row in rows if row.get(name) is not None):
            frame[name] = frame[name].astype("Int64")
    return frame.reindex(columns=[*first, *(c for c in frame.columns if c not in first)])


def write(frame, directory):
    """Writes `results.csv` and `results.parquet`."""
    frame.to_csv(directory / "results.csv", index=False)
    frame.to_parquet(directory / "results.parquet", index=False)


def histories(cells, directory):
    """The logs of all epochs of all finished cells that have such.

    Returns:
        A `pandas.DataFrame` with a row for each epoch: the id of the `cell`, the logs, and
        `units/NAME`, the number of units of each activation.
    """
    finished = {cell.id: cell for cell in cells if cell.finished(directory)}
    rows = []
    for cell in finished.values():
        layers = cell.summary(directory).get("per_layer", [])
        units = {f"units/{layer['name']}": layer["units"] for layer in layers}
        rows += [{"cell": cell.id, **logs, **units} for logs in cell.history(directory)]
    return pd.DataFrame(rows, columns=None if rows else ["cell"])


def _plain(value):
    """What fits into a cell of a table."""
    if isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(each, dict) for each in value)
    ):
        return None
    return json.dumps(value) if isinstance(value, list) else value
