import itertools

import numpy as np

from studies.planning.definition import Experiment
from studies.statistics.significance import seeds_needed


class Pilot:
    """Computes the number of seeds of an experiment from the gaps that its first seeds show.

    Three seeds may happen to lie close together. So it is computed again when as many are there,
    and more are run if their spread is wider. That depends on the spread alone: a study that went
    on until a gap is told from 0 would find one where there is none.

    Gaps are those between the first two variants, or methods of `compress.py`, at the same target.
    As it follows from them alone, a study that was stopped finds it again from what is on disk.

    Args:
        experiment: An `Experiment` with `seeds`.
        backend: The backend of its cells.
    """

    def __init__(self, experiment: Experiment, backend: str):
        self.experiment, self.backend = experiment, backend
        self.seeds = experiment.seeds.pilot
        self.cells = {cell.id for cell in experiment.cells(backend)}
        self.scores = {}

    def tell(self, cell, rows):
        """Takes what a cell found.

        Args:
            cell: A `Cell` that has ended.
            rows: The rows of its table, none if it failed.
        """
        self.scores[cell.id] = [
            ((row["variant"], row.get("method")), row["seed"], row.get("target"), row["score"])
            for row in rows
            if row.get("score") is not None
        ]

    @property
    def through(self) -> bool:
        return self.cells <= self.scores.keys()

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the gap, over seeds, of all targets together; `None` if no
        target was met with two seeds."""
        scores = list(itertools.chain.from_iterable(self.scores[cell] for cell in self.cells))
        kinds = list(dict.fromkeys(kind for kind, *_ in scores))[:2]
        gaps: dict = {}
        of = {(kind, seed, target): score for kind, seed, target, score in scores}
        for (kind, seed, target), score in of.items():
            other = of.get((kinds[-1], seed, target))
            if kind == kinds[0] and kind != kinds[-1] and other is not None:
                gaps.setdefault(target, []).append(other - score)
        variances = [np.var(each, ddof=1) for each in gaps.values() if len(each) > 1]
        return float(np.sqrt(np.mean(variances))) if variances else None

    def more(self):
        """The cells that are needed beyond those that there are, which must be through."""
        limits, wanted = self.experiment.seeds, self.experiment.seeds.least
        if self.deviation is not None:
            wanted = min(max(seeds_needed(self.deviation, most=limits.most), wanted), limits.most)
        cells = self.experiment.cells(self.backend, range(self.seeds, wanted))
        self.seeds = max(self.seeds, wanted)
        self.cells |= {cell.id for cell in cells}
        return cells
