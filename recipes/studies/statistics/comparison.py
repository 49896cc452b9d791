"""Scores at the same targets, or curves of scores over path lengths, compared at equal length."""

import numpy as np
import pandas as pd

from studies.statistics.spread import Spread

# By how much a target may be missed, as a path length and as a share: about one unit.
NEAR, NEAR_SHARE = 0.15, 0.02


def ladders(rows):
    """What was found at targets, by seed.

    Args:
        rows: Part of the table of results.

    Returns:
        Dict from seeds to dicts from targets, descending, to pairs of a path length and a score.
        What missed its target is left out, and so is what had none.
    """
    if "target" not in rows:
        return {}
    rows = rows.dropna(subset=["score", "path_length", "target"])
    found = {}
    for _, row in rows.sort_values("target", ascending=False).iterrows():
        if pd.notna(row.get("target_path_length")):
            met = row["path_length"] <= row["target"] + NEAR
        else:
            share = row.get("reached") if pd.notna(row.get("budget")) else row["nonlinear_units"]
            met = share <= row["target"] + NEAR_SHARE
        if met:
            mine = found.setdefault(int(row["seed"]), {})
            mine[float(row["target"])] = float(row["path_length"]), float(row["score"])
    return found


def points(rows):
    """What was found at targets as curves, in the form that `curves` has."""
    return {seed: np.array(sorted(mine.values())).T for seed, mine in ladders(rows).items()}


def gaps_at_targets(first, second):
    """By how much the first scores lie above the second, at the same targets.

    Args:
        first, second: As `ladders` returns them.

    Returns:
        A `Spread` of the mean over targets, of the seeds that have all of these in both, `None` if
        there are none; and a dict from these targets to the `Spread` there.
    """
    found = {}
    for seed in sorted(first.keys() & second.keys()):
        for target, (_, score) in first[seed].items():
            if target in second[seed]:
                found.setdefault(target, {})[seed] = score - second[seed][target][1]
    # Targets that some seeds missed say nothing of a mean.
    most = max(map(len, found.values()), default=0)
    found = {target: each for target, each in found.items() if len(each) == most}
    seeds = set.intersection(*map(set, found.values())) if found else set()
    if not seeds:
        return None, {}
    means = [np.mean([each[seed] for each in found.values()]) for seed in sorted(seeds)]
    at = {target: Spread(tuple(each.values())) for target, each in sorted(found.items())[::-1]}
    return Spread(tuple(map(float, means))), at


def curves(rows):
    """The curves of a table, by seed.

    Args:
        rows: Part of the table of results.

    Returns:
        Dict from seeds to pairs of arrays: the path lengths, ascending, and the scores. Two runs
        make no curve: there is nothing between the ends.
    """
    rows = rows.dropna(subset=["score", "path_length"])
    found = {}
    for seed, mine in rows.groupby("seed"):
        # Runs that end at the same path length are one point.
        means = mine.groupby("path_length")["score"].mean()
        if len(means) > 2:
            found[int(seed)] = means.index.to_numpy(float), means.to_numpy(float)
    return found


def gaps(first, second):
    """By how much the first curves lie above the second, at equal path length.

    For each seed it is the mean over the path lengths that both curves have, which are taken
    between points of a curve on the line that joins them.

    Returns:
        A `Spread` of the seeds that both have, `None` if there are none; and the least and the
        greatest of these path lengths.
    """
    values, ends = [], []
    for seed in sorted(first.keys() & second.keys()):
        (x, _), (other, _) = first[seed], second[seed]
        low, high = max(x[0], other[0]), min(x[-1], other[-1])
        if low < high:
            grid = np.linspace(low, high, 201)
            values.append(np.mean(np.interp(grid, *first[seed]) - np.interp(grid, *second[seed])))
            ends += [low, high]
    if not values:
        return None, (np.nan, np.nan)
    return Spread(tuple(values)), (min(ends), max(ends))


def at(curves, length):
    """The scores of curves at a path length: a `Spread` of the seeds whose curve goes so far."""
    values = [float(np.interp(length, x, y)) for x, y in curves.values() if x[0] <= length <= x[-1]]
    return Spread(tuple(values)) if values else None
