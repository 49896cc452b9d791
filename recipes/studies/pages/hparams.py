"""Runs side by side, in the HParams tab of TensorBoard."""

import shutil

import pandas as pd

from keras_nladv.events import EventWriter

# The numbers that the tab compares, and draws over the epochs: columns of the table, and names in
# the logs of an epoch.
METRICS = {
    "score": ("val_accuracy", "val_bleu"),
    "path_length": ("path_length",),
    "nonlinear_units": ("nonlinear_units",),
    "seconds": (),
}
# Columns that come before the options of a cell, and after them.
BEFORE, AFTER = "error", "command"


def write_hparams(cells, frame, directory):
    """Writes `tensorboard/` in the directory of a study, in place of what was there.

    Args:
        cells: List of the `Cell`s.
        frame: Their table.
        directory: That of the study.
    """
    folder = directory / "tensorboard"
    shutil.rmtree(folder, ignore_errors=True)
    histories = {cell.id: cell.history(directory) for cell in cells if cell.finished(directory)}
    columns = list(frame.columns)
    options = [
        *columns[columns.index(BEFORE) + 1 : columns.index(AFTER)],
        *(column for column in ("method", "budget") if column in columns),
    ]
    varying = [name for name in options if frame[name].nunique(dropna=False) > 1]
    for row in frame[frame["status"] == "finished"].to_dict("records"):
        mine = {name: row[name] for name in varying if pd.notna(row[name])}
        which = [row["variant"], row["cell"], mine.get("method"), mine.get("budget")]
        names = [row["experiment"], "-".join(str(name) for name in which if name)]
        path = folder.joinpath(*(name.replace("/", "_") for name in names))
        writer = EventWriter(path, 0)
        writer.write_hparams({"experiment": row["experiment"], "variant": row["variant"], **mine})
        history = histories[row["cell"]]
        for epoch, logs in enumerate(history):
            scalars = {
                metric: logs[key] * (100 if key == "val_accuracy" else 1)
                for metric, keys in METRICS.items()
                for key in keys
                if key in logs
            }
            writer.write(epoch, scalars, {}, {})
        found = {key: row[key] for key in METRICS if key in row and pd.notna(row[key])}
        writer.write(len(history), found, {}, {})
        writer.close()
