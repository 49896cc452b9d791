import dataclasses

import numpy as np
import pandas as pd
from scipy import stats

from studies.claims.finding import COLORS, Finding, number, panels, verdict
from studies.statistics.comparison import curves, ladders
from studies.statistics.spread import Spread


@dataclasses.dataclass
class Velocity:
    """How fast the tangent kernel moves, beside what it costs to linearize from then on.

    Args:
        experiments: Dict from the experiment whose variants are linearized from different epochs
            to that whose runs watch the kernel.
        share: Of the path length, at which the cost is taken where there are no targets: the score
            at the longest path length of a curve, less that at this one. With targets, it is the
            score without pressure less the mean of those at all targets.
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
        table, judged, drawn = [], {}, []
        sentences = []
        for starts, kernel in self.experiments.items():
            costs = self._costs(results, starts, kernel)
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
            judged[starts] = correlation
            before = len(table)
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
            first, last = (row["cost in points"] for row in (table[before], table[-1]))
            sentences.append(
                f"{starts}: linearizing costs {first} "
                f"points from the first start on and {last} from the last. The rank correlation of "
                f"cost and kernel velocity over the starts is {correlation}, 95 % interval "
                f"{correlation.ends}."
            )
        if not drawn:
            return finding
        every = list(judged.values())
        finding.verdict = verdict(every, points=0)
        finding.number = number(every[0], "(Spearman's rank correlation)")
        finding.sentences = sentences
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

    def _costs(self, results, experiment, kernel):
        """For each seed the cost of each start."""
        rows, free = results.rows(experiment), results.rows(kernel)
        costs: dict[int, dict[int, float]] = {}
        if "epochs" in rows and not free.empty:
            # Those that go on for longer are another comparison.
            rows = rows[rows["epochs"] == free["epochs"].iloc[0]]
        scores = free.groupby("seed")["score"].mean()
        for start, mine in rows.groupby("start_epoch"):
            found = ladders(mine)
            for seed in found.keys() & scores.keys():
                reached = np.mean([score for _, score in found[seed].values()])
                costs.setdefault(seed, {})[int(start)] = float(scores[seed] - reached)
            if found:
                continue
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
