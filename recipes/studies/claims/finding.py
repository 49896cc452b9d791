import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from studies.statistics.significance import POINTS, seeds_needed, signs
from studies.statistics.spread import Spread

# What can be said of a claim.
CONFIRMED = "confirmed"
PARTLY = "confirmed in part"
MIXED = "confirmed here, refuted there"
UNDECIDED = "not decided"
NOT_CONFIRMED = "not confirmed"
NO_RESULTS = "no results yet"
# The colors of lines, in their order.
COLORS = ("#2f5d9e", "#e08e0b", "#3a8f5c", "#a33b5f", "#6b55a3", "#8a8a8a", "#5ab4c4", "#7a4b2a")


@dataclasses.dataclass
class Finding:
    """What a study says of a claim: `claim` is what the papers say, the rest what was found.

    Sentences are made of the numbers of the results. The first says the most important, and
    `number` is that of it, with its interval.
    """

    title: str
    claim: str
    verdict: str = NO_RESULTS
    sentences: list[str] = dataclasses.field(
        default_factory=lambda: [
            "The cells that this needs have not been run, or their epochs are not here."
        ]
    )
    number: str = ""
    table: pd.DataFrame | None = None
    figure: Figure | None = None


def verdict(gaps: list[Spread], points: float = POINTS) -> str:
    """What can be said if a claim wants all of some differences to be positive.

    Args:
        gaps: The differences; their tests are corrected for how many they are.
        points: What is less than this, with all of its interval, is decided to be nothing.
    """
    found = signs(gaps)
    if all(sign > 0 for sign in found):
        return CONFIRMED
    if any(sign > 0 for sign in found):
        return MIXED if any(sign < 0 for sign in found) else PARTLY
    small = all(-points < end < points for gap in gaps for end in gap.interval)
    return NOT_CONFIRMED if small or any(sign < 0 for sign in found) else UNDECIDED


def number(gap: Spread, unit: str = "points") -> str:
    """A difference with its interval, for the front of a claim."""
    if len(gap.values) < 2:
        return f"{gap.mean:.2f} {unit}, of one seed"
    return f"{gap.mean:.2f} {unit}, 95 % interval {gap.ends}, {len(gap.values)} seeds"


def missing_seeds(gaps: dict[str, Spread]) -> list[str]:
    """A sentence that says how many seeds it takes where differences are not told from 0."""
    missing = []
    for (name, gap), sign in zip(gaps.items(), signs(list(gaps.values()))):
        low, high = gap.interval
        if not sign and not -POINTS < low <= high < POINTS:
            needed = f"{seeds_needed(gap.deviation)}" if len(gap.values) > 1 else "a pilot of some"
            missing.append(f"{needed} for {name}, which has {len(gap.values)}")
    if not missing:
        return []
    return [f"To tell one point from none would take these numbers of seeds: {'; '.join(missing)}."]


def panels(number: int, label: str, height: float = 3.6) -> tuple[Figure, list[Any]]:
    """A figure with a number of axes, at most four side by side."""
    columns = min(number, 4)
    lines = -(-number // columns)
    figure = Figure(
        figsize=(4.6 * columns if columns > 1 else 6.5, height * lines),
        dpi=100,
        layout="constrained",
    )
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for each in axes[number:]:
        each.remove()
    for each in axes[:number]:
        each.set_xlabel(label)
        each.grid(alpha=0.3)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes[:number]


def draw_curves(axes, curves, color, label) -> None:
    """Draws the curves of all seeds, and thicker their mean at the path lengths that all have."""
    for x, y in curves.values():
        axes.plot(x, y, "o-", color=color, alpha=0.35, linewidth=1, markersize=3)
    # A seed that is not through may have one point.
    most = max(min(len(x), 2) for x, _ in curves.values())
    whole = [(x, y) for x, y in curves.values() if len(x) >= most]
    low = max(x[0] for x, _ in whole)
    high = max(low, min(x[-1] for x, _ in whole))
    grid = np.linspace(low, high, 201)
    mean = np.mean([np.interp(grid, x, y) for x, y in whole], axis=0)
    # One target makes no line.
    style = "o" if low == high else "-"
    axes.plot(grid, mean, style, color=color, linewidth=2.2, markersize=9, label=label)


def draw_differences(axes, gaps: dict[str, Spread]) -> None:
    """Draws a line for each difference: that of each seed, their mean and its interval."""
    axes.axvline(0, color="black", linewidth=1)
    values = [value for gap in gaps.values() for value in gap.values]
    room = 0.3 * max(max(values) - min(values), POINTS)
    for line, gap in enumerate(gaps.values()):
        color = COLORS[1] if gap.sign else COLORS[0]
        if len(gap.values) > 1:
            axes.plot(gap.interval, [line, line], color=color, linewidth=2.2)
        axes.plot(gap.mean, line, "D", color=color, markersize=7)
        axes.plot(gap.values, [line] * len(gap.values), "o", color=color, alpha=0.35, markersize=4)
    # Few seeds have intervals beyond all that was found; where they end is in the table.
    axes.set_xlim(min(0, *values) - room, max(0, *values) + room)
    axes.set_ylim(len(gaps) - 0.5, -0.5)
    axes.set_yticks(range(len(gaps)), gaps, fontsize=8)
    axes.set_xlabel("difference in points, its mean and 95 % interval")
