"""Curves of scores over path lengths, compared at equal path length."""

import numpy as np

from studies.spread import Spread


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
