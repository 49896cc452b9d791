import math
import time

import keras
from tqdm import tqdm

from running import workers
from running.errors import RecipeError

# What `Progress` shows of classifiers, and of linearization.
CLASSIFIER = {
    "cross_entropy": ("loss", "{:.4f}"),
    "accuracy": ("accuracy", "{:.2%}"),
    "val_accuracy": ("test", "{:.2%}"),
}
LINEARIZATION = {
    "path_length": ("path length", "{:.2f}"),
    "nonlinear_units": ("nonlinear", "{:.1%}"),
    "omega": ("omega", "{:.2g}"),
}


def progress_bar(total, initial, unit):
    """A bar, but where the output is no terminal: there, the lines above it say how far it is.

    Args:
        total: Integer, the number of units.
        initial: Integer, how many of them are done.
        unit: String, what one is called.
    """
    return tqdm(
        total=total,
        initial=initial,
        unit=unit,
        disable=True if workers.rank() else None,
        leave=False,
        dynamic_ncols=True,
    )


class Progress(keras.callbacks.Callback):
    """Shows progress, commits each epoch to the run directory, and stops when the loss diverges.

    It stands last in the list of callbacks, so that the logs are complete.

    Args:
        run: The `Run`.
        columns: Dict from names in the logs to what is shown of them: a heading and a format. Of
            what is not in the logs of an epoch, nothing is.
        commit: Boolean. Whether to commit the epochs.
    """

    def __init__(self, run, columns, commit=True):
        super().__init__()
        # Batches are noted in another thread, and so the next step need not wait for the loss.
        # Processes that train together have to stop after the same one.
        self.async_safe = workers.alone()
        self.run = run
        self.columns = columns
        self.commit = commit
        self._diverged = False

    def on_train_begin(self, logs=None):
        epochs, steps = self.params["epochs"], self.params["steps"]
        self._bar = progress_bar(epochs * steps, self.run.epochs * steps, "step")
        self._start = time.perf_counter() - self.run.seconds
        self._show("epoch", *(heading for heading, _ in self.columns.values()), "elapsed")

    def on_train_batch_begin(self, batch, logs=None):
        if self._diverged:
            self.model.stop_training = True

    def on_train_batch_end(self, batch, logs=None):
        self._diverged = self._diverged or not math.isfinite(logs["loss"])
        self._bar.update()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self._start
        if not all(math.isfinite(logs[key]) for key in ("loss", "val_loss") if key in logs):
            self._bar.close()
            kept = self.run.checkpoints[0]["file"] if self.run.checkpoints else None
            raise RecipeError(
                f"Training stopped in epoch {epoch + 1}: the loss is not finite any more. A "
                "smaller --learning-rate or --strength may help. "
                + (f"The last good checkpoint is `{self.run.path / kept}`." if kept else "")
            )
        if self.commit:
            self.run.commit(self.model, logs, seconds)
        done, epochs = epoch + 1, self.params["epochs"]
        values = (
            form.format(logs[key]) if key in logs else "-"
            for key, (_, form) in self.columns.items()
        )
        self._show(f"{done}/{epochs}", *values, f"{seconds:.0f} s")

    def on_train_end(self, logs=None):
        self._bar.close()

    def _show(self, *cells):
        tqdm.write("  ".join(f"{cell:>11}" for cell in cells))
