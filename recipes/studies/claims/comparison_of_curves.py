import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from studies.claims.finding import (
    COLORS,
    Finding,
    draw_curves,
    draw_differences,
    missing_seeds,
    number,
    panels,
    verdict,
)
from studies.statistics.comparison import curves, gaps, gaps_at_targets, ladders, points
from studies.statistics.significance import holm
from studies.statistics.spread import LEVEL, Spread


@dataclasses.dataclass(frozen=True)
class Difference:
    """By how much one kind of runs of an experiment is above another, at equal path length."""

    experiment: str
    name: str
    other: str
    # The mean over targets, or over path lengths.
    gap: Spread
    # That at each target; none for curves.
    at: dict[float, Spread]
    # What it is the mean of, in words.
    where: str

    def __str__(self):
        return f"{self.name} - {self.other} on {self.experiment}"


@dataclasses.dataclass
class ComparisonOfCurves:
    """Some runs have higher scores than others at equal path length: at the same targets, or
    between the points of curves where pressure has none.

    Subclasses say what is compared.

    Args:
        experiments: Names of experiments; the first matters most.
        reasons: Dict from those of them that test why a claim may fail to what is different there.
            They do not count for the verdict.
    """

    experiments: list[str]
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)

    title = claim = ""

    def kinds(self, results, experiment) -> dict[str, Any]:
        """Dict from what runs are called to their part of the table."""
        raise NotImplementedError  # Each comparison has its own.

    def pairs(self):
        """What is said to be above what."""
        raise NotImplementedError  # Each comparison has its own.

    def differences(self, results):
        """A list with a `Difference` for each experiment and each pair of which there are runs."""
        found, compared = [], []
        for experiment in dict.fromkeys([*self.experiments, *self.reasons]):
            kinds = self.kinds(results, experiment)
            for name, other in self.pairs():
                first, second = kinds.get(name), kinds.get(other)
                if first is None or second is None:
                    continue
                # Experiments may have cells in common: what is compared twice counts once.
                cells = {(name, other, cell) for cell in (*first["cell"], *second["cell"])}
                if any(cells <= earlier for earlier in compared):
                    continue
                compared.append(cells)
                gap, at = gaps_at_targets(ladders(first), ladders(second))
                where = f"mean of {len(at)}" if len(at) > 1 else "".join(f"{x:g}" for x in at)
                if gap is None:
                    gap, (low, high) = gaps(curves(first), curves(second))
                    where = f"curves, {low:.2f} to {high:.2f}"
                if gap:
                    found.append(Difference(experiment, name, other, gap, at, where))
        return found

    def find(self, results):
        finding = Finding(self.title, self.claim)
        differences = self.differences(results)
        judged = [each for each in differences if each.experiment not in self.reasons]
        if not judged:
            return finding
        finding.verdict = verdict([each.gap for each in judged])
        finding.number = number(judged[0].gap)
        corrected = dict(zip(map(str, judged), holm([each.gap.p for each in judged])))
        finding.sentences = [_sentence(each, corrected[str(each)]) for each in judged]
        finding.sentences += missing_seeds({str(each): each.gap for each in judged})
        finding.sentences += [
            f"Tested as a reason: {self.reasons[each.experiment]}. There {_sentence(each)}"
            for each in differences
            if each.experiment in self.reasons
        ]
        finding.table = _table(differences, corrected)
        # Where each seed has one point there is no curve: the difference says it all.
        kinds = {each.experiment: self.kinds(results, each.experiment) for each in differences}
        lines = {
            experiment: {name: points(rows) or curves(rows) for name, rows in mine.items()}
            for experiment, mine in kinds.items()
        }
        drawn = [
            experiment
            for experiment, mine in lines.items()
            if any(len(x) > 1 for found in mine.values() for x, _ in found.values())
        ]
        finding.figure, [first, *others] = panels(
            1 + len(drawn), "average path length", height=max(3.6, 0.25 * len(differences))
        )
        draw_differences(first, {str(each): each.gap for each in differences})
        for axes, experiment in zip(others, drawn):
            axes.set_title(experiment)
            axes.set_ylabel(f"test {results.score_name(experiment)}")
            for color, (name, found) in zip(COLORS, lines[experiment].items()):
                if found:
                    draw_curves(axes, found, color, name)
            axes.legend(loc="lower right")
        return finding


def _sentence(difference, p=None):
    name, other, gap = difference.name, difference.other, difference.gap
    sign = gap.sign if p is None else int(np.sign(gap.mean)) if p < 1 - LEVEL else 0
    said = {
        1: f"{name} is above {other}",
        -1: f"{name} is below {other}",
        0: f"{name} and {other} are not told apart",
    }[sign]
    if difference.at:
        where = f"the same targets ({', '.join(f'{target:g}' for target in difference.at)})"
    else:
        where = f"equal path length, {difference.where.removeprefix('curves, ')}"
    interval = f"95 % interval {gap.ends}" if len(gap.values) > 1 else "one seed"
    corrected = "" if p is None else f", p = {p:.2g} after Holm"
    return (
        f"{difference.experiment}: at {where}, {said}: the difference is {gap} points, "
        f"{interval}{corrected}."
    )


def _table(differences, corrected):
    rows = []
    for each in differences:
        # The verdict is made of the means over targets: only these are tested.
        rows.append((each, each.where, each.gap, corrected.get(str(each))))
        if len(each.at) > 1:
            rows += [(each, f"{target:g}", gap, None) for target, gap in each.at.items()]
    return pd.DataFrame(
        {
            "experiment": each.experiment,
            "": f"{each.name} - {each.other}",
            "target": where,
            "difference": str(gap),
            "95 % interval": gap.ends,
            "p, Holm": "-" if p is None else f"{p:.2g}",
            "seeds": len(gap.values),
        }
        for each, where, gap, p in rows
    )
