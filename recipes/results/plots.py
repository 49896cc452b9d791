"""The pictures of a run directory."""

import itertools
import math

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter, StrMethodFormatter

BLUE, ORANGE, GRAY = "#2f5d9e", "#e08e0b", "#8a8a8a"
COLORS = (GRAY, BLUE, ORANGE, "#3a8f5c", "#a33b5f", "#6b55a3", "#4aa3a8", "#7a5230", "#d77fa1")


def plot_training(history, start_epoch, title, held_out="test"):
    """Draws accuracy, loss and linearization over the epochs.

    Args:
        history: List of dicts, the logs of each epoch.
        start_epoch: Integer, the number of epochs before linearization started.
        title: What stands above.
        held_out: What the data is called that is not trained on.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    epochs = range(1, len(history) + 1)

    def draw(axes, key, **style):
        # Not every epoch is evaluated.
        points = [(epoch, logs[key]) for epoch, logs in zip(epochs, history) if key in logs]
        axes.plot(*zip(*points), **style)

    figure = Figure(figsize=(8, 9), dpi=120, layout="constrained")
    figure.suptitle(title)
    accuracy, loss, length, pressure = figure.subplots(
        4, 1, sharex=True, height_ratios=[3, 3, 3, 1.5]
    )

    draw(accuracy, "accuracy", color=GRAY, label="training")
    draw(accuracy, "val_accuracy", color=BLUE, label=held_out)
    accuracy.set_ylabel("accuracy")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    # The first epochs are left out of sight where they would hide the rest.
    later = history[len(history) // 4 :]
    settled = [logs["val_accuracy"] for logs in later if "val_accuracy" in logs]
    accuracy.set_ylim(max(1 - 1.5 * (1 - min(settled)), 0), 1.01)
    accuracy.legend(loc="lower right")

    draw(loss, "cross_entropy", color=GRAY, label="training")
    draw(loss, "val_cross_entropy", color=BLUE, label=held_out)
    loss.set_yscale("log")
    loss.set_ylabel("cross-entropy")
    loss.legend(loc="upper right")

    draw(length, "path_length", color=BLUE)
    length.set_ylim(bottom=0)
    length.set_ylabel("average path length", color=BLUE)
    units = length.twinx()
    draw(units, "nonlinear_units", color=ORANGE)
    units.set_ylim(0, 1.05)
    units.yaxis.set_major_formatter(PercentFormatter(1.0))
    units.set_ylabel("nonlinear units", color=ORANGE)

    pressure.step(epochs, [logs["omega"] for logs in history], color=GRAY, where="mid")
    pressure.set_ylim(bottom=0)
    pressure.set_ylabel("omega")
    pressure.set_xlabel("epoch")
    pressure.xaxis.set_major_locator(MaxNLocator(integer=True))

    for axes in (accuracy, loss, length, pressure):
        axes.grid(alpha=0.3)
        axes.spines["top"].set_visible(False)
        if start_epoch < len(history):
            axes.axvline(start_epoch + 0.5, color="black", linewidth=1, linestyle="--")
    units.spines["top"].set_visible(False)
    if start_epoch < len(history):
        accuracy.annotate(
            " linearization starts",
            (start_epoch + 0.5, 0.02),
            xycoords=accuracy.get_xaxis_transform(),
        )
    return figure


def plot_bleu(history, start_epoch, title):
    """Draws BLEU against the average path length, an epoch a point, while that falls.

    Args:
        history: List of dicts, the logs of each epoch.
        start_epoch: Integer, the number of epochs before linearization started.
        title: What stands above.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    pressed = [
        (epoch, logs["path_length"], logs["val_bleu"])
        for epoch, logs in enumerate(history, start=1)
        if epoch >= start_epoch and "val_bleu" in logs
    ]
    numbers, lengths, scores = zip(*pressed)
    axes.plot(lengths, scores, "o-", color=BLUE)
    for point in {0, len(pressed) - 1}:
        axes.annotate(
            f"epoch {numbers[point]}",
            (lengths[point], scores[point]),
            (0, 8),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    axes.invert_xaxis()
    axes.set_xlabel("average path length")
    axes.set_ylabel("BLEU of validation sentences")
    axes.margins(0.1)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_pareto(rows, title, where):
    """Draws accuracy against time and against nonlinear operations, a line for each method.

    Args:
        rows: List of dicts, the results of `compress.py`: that of the original comes first.
        title: What stands above.
        where: The size of the batches that were timed, and the engine.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure, both = _side_by_side(title)
    methods = list(dict.fromkeys(row["method"] for row in rows[1:]))
    colors = dict(zip(methods, itertools.cycle(COLORS)))
    axes_of = zip(
        both,
        ("ms", "nonlinear_operations"),
        (f"milliseconds for a batch of {where}", "nonlinear operations for one image"),
    )
    for axes, key, label in axes_of:
        first = rows[0]
        axes.plot(first[key], first["accuracy"], "*", color="black", ms=13, label="original")
        for method in methods:
            mine = [row for row in rows[1:] if row["method"] == method]
            axes.plot(
                [row[key] for row in mine],
                [row["accuracy"] for row in mine],
                "o-",
                color=colors[method],
                label="collapsed, all nonlinear" if method == "original" else method,
            )
            for row in mine:
                if row["budget"] < 1:
                    axes.annotate(
                        f"{row['budget']:.0%}",
                        (row[key], row["accuracy"]),
                        # Labels of two methods keep out of each other's way.
                        (0, 6 if methods.index(method) % 2 else -14),
                        textcoords="offset points",
                        ha="center",
                        fontsize=8,
                        color=colors[method],
                    )
        axes.set_xlim(left=0, right=1.05 * max(row[key] for row in rows))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.set_xlabel(label)
        axes.margins(y=0.15)
        _show_accuracies(axes)
    figure.axes[0].set_ylabel("test accuracy")
    # Beside the points, wherever these are.
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    return figure


def plot_feature_updates(summaries, steps, title):
    """Draws accuracy against the number of feature updates, and against rate times period.

    Args:
        summaries: List of dicts, the summaries of `iterative_linearization.py`.
        steps: Integer, the number of steps of a training.
        title: What stands above.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure, (by_updates, by_distance) = _side_by_side(title)
    rates = sorted({summary["learning_rate"] for summary in summaries})
    for number, (rate, color) in enumerate(zip(rates, itertools.cycle(COLORS))):
        mine = [summary for summary in summaries if summary["learning_rate"] == rate]
        mine.sort(key=lambda summary: summary["feature_updates"])
        periods = [steps if s["period"] == "never" else int(s["period"]) for s in mine]
        positions = [s["feature_updates"] for s in mine], [rate * period for period in periods]
        # Lines are broken where a seed diverged; such points would take all of the height.
        mean, low, high = (
            [math.nan if s["diverged"] else s[key] for s in mine]
            for key in ("accuracy", "lowest", "highest")
        )
        for axes, x in zip((by_updates, by_distance), positions):
            axes.plot(x, mean, "o-", color=color, label=f"rate {rate:g}")
            axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
            lost = [each for each, s in zip(x, mine) if s["diverged"]]
            height = [0.03 + 0.03 * number] * len(lost)
            axes.plot(lost, height, "x", color=color, transform=axes.get_xaxis_transform())
    by_updates.set_xscale("symlog", linthresh=1)
    by_updates.set_xlim(-0.1, 1.5 * max(summary["feature_updates"] for summary in summaries) + 1)
    by_updates.set_xlabel("updates of the features")
    by_updates.set_ylabel("test accuracy")
    by_distance.set_xscale("log")
    by_distance.set_xlabel("learning rate x steps between updates")
    if any(summary["diverged"] for summary in summaries):
        by_updates.plot([], [], "x", color="black", label="diverged")
    figure.legend(*by_updates.get_legend_handles_labels(), loc="outside right upper")
    for axes in (by_updates, by_distance):
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.margins(y=0.2)
        _show_accuracies(axes)
    return figure


def plot_transfer(summaries, title):
    """Draws accuracy against density, and over the epochs at the lowest density.

    Args:
        summaries: List of dicts, the summaries of `neural_tangent_transfer.py`.
        title: What stands above.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure, (by_density, by_epoch) = _side_by_side(title)
    colors = {"dense": "black", "transfer": BLUE, "magnitude": ORANGE, "random": GRAY}
    colors |= {"snip": COLORS[3], "synflow": COLORS[4]}
    densities = [s["density"] for s in summaries if s["method"] != "dense"] or [1.0]
    for method, color in colors.items():
        mine = [summary for summary in summaries if summary["method"] == method]
        mine.sort(key=lambda summary: summary["density"])
        if not mine:
            continue
        if method == "dense":
            by_density.axhline(mine[0]["accuracy"], color=color, linestyle="--", label=method)
        else:
            x = [summary["density"] for summary in mine]
            by_density.plot(x, [s["accuracy"] for s in mine], "o-", color=color, label=method)
            low, high = ([s[key] for s in mine] for key in ("lowest", "highest"))
            by_density.vlines(x, low, high, color=color)
            by_density.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
        curve = mine[0]["accuracies"]
        by_epoch.plot(range(1, len(curve) + 1), curve, color=color)
    by_density.set_xscale("log")
    by_density.set_xticks(sorted(set(densities)))
    by_density.xaxis.set_minor_locator(NullLocator())
    by_density.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    by_density.set_xlabel("weights that are kept")
    by_density.set_ylabel("test accuracy")
    by_epoch.set_xlabel(f"epochs, with {min(densities):.3g} of the weights")
    by_epoch.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*by_density.get_legend_handles_labels(), loc="outside right upper")
    for axes in (by_density, by_epoch):
        _show_accuracies(axes)
    return figure


def _side_by_side(title):
    """A figure, and two axes in it that share the upward one."""
    figure = Figure(figsize=(10, 4.8), dpi=120, layout="constrained")
    figure.suptitle(title)
    return figure, figure.subplots(1, 2, sharey=True)


def _show_accuracies(axes):
    """Makes axes those of accuracies, upwards."""
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
