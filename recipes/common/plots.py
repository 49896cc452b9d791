"""The pictures of a run directory."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

BLUE, ORANGE, GRAY = "#2f5d9e", "#e08e0b", "#8a8a8a"


def plot_training(history, start_epoch, title):
    """Draws accuracy, loss and linearization over the epochs.

    Args:
        history: List of dicts, the logs of each epoch.
        start_epoch: Integer, the number of epochs before linearization started.
        title: What stands above.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    epochs = range(1, len(history) + 1)

    def values(key):
        return [logs[key] for logs in history]

    figure = Figure(figsize=(8, 9), dpi=120, layout="constrained")
    figure.suptitle(title)
    accuracy, loss, length, pressure = figure.subplots(
        4, 1, sharex=True, height_ratios=[3, 3, 3, 1.5]
    )

    accuracy.plot(epochs, values("accuracy"), color=GRAY, label="training")
    accuracy.plot(epochs, values("val_accuracy"), color=BLUE, label="test")
    accuracy.set_ylabel("accuracy")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    # The first epochs are left out of sight where they would hide the rest.
    settled = values("val_accuracy")[len(history) // 4 :]
    accuracy.set_ylim(max(1 - 1.5 * (1 - min(settled)), 0), 1.01)
    accuracy.legend(loc="lower right")

    loss.plot(epochs, values("cross_entropy"), color=GRAY, label="training")
    loss.plot(epochs, values("val_cross_entropy"), color=BLUE, label="test")
    loss.set_yscale("log")
    loss.set_ylabel("cross-entropy")
    loss.legend(loc="upper right")

    length.plot(epochs, values("path_length"), color=BLUE)
    length.set_ylim(bottom=0)
    length.set_ylabel("average path length", color=BLUE)
    units = length.twinx()
    units.plot(epochs, values("nonlinear_units"), color=ORANGE)
    units.set_ylim(0, 1.05)
    units.yaxis.set_major_formatter(PercentFormatter(1.0))
    units.set_ylabel("nonlinear units", color=ORANGE)

    pressure.step(epochs, values("omega"), color=GRAY, where="mid")
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
