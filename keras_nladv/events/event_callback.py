import contextlib
import numbers
import warnings
from typing import Any

import keras

from keras_nladv._common.arguments import directory


class EventCallback(keras.callbacks.Callback):
    """A callback that can write events for TensorBoard, once an epoch.

    Args:
        log_dir: `None`, or the path of a directory of this machine.

    Attributes:
        log_dir: `None`, or the path as a string.

    Raises:
        ImportError: If `log_dir` is given and TensorBoard is not installed.
        ValueError: If `log_dir` is no path, or an address as `gs://bucket/run`.
    """

    def __init__(self, log_dir=None):
        super().__init__()
        self.log_dir = None
        if log_dir is not None:
            self.log_dir = directory("log_dir", log_dir)
            # What this needs is not installed with every keras_nladv.
            from keras_nladv.events.event_writer import EventWriter

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
        writer, self._writer = self._writer, None
        if writer is not None:
            with self.warning_of_errors():
                writer.close()

    @property
    def is_writing(self):
        """Whether there is a file that events go to."""
        return self._writer is not None

    def write_events(self, epoch, logs, histograms, images):
        """Writes what belongs to an epoch: all numbers of its logs, and more.

        Args:
            epoch: Integer.
            logs: Dict, the logs of the epoch. A number is what Python, NumPy or the backend has for
                one: an array, a tensor or a variable that holds one value is a number, too.
            histograms: Dict from tags to arrays.
            images: Dict from tags to images, each a `PIL.Image.Image`.
        """
        scalars = {tag: _number(value) for tag, value in logs.items()}
        scalars = {tag: value for tag, value in scalars.items() if value is not None}
        with self.warning_of_errors():
            self._writer.write(epoch, scalars, histograms, images)

    @contextlib.contextmanager
    def warning_of_errors(self):
        """Training goes on where the disk does not."""
        try:
            yield
        except OSError as error:
            writer, self._writer = self._writer, None
            if writer is not None:
                # It may fail once more: what was not written is written when a file is closed.
                with contextlib.suppress(OSError):
                    writer.close()
            warnings.warn(
                f"`{type(self).__name__}` cannot write to log_dir={self.log_dir!r}: {error}. "
                "Training goes on without events for TensorBoard.",
                stacklevel=2,
            )


def _number(value):
    """A log as a float, `None` if it is no number."""
    try:
        if isinstance(value, numbers.Real):
            return float(value)
        if isinstance(value, keras.Variable) or keras.ops.is_tensor(value):
            # Not every backend makes arrays of bfloat16, and single precision is what is written.
            value = keras.ops.cast(value, "float32")
        array = keras.ops.convert_to_numpy(value)
        # Others can be converted, too, and mean no number: text, dates, `None`.
        one = array.size == 1 and array.dtype.kind in "biufV"
        return float(array.astype("float64").item()) if one else None
    # What backends raise of other things is of many kinds.
    except Exception:
        return None
