"""What many comparisons say together, and how many seeds one takes."""

import numpy as np
from scipy import stats

from studies.statistics.spread import LEVEL

# A study shall find a gap so great with this probability.
POINTS, POWER = 1.0, 0.8


def holm(p):
    """The p-values of several tests, corrected by Holm (1979): one may be wrong in all of them.

    SciPy corrects for the rate of false discoveries alone, which is something else; the library
    that has it, statsmodels, is as large as SciPy.

    Args:
        p: List of p-values.

    Returns:
        List of as many: those below a level are significant together.
    """
    order = np.argsort(p)
    corrected = np.asarray(p, float)[order] * np.arange(len(p), 0, -1)
    found = np.empty(len(p))
    found[order] = np.minimum(np.maximum.accumulate(corrected), 1.0)
    return found.tolist()


def signs(gaps):
    """For each `Spread` 1 or -1 if its mean is above or below 0, corrected by `holm`, else 0."""
    corrected = holm([gap.p for gap in gaps])
    return [int(np.sign(gap.mean)) if p < 1 - LEVEL else 0 for gap, p in zip(gaps, corrected)]


def seeds_needed(deviation, points=POINTS, most=10_000):
    """How many seeds it takes until a gap is told from 0, by Student's t, two-sided.

    Args:
        deviation: Float. The standard deviation of the gap over seeds.
        points: Float. The gap that shall be found, with probability `POWER`.
        most: Integer. What is returned at most.
    """
    for seeds in range(2, most):
        beyond = stats.t.ppf((1 + LEVEL) / 2, seeds - 1)
        # As the deviation falls to 0, any gap is found.
        shift = min(points * np.sqrt(seeds) / max(deviation, 1e-9), 1e3)
        power = stats.nct.sf(beyond, seeds - 1, shift) if shift < 30 else 1.0
        if power >= POWER:
            return seeds
    return most
