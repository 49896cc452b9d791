import dataclasses
import itertools
import math

import optuna

from studies.directory.cell import Cell

optuna.logging.set_verbosity(optuna.logging.WARNING)


class FilledCurve:
    """Runs that differ in one option, chosen one after the other to fill the path lengths evenly.

    First come the ends of the option's range. Then the gap between two neighbors in which the path
    length falls most is halved, in the logarithm of the option, until none is too wide. Optuna
    holds the trials. As each choice follows from the path lengths before it, a study that was
    stopped finds its way again from what is on disk.

    Args:
        cell: A `Cell` without that option.
        fill: The `Fill`.
    """

    def __init__(self, cell, fill):
        self.cell, self.fill = cell, fill
        self.sampler = GapSampler(fill.gap)
        self.trials = optuna.create_study(sampler=self.sampler)
        self.distribution = optuna.distributions.FloatDistribution(fill.low, fill.high, log=True)
        self.trial = None

    def next(self) -> Cell | None:
        """The next cell, `None` if the curve is filled or has as many as it may have."""
        trials = self.trials.get_trials(deepcopy=False)
        if len(trials) == self.fill.cells or (
            len(trials) >= 2 and self.sampler.widest(trials, self.fill.option) is None
        ):
            return None
        self.trial = self.trials.ask({self.fill.option: self.distribution})
        return dataclasses.replace(self.cell, options={**self.cell.options, **self.trial.params})

    def tell(self, summary) -> None:
        """Takes the summary of the cell that was last given, `None` if it failed."""
        if summary is None:
            self.trials.tell(self.trial, state=optuna.trial.TrialState.FAIL)
        else:
            # As a share: 1 before linearization, 0 when all is linear.
            share = summary["path_length"] / summary["path_length_before"]
            self.trials.tell(self.trial, share)


class GapSampler(optuna.samplers.BaseSampler):
    """Samples the ends of a range, and then the middle of the gap that is widest in the objective.

    Args:
        gap: The widest gap that is left as it is.
    """

    def __init__(self, gap):
        self.gap = gap

    def widest(self, trials, name):
        """The ends of the gap to be halved, `None` if there is none."""
        tried = sorted((t.params[name], t.value) for t in trials if t.state.is_finished())
        gaps = []
        for (low, before), (high, after) in itertools.pairwise(tried):
            # Of a trial that failed it is only known that it lies between all and nothing. Where
            # the objective jumps, there is an end to halving.
            if (before, after) != (None, None) and high > 1.05 * low:
                left, right = 1.0 if before is None else before, after or 0.0
                gaps.append((abs(left - right), low, high))
        width, low, high = max(gaps, default=(0.0, None, None))
        return (low, high) if width > self.gap else None

    def sample_independent(self, study, trial, param_name, param_distribution):
        done = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
        if len(done) < 2:
            return (param_distribution.low, param_distribution.high)[len(done)]
        low, high = self.widest(done, param_name)
        # Of few digits, which read well.
        return float(f"{math.sqrt(low * high):.3g}")

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}
