"""Accuracies with several seeds, for summaries and tables."""

import numpy as np


def over_seeds(accuracies):
    """Mean, standard deviation and range; no deviation for one seed."""
    return {
        "accuracy": float(np.mean(accuracies)),
        "deviation": float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
        "lowest": min(accuracies),
        "highest": max(accuracies),
    }


def percent(summary):
    """Mean and standard deviation of `over_seeds` in words."""
    deviation = "" if summary["deviation"] is None else f" ± {100 * summary['deviation']:.1f}"
    return f"{100 * summary['accuracy']:.1f}{deviation}"


def columns(lines):
    """Lines of cells as a table."""
    return "\n".join("".join(f"{cell:>13}" for cell in line) for line in lines)
