import dataclasses

import pandas as pd

from studies.claims.finding import COLORS, CONFIRMED, NOT_CONFIRMED, Finding, panels
from studies.claims.late_against_early import LateAgainstEarly
from studies.spread import Spread


@dataclasses.dataclass
class Difficulty(LateAgainstEarly):
    """The gap between late and early, against the difficulty of the task.

    That is what the score lacks to 100 in runs that are hardly pressed, of the late variant.
    """

    title = "The gap against the difficulty of the task"
    claim = "The gap between late and early grows with difficulty, and vanishes on easy tasks."

    def find(self, results):
        finding = Finding(self.title, self.claim)
        found = []
        for experiment, name, _, gap, _ in self.differences(results):
            if name == self.late:
                tops = [y[-1] for _, y in self.curves(results, experiment)[self.late].values()]
                found.append((Spread(tuple(100 - top for top in tops)), gap, experiment))
        if len(found) < 2:
            finding.sentences = ["Tasks of at least two difficulties are needed."]
            return finding
        found.sort(key=lambda each: each[0].mean)
        listed = "; ".join(
            f"{gap} points on {experiment}, where {lack} are missing without pressure"
            for lack, gap, experiment in found
        )
        easiest, hardest = found[0], found[-1]
        means = [gap.mean for _, gap, _ in found]
        grows = means == sorted(means)
        finding.sentences = [
            f"Late minus early, with the same number of epochs in all, is {listed}.",
            f"From the easiest to the hardest of these {len(found)} tasks the mean gap "
            + ("grows. " if grows else "does not always grow. ")
            + f"On the easiest, {easiest[2]}, "
            + ("no gap can be told from 0." if not easiest[1].sign else "there is a gap."),
        ]
        confirmed = grows and not easiest[1].sign and hardest[1].sign > 0
        finding.verdict = CONFIRMED if confirmed else NOT_CONFIRMED
        finding.table = pd.DataFrame(
            {
                "experiment": experiment,
                "missing without pressure": str(lack),
                "late - early": str(gap),
                "95 % interval": "{:.2f} to {:.2f}".format(*gap.interval),
                "seeds": len(gap.values),
            }
            for lack, gap, experiment in found
        )
        finding.figure, [axes] = panels(1, "points that are missing without pressure")
        axes.axhline(0, color="black", linewidth=1)
        for color, (lack, gap, experiment) in zip(COLORS, found):
            xs = [lack.mean] * len(gap.values)
            axes.plot(xs, gap.values, "o", color=color, alpha=0.4)
            axes.plot(lack.mean, gap.mean, "_", color=color, ms=24, mew=3, label=experiment)
        axes.set_ylabel("late - early, points")
        axes.margins(0.15)
        axes.legend()
        return finding
