import dataclasses

import numpy as np
import pandas as pd
from scipy import stats

from studies.claims.finding import COLORS, Finding, panels, verdict
from studies.comparison import curves
from studies.spread import Spread


@dataclasses.dataclass
class Velocity:
    """How fast the tangent kernel moves, beside what it costs to linearize from then on.

    Args:
        experiments: Dict from the experiment whose variants are linearized from different epochs
            to that whose runs watch the kernel.
        share: Of the path length, at which the cost is taken: the score at the longest path length
            of a curve, less that at this one.
    """

    experiments: dict[str, str]
    share: float = 0.25

    title = "Kernel velocity and the cost of linearizing"
    claim = (
        "Linearizing costs most early in training, while the tangent kernel moves fast, and little "
        "once it has settled."
    )

    def find(self, results):
        finding = Finding(self.title, self.claim)
        table, signs, drawn = [], [], []
        sentences = []
        for starts, kernel in self.experiments.items():
            costs = self._costs(results, starts)
            velocities = _velocities(results, kernel)
            # The velocity of an epoch stands with its end: that before the first is not known.
            seeds = sorted(costs.keys() & velocities.keys())
            found = []
            for seed in seeds:
                common = [start for start in costs[seed] if start in velocities[seed].index]
                if len(common) > 2:
                    pair = [costs[seed][start] for start in common], velocities[seed][common]
                    found.append(float(stats.spearmanr(*pair).statistic))
            if not found:
                continue
            drawn.append((starts, costs, velocities))
            correlation = Spread(tuple(found))
            signs.append(correlation.sign)
            for start in sorted({start for each in costs.values() for start in each}):
                cost = Spread(tuple(each[start] for each in costs.values() if start in each))
                speed = [v[start] for v in velocities.values() if start in v.index]
                table.append(
                    {
                        "experiment": starts,
                        "linearized from epoch": start + 1,
                        "cost in points": str(cost),
                        "kernel velocity before": f"{np.mean(speed):.4f}" if speed else "-",
                        "seeds": len(cost.values),
                    }
                )
            first, last = (row["cost in points"] for row in (table[0], table[-1]))
            sentences.append(
                f"{starts}: down to {self.share:.0%} of the path length, linearizing costs {first} "
                f"points from the first start on and {last} from the last. The rank correlation of "
                f"cost and kernel velocity over the starts is {correlation}, 95 % interval "
                f"{correlation.interval[0]:.2f} to {correlation.interval[1]:.2f}."
            )
        if not drawn:
            return finding
        finding.verdict, finding.sentences = verdict(signs), sentences
        finding.table = pd.DataFrame(table)
        finding.figure, axes = panels(len(drawn), "epochs before linearization")
        for each, (starts, costs, velocities) in zip(axes, drawn):
            each.set_title(starts)
            each.set_ylabel("cost in points", color=COLORS[0])
            other = each.twinx()
            other.set_ylabel("kernel velocity", color=COLORS[1])
            other.set_yscale("log")
            for seed, cost in costs.items():
                begun = sorted(cost)
                each.plot(begun, [cost[s] for s in begun], "o-", color=COLORS[0], alpha=0.5)
                if seed in velocities:
                    speed = velocities[seed]
                    other.plot(speed.index, speed, ":", color=COLORS[1], alpha=0.7)
        return finding

    def _costs(self, results, experiment):
        """For each seed the cost of each start."""
        rows = results.rows(experiment)
        costs: dict[int, dict[int, float]] = {}
        for start, mine in rows.groupby("start_epoch"):
            length = self.share * mine["path_length_before"].max()
            for seed, (x, y) in curves(mine).items():
                if x[0] <= length <= x[-1]:
                    costs.setdefault(seed, {})[int(start)] = float(y[-1] - np.interp(length, x, y))
        return costs


def _velocities(results, experiment):
    """For each seed the velocity after each epoch, a series."""
    found = {}
    for _, cell in results.rows(experiment).iterrows():
        history = results.history(cell["cell"])
        if "ntk_velocity" in history:
            # The logs of an epoch without a kernel lack it.
            speed = history.set_index("epoch")["ntk_velocity"].dropna()
            speed.index = speed.index.astype(int)
            found[int(cell["seed"])] = speed
    return found
