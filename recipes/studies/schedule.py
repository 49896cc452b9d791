"""In what order the cells of a study come."""

import collections
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import RecipeError

import keras_nladv
from studies.cell import Cell
from studies.definition import Experiment
from studies.filled_curve import FilledCurve


def carry_out(
    experiments: list[Experiment], backend: str, directory: Path, engine: Any
) -> Iterator[Cell]:
    """Has all cells run that are not finished.

    Args:
        experiments: Those whose cells they are.
        backend: The backend of its cells.
        directory: The directory of the study.
        engine: Takes cells with `submit(cell)`; `next()` waits until one has ended, and returns its
            id. `None` to run nothing: then a curve ends at its first cell that is not finished.

    Yields:
        Each cell when it has ended, first of all what is finished already.
    """
    queue: collections.deque[tuple[Cell, FilledCurve | None]] = collections.deque()
    for experiment in experiments:
        for cell in experiment.cells(backend):
            curve = FilledCurve(cell, experiment.fill) if experiment.fill else None
            queue.append((curve.next() if curve else cell, curve))
    # Experiments may have cells in common.
    waiting: dict[str, list[tuple[Cell, FilledCurve | None]]] = {}
    while queue or waiting:
        ended = []
        if not queue:
            ended = waiting.pop(engine.next())
        while queue:
            cell, curve = queue.popleft()
            if cell.finished(directory) or engine is None:
                ended.append((cell, curve))
            elif cell.id in waiting:
                waiting[cell.id].append((cell, curve))
            else:
                waiting[cell.id] = [(cell, curve)]
                engine.submit(cell)
        for cell, curve in ended:
            summary = finding(cell, directory)
            yield cell
            if curve and (summary or engine):
                curve.tell(summary)
                following = curve.next()
                if following:
                    queue.append((following, curve))


def finding(cell: Cell, directory: Path) -> dict[str, Any] | None:
    """The summary of a cell, `None` if it is not finished.

    Raises:
        RecipeError: If another version of the library made it.
    """
    if not cell.finished(directory):
        return None
    summary = cell.summary(directory)
    version = summary.get("versions", {}).get("keras_nladv")
    if version != keras_nladv.__version__:
        raise RecipeError(
            f"`{cell.directory(directory)}` was made by keras_nladv {version}, and this is "
            f"{keras_nladv.__version__}. Take another --study-dir, or remove what is old."
        )
    return summary
