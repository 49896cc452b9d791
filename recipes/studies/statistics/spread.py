import dataclasses

import numpy as np
from scipy import stats

LEVEL = 0.95
# What is nearer to 0 is no difference.
ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Spread:
    """A number as it was found with each seed."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float:
        """The standard deviation of the seeds; NaN for one seed."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """The interval of 95 % for the mean, by Student's t; all numbers for one seed."""
        if len(self.values) < 2:
            return -np.inf, np.inf
        half = stats.t.ppf((1 + LEVEL) / 2, len(self.values) - 1) * self.deviation
        half /= np.sqrt(len(self.values))
        return self.mean - half, self.mean + half

    @property
    def ends(self) -> str:
        """The interval as text."""
        return "{:.2f} to {:.2f}".format(*self.interval)

    @property
    def p(self) -> float:
        """That of the hypothesis that the mean is 0, by Student's t; 1 for one seed."""
        if len(self.values) < 2:
            return 1.0
        if self.deviation < ROUNDING:
            return float(abs(self.mean) < ROUNDING)
        return float(stats.ttest_1samp(self.values, 0.0).pvalue)

    @property
    def sign(self) -> int:
        """1 or -1 if the interval is on one side of 0, else 0: the seeds do not tell."""
        low, high = self.interval
        return 1 if low > ROUNDING else -1 if high < -ROUNDING else 0

    def __str__(self):
        deviation = f" ± {self.deviation:.2f}" if len(self.values) > 1 else " (one seed)"
        return f"{self.mean:.2f}{deviation}"
