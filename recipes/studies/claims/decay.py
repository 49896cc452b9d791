import dataclasses

import numpy as np
import pandas as pd

from studies.claims.finding import (
    COLORS,
    Finding,
    draw_curves,
    missing_seeds,
    number,
    panels,
    verdict,
)
from studies.statistics.comparison import at, curves
from studies.statistics.spread import Spread

SHARES = (1.0, 0.75, 0.5, 0.25, 0.1, 0.05)
# The two ends of the curve that are compared.
LONG, SHORT = (1.0, 0.5), (0.1, 0.0)


@dataclasses.dataclass
class Decay:
    """What path length costs, from all of it to nothing.

    Args:
        experiments: Names of experiments.
        variant: The variant that is looked at.
    """

    experiments: list[str]
    variant: str = "late"

    title = "Slow decay, then collapse"
    claim = "While the path length falls, the score decays slowly at first, and then collapses."

    def find(self, results):
        finding = Finding(self.title, self.claim)
        rows, differences, sentences, drawn = [], {}, [], []
        for experiment in self.experiments:
            runs = results.rows(experiment, self.variant)
            if runs.empty:
                continue
            full = runs["path_length_before"].max()
            found = {
                seed: (x / full, y) for seed, (x, y) in curves(runs).items() if x[0] < 0.5 * full
            }
            if not found:
                continue
            drawn.append((experiment, found))
            scores = {share: at(found, share) for share in SHARES}
            rows.append(
                {
                    "experiment": experiment,
                    **{f"{share:.0%}": str(each or "-") for share, each in scores.items()},
                    "shortest": str(Spread(tuple(y[0] for _, y in found.values()))),
                }
            )
            steepness = [(_slope(curve, *LONG), _slope(curve, *SHORT)) for curve in found.values()]
            # In points for a tenth of the path length.
            slow, fast = (Spread(tuple(each)) for each in zip(*steepness))
            difference = Spread(tuple(b - a for a, b in steepness))
            differences[experiment] = difference
            said = {1: "it collapses at the end", -1: "it does not", 0: "that is not told apart"}
            sentences.append(
                f"{experiment}: a tenth of the path length costs {slow} points in its upper half, "
                f"and {fast} in the last tenth: {said[difference.sign]}."
            )
        if not differences:
            return finding
        every = list(differences.values())
        finding.verdict = verdict(every)
        finding.number = number(every[0], "points more for the last tenth")
        finding.sentences = [*sentences, *missing_seeds(differences)]
        finding.table = pd.DataFrame(rows)
        finding.figure, axes = panels(len(drawn), "average path length, share of all")
        for each, color, (experiment, found) in zip(axes, COLORS, drawn):
            each.set_title(experiment)
            each.set_ylabel(f"test {results.score_name(experiment)}")
            draw_curves(each, found, color, self.variant)
            each.invert_xaxis()
        return finding


def _slope(curve, high, low):
    """Points that are lost for a tenth of the path length, between two shares of it or the nearest
    that there are."""
    x, y = curve
    high, low = np.clip([high, low], x[0], x[-1])
    if high == low:
        return 0.0
    return float((np.interp(high, x, y) - np.interp(low, x, y)) / (10 * (high - low)))
