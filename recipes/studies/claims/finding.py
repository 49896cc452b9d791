import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

# What can be said of a claim.
CONFIRMED = "confirmed"
UNDECIDED = "not decided"
NOT_CONFIRMED = "not confirmed"
NO_RESULTS = "no results yet"
# The colors of lines, in their order.
COLORS = ("#2f5d9e", "#e08e0b", "#3a8f5c", "#a33b5f", "#6b55a3", "#8a8a8a")


@dataclasses.dataclass
class Finding:
    """What a study says of a claim: `claim` is what the papers say, the rest what was found.

    Sentences are made of the numbers of the results.
    """

    title: str
    claim: str
    verdict: str = NO_RESULTS
    sentences: list[str] = dataclasses.field(
        default_factory=lambda: ["The cells that this needs have not been run."]
    )
    table: pd.DataFrame | None = None
    figure: Figure | None = None


def verdict(signs: list[int]) -> str:
    """What can be said if a claim wants all of some differences to be positive."""
    if all(sign > 0 for sign in signs):
        return CONFIRMED
    return NOT_CONFIRMED if any(sign < 0 for sign in signs) else UNDECIDED


def panels(number: int, label: str, height: float = 3.6) -> tuple[Figure, list[Any]]:
    """A figure with a number of axes side by side."""
    figure = Figure(
        figsize=(4.6 * number if number > 1 else 6.5, height), dpi=100, layout="constrained"
    )
    axes = list(figure.subplots(1, number, squeeze=False)[0])
    for each in axes:
        each.set_xlabel(label)
        each.grid(alpha=0.3)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def draw_curves(axes, curves, color, label) -> None:
    """Draws the curves of all seeds, and thicker their mean at the path lengths that all have."""
    for x, y in curves.values():
        axes.plot(x, y, "o-", color=color, alpha=0.35, linewidth=1, markersize=3)
    low = max(x[0] for x, _ in curves.values())
    high = max(low, min(x[-1] for x, _ in curves.values()))
    grid = np.linspace(low, high, 201)
    mean = np.mean([np.interp(grid, x, y) for x, y in curves.values()], axis=0)
    axes.plot(grid, mean, color=color, linewidth=2.2, label=label)
