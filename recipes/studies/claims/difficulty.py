import dataclasses

import numpy as np
import pandas as pd
from scipy import stats

from studies.claims.finding import (
    COLORS,
    CONFIRMED,
    NOT_CONFIRMED,
    UNDECIDED,
    Finding,
    missing_seeds,
    panels,
)
from studies.claims.late_against_early import LateAgainstEarly
from studies.statistics.spread import LEVEL, Spread

# With fewer tasks, hardly any order of them is no accident.
TASKS = 6
MARKERS = ("o", "s", "^", "D")


@dataclasses.dataclass
class Difficulty(LateAgainstEarly):
    """The gap between late and early, against the difficulty of the task.

    That is what the score lacks to 100 in networks of the late variant, before linearization.
    """

    title = "The gap against the difficulty of the task"
    claim = "The gap between late and early grows with difficulty, and vanishes on easy tasks."

    def find(self, results):
        finding = Finding(self.title, self.claim)
        found = []
        for each in self.differences(results):
            if each.name == self.late:
                before = results.rows(each.experiment, self.late).groupby("seed")["score_before"]
                found.append((Spread(tuple(100 - before.mean())), each.gap, each.experiment))
        if len(found) < 2:
            finding.sentences = ["Tasks of at least two difficulties are needed."]
            return finding
        found.sort(key=lambda each: each[0].mean)
        lacks = [lack.mean for lack, _, _ in found]

        def correlation(*gaps):
            # It is not defined where all gaps are the same.
            means = [np.mean(gap) for gap in gaps]
            return stats.kendalltau(lacks, means).statistic if len(set(means)) > 1 else 0.0

        gaps = [gap.values for _, gap, _ in found]
        tau, low, high = correlation(*gaps), -1.0, 1.0
        if all(len(gap) > 1 for gap in gaps):
            low, high = stats.bootstrap(
                gaps,
                correlation,
                n_resamples=999,
                confidence_level=LEVEL,
                method="percentile",
                vectorized=False,
                rng=0,
            ).confidence_interval
        p = stats.kendalltau(lacks, [np.mean(gap) for gap in gaps]).pvalue
        easiest = found[0]
        finding.number = f"{tau:.2f} (Kendall's tau), 95 % interval {low:.2f} to {high:.2f}"
        finding.sentences = [
            f"Over {len(found)} tasks the rank correlation of the gap with what is missing before "
            f"linearization is {tau:.2f}, 95 % interval over seeds {low:.2f} to {high:.2f}; p = "
            f"{p:.2g} that so many tasks are in such an order by accident.",
            f"On the easiest, {easiest[2]}, "
            + ("late is not above early" if easiest[1].sign <= 0 else "late is above early")
            + f": {easiest[1]} points.",
            *missing_seeds({experiment: gap for _, gap, experiment in found}),
        ]
        if len(found) < TASKS:
            finding.sentences.append(f"To decide this takes {TASKS} tasks at least.")
        if len(found) >= TASKS and low > 0 and p < 1 - LEVEL and easiest[1].sign <= 0:
            finding.verdict = CONFIRMED
        elif high <= 0 or (low > 0 and easiest[1].sign > 0):
            finding.verdict = NOT_CONFIRMED
        else:
            finding.verdict = UNDECIDED
        finding.table = pd.DataFrame(
            {
                "experiment": experiment,
                "missing before": str(lack),
                "late - early": str(gap),
                "95 % interval": gap.ends,
                "seeds": len(gap.values),
            }
            for lack, gap, experiment in found
        )
        finding.figure, [axes] = panels(1, "points that are missing before linearization")
        axes.axhline(0, color="black", linewidth=1)
        for number, (lack, gap, experiment) in enumerate(found):
            color = COLORS[number % len(COLORS)]
            xs = [lack.mean] * len(gap.values)
            # More tasks than colors are told apart by their marks.
            marker = MARKERS[number // len(COLORS) % len(MARKERS)]
            axes.plot(xs, gap.values, marker, color=color, alpha=0.4, label=experiment)
            axes.plot(lack.mean, gap.mean, "_", color=color, ms=24, mew=3)
        axes.set_ylabel("late - early, points")
        axes.margins(0.15)
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        return finding
