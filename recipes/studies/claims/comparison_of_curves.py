import dataclasses

import pandas as pd

from studies.claims.finding import COLORS, Finding, draw_curves, panels, verdict
from studies.comparison import gaps


@dataclasses.dataclass
class ComparisonOfCurves:
    """Some runs have higher scores than others at equal path length.

    Subclasses say what is compared.

    Args:
        experiments: Names of experiments.
    """

    experiments: list[str]

    title = claim = ""

    def curves(self, results, experiment):
        """Dict from what runs are called to their curves."""
        raise NotImplementedError

    def pairs(self):
        """What is said to be above what."""
        raise NotImplementedError

    def differences(self, results):
        """Yields for each experiment and each pair of which there are runs: their names, the
        `Spread` of the gap, and the path lengths that it is of."""
        for experiment in self.experiments:
            curves = self.curves(results, experiment)
            for name, other in self.pairs():
                gap, lengths = gaps(curves[name], curves[other])
                if gap:
                    yield experiment, name, other, gap, lengths

    def find(self, results):
        finding = Finding(self.title, self.claim)
        differences = list(self.differences(results))
        if not differences:
            return finding
        finding.verdict = verdict([gap.sign for *_, gap, _ in differences])
        finding.sentences = [_sentence(*difference) for difference in differences]
        finding.table = pd.DataFrame(
            {
                "experiment": experiment,
                "": f"{name} - {other}",
                "path lengths": f"{low:.2f} to {high:.2f}",
                "difference": str(gap),
                "95 % interval": "{:.2f} to {:.2f}".format(*gap.interval),
                "seeds": len(gap.values),
            }
            for experiment, name, other, gap, (low, high) in differences
        )
        drawn = list(dict.fromkeys(experiment for experiment, *_ in differences))
        finding.figure, axes = panels(len(drawn), "average path length")
        for each, experiment in zip(axes, drawn):
            each.set_title(experiment)
            each.set_ylabel(f"test {results.score_name(experiment)}")
            found = self.curves(results, experiment)
            for color, (name, curves) in zip(COLORS, found.items()):
                if curves:
                    draw_curves(each, curves, color, name)
            each.legend(loc="lower right")
        return finding


def _sentence(experiment, name, other, gap, lengths):
    said = {
        1: f"{name} is above {other}",
        -1: f"{name} is below {other}",
        0: f"{name} and {other} are not told apart",
    }[gap.sign]
    low, high = lengths
    return (
        f"{experiment}: at equal path length, from {low:.2f} to {high:.2f}, {said}: the difference "
        f"is {gap} points, 95 % interval {gap.interval[0]:.2f} to {gap.interval[1]:.2f}."
    )
