import contextlib
import numbers
import os
import warnings
from typing import Any

import keras


class EventCallback(keras.callbacks.Callback):
    """A callback that can write events for TensorBoard, once an epoch.

    Args:
        log_dir: `None`, or the path of a directory.

    Attributes:
        log_dir: `None`, or the path as a string.

    Raises:
        ImportError: If `log_dir` is given and TensorBoard is not installed.
        ValueError: If `log_dir` is no path.
    """

    def __init__(self, log_dir=None):
        super().__init__()
        self.log_dir = None
        if log_dir is not None:
            if not isinstance(log_dir, (str, os.PathLike)) or not os.fspath(log_dir):
                raise ValueError(
                    "`log_dir` must be `None` or the path of a directory. Received: "
                    f"log_dir={log_dir!r}"
                )
            # What this needs is not installed with every keras_nladv.
            from keras_nladv.event_writer import EventWriter

            self.log_dir = os.fspath(log_dir)
            self._EventWriter = EventWriter
        self._writer: Any = None

    def on_train_begin(self, logs=None):
        self._close()  # An interrupted training leaves it open.
        self._unopened = self.log_dir is not None

    def on_epoch_begin(self, epoch, logs=None):
        # Only here it is known at which epoch training begins.
        if self._unopened:
            self._unopened = False
            with self.warning_of_errors():
                self._writer = self._EventWriter.of(self.log_dir, epoch)

    def on_train_end(self, logs=None):
        self._close()

    def _close(self):
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    @property
    def is_writing(self):
        """Whether there is a file that events go to."""
        return self._writer is not None

    def write_events(self, epoch, logs, histograms, images):
        """Writes what belongs to an epoch: all numbers of its logs, and more.

        Args:
            epoch: Integer.
            logs: Dict, the logs of the epoch.
            histograms: Dict from tags to arrays.
            images: Dict from tags to `PIL.Image.Image`s.
        """
        scalars = {tag: value for tag, value in logs.items() if isinstance(value, numbers.Real)}
        with self.warning_of_errors():
            self._writer.write(epoch, scalars, histograms, images)

    @contextlib.contextmanager
    def warning_of_errors(self):
        """Training goes on where the disk does not."""
        try:
            yield
        except OSError as error:
            self._close()
            warnings.warn(
                f"`{type(self).__name__}` cannot write to log_dir={self.log_dir!r}: {error}. "
                "Training goes on without events for TensorBoard.",
                stacklevel=2,
            )
