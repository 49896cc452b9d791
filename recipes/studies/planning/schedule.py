"""In what order the cells of a study come."""

import dataclasses
import heapq
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from studies.directory import results
from studies.directory.cell import Cell
from studies.planning.definition import Experiment
from studies.planning.filled_curve import FilledCurve
from studies.planning.pilot import Pilot


@dataclasses.dataclass(order=True)
class Turn:
    """When a cell comes: with its seed, the first one first, and then as in the file."""

    # The number of its seed, and of those that others have before the first one.
    seed: int
    number: int
    cell: Cell = dataclasses.field(compare=False)
    curve: FilledCurve | None = dataclasses.field(compare=False)
    pilot: Pilot | None = dataclasses.field(compare=False)


def carry_out(
    experiments: list[Experiment],
    backend: str,
    directory: Path,
    engine: Any,
    known: Mapping[str, tuple[dict[str, Any], Any]] | None = None,
    may_begin: Callable[[Cell], bool] = lambda cell: True,
) -> Iterator[Cell]:
    """Has all cells run that are not finished.

    The first seed of all experiments of rank 0 comes first, then the second, and so on, and others
    beside them from the seed on that is their rank: a study that is broken off has something to say
    of each.

    Args:
        experiments: Those whose cells they are.
        backend: The backend of its cells.
        directory: The directory of the study.
        engine: Takes cells with `submit(cell)` while it is `free`; `next()` waits until one has
            ended, and returns its id. `None` to run nothing: then a curve ends at its first cell
            that is not finished, and seeds with those of the pilot if that is not.
        known: Summaries and epochs, by ids of cells, that need not be run.
        may_begin: Function of a cell, whether there is time for it. Those for which there is none
            are left out.

    Yields:
        Each cell when it has ended.
    """
    known = known or {}
    queue: list[Turn] = []
    numbers = itertools.count()

    def add(experiment, cells, pilot):
        seeds: dict[Any, int] = {}
        for cell in cells:
            seed = cell.options.get("seed", 0)
            if experiment.seeds is None:
                # In the order of the grid, whatever these are.
                seed = seeds.setdefault(seed, len(seeds))
            curve = FilledCurve(cell, experiment.fill) if experiment.fill else None
            cell = curve.next() if curve else cell
            turn = Turn(experiment.rank + seed, next(numbers), cell, curve, pilot)
            heapq.heappush(queue, turn)

    for experiment in experiments:
        pilot = Pilot(experiment, backend) if experiment.seeds else None
        add(experiment, experiment.cells(backend), pilot)
    # Experiments may have cells in common.
    waiting: dict[str, list[Turn]] = {}
    while queue or waiting:
        ended = []
        while queue and (engine is None or engine.free):
            turn = heapq.heappop(queue)
            cell = turn.cell
            if engine and cell.id in known and not cell.finished(directory):
                cell.take_over(directory, *known[cell.id])
            if cell.id in waiting:
                waiting[cell.id].append(turn)
            elif cell.finished(directory) or engine is None or not may_begin(cell):
                ended.append(turn)
                break
            else:
                waiting[cell.id] = [turn]
                engine.submit(cell)
        if not ended:
            ended = waiting.pop(engine.next())
        for turn in ended:
            cell, curve, pilot = turn.cell, turn.curve, turn.pilot
            tried = cell.finished(directory) or cell.error(directory) is not None
            summary = results.finding(cell, directory)
            yield cell
            if curve and (summary or (engine and tried)):
                curve.tell(summary)
                following = curve.next()
                if following:
                    heapq.heappush(
                        queue, dataclasses.replace(turn, number=next(numbers), cell=following)
                    )
            if pilot and tried and not pilot.through:
                pilot.tell(cell, results.rows(cell, directory))
                if pilot.through:
                    add(pilot.experiment, pilot.more(), pilot)


class Clock:
    """Says whether there is time for another cell.

    Args:
        directory: The directory of the study.
        minutes: Float. How long cells may be begun from now on; one that will take longer than is
            left, as others of its experiment did, is not.
    """

    def __init__(self, directory, minutes):
        self.directory, self.end = directory, time.monotonic() + 60 * minutes
        self.longest: dict[tuple[str, str], float] = {}

    def may_begin(self, cell):
        took = self.longest.get((cell.experiment, cell.variant), 0.0)
        return time.monotonic() + took < self.end

    def tell(self, cell):
        """Takes a cell that has ended."""
        key = cell.experiment, cell.variant
        seconds = (results.finding(cell, self.directory) or {}).get("seconds") or 0.0
        self.longest[key] = max(self.longest.get(key, 0.0), seconds)
