import hashlib
import os
import warnings
from typing import Any

import keras
import numpy as np

from keras_nladv._common.arguments import flag, integer
from keras_nladv.events.event_callback import EventCallback
from keras_nladv.tangent.batches import part
from keras_nladv.tangent.empirical_ntk import empirical_ntk
from keras_nladv.tangent.kernel_distance import kernel_distance, kernel_velocity

START = "ntk_start.npz"


class NTKCallback(EventCallback):
    """Measures how far the empirical neural tangent kernel has moved, and how fast it moves.

    Features are learned while the kernel moves; when it has settled, training is linear in the
    weights. After the first epoch, and after each `every`-th, it adds to the logs `ntk_distance`,
    the `kernel_distance` from the kernel at the start, and `ntk_velocity`, the `kernel_velocity`
    per epoch since it was last measured. `History` records them, as it does validation metrics with
    `validation_freq`. Callbacks that shall see them stand after this one in the list.

    With `log_dir` it also writes events for TensorBoard, on every backend and without TensorFlow:
    scalars (everything in the logs when its turn comes) and a picture of the kernel, summed over
    outputs. It may be the directory of a `PathLengthCallback`.

    When training is resumed with `initial_epoch`, distances are from the original start if the
    callback is the same object or has the same `log_dir`, where the kernel at the start is kept.

    Args:
        x: Inputs, a few examples that do not change: the kernel of n inputs and k outputs has
            `n^2 k^2` entries. In the picture they have the order that they have here: sorted by
            class, say, squares show.
        every: Integer of at least 1. The number of epochs from one measurement to the next.
        log_dir: `None`, or the path of a directory for TensorBoard.
        trace: Boolean. Whether to sum over equal outputs, instead of taking all pairs of outputs.
        variables: List of variables of the model. Defaults to those that are trainable.
        batch_size: Integer. As in `empirical_ntk`.
        method: String. As in `empirical_ntk`.

    Raises:
        ImportError: If `log_dir` is given and TensorBoard is not installed.
        ValueError: If `log_dir` is no path on this machine, or `every` no integer of at least 1;
            when training begins, if the model has no kernel at `x`, or if `log_dir` has the kernel
            at the start of something else.

    Example:

    >>> model = keras.Sequential(
    ...     [keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1)]
    ... )
    >>> model.compile("sgd", "mse")
    >>> x, y = np.random.normal(size=(32, 8)), np.random.normal(size=(32, 1))
    >>> history = model.fit(x, y, epochs=4, callbacks=[tangent.NTKCallback(x[:4])], verbose=0)
    >>> [0 < distance < 1 for distance in history.history["ntk_distance"]]
    [True, True, True, True]

    Source: Fort et al., *Deep Learning versus Kernel Learning*, arXiv 2010.15110.
    """

    def __init__(
        self,
        x,
        every=1,
        log_dir=None,
        trace=False,
        variables=None,
        batch_size=None,
        method="auto",
    ):
        super().__init__(log_dir)
        self.every = integer("every", every, least=1)
        self._x = x
        self._how = {
            "trace": flag("trace", trace),
            "variables": variables,
            "batch_size": batch_size,
            "method": method,
        }
        self._start: Any = None
        if log_dir is not None:
            from keras_nladv.tangent.gram_drawing import draw_gram

            self._draw_gram = draw_gram

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._begun = self._unsaved = False

    def on_epoch_begin(self, epoch, logs=None):
        if not self._begun:
            self._begun = True
            self._begin(epoch)
        super().on_epoch_begin(epoch, logs)
        self._save()

    def _begin(self, epoch):
        if not self.model.built:
            # Otherwise, the first step would do it, and the kernel before it would not be known.
            self.model(part(self._x, 0, 1))
        self._last, self._epochs = self._kernel(), epoch
        if epoch == 0:
            self._start, self._unsaved = self._last, True
        elif self._start is None:
            self._start = self._loaded(epoch)

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        done, images = epoch + 1, {}
        if done == 1 or done % self.every == 0:
            kernel = self._kernel()
            logs["ntk_distance"] = kernel_distance(self._start, kernel)
            logs["ntk_velocity"] = kernel_velocity(self._last, kernel, done - self._epochs)
            self._last, self._epochs = kernel, done
            if self.is_writing:
                summed = kernel if self._how["trace"] else np.trace(kernel, axis1=2, axis2=3)
                images["ntk"] = self._draw_gram(summed)
        if self.is_writing:
            self.write_events(epoch, logs, {}, images)

    def _kernel(self):
        return empirical_ntk(self.model, self._x, **self._how)

    @property
    def _path(self):
        return os.path.join(self.log_dir or "", START)

    @property
    def _inputs(self):
        """A digest of the inputs that the kernel is of."""
        digest = hashlib.sha256()
        for each in keras.tree.flatten(self._x):
            digest.update(keras.ops.convert_to_numpy(each).tobytes())
        return digest.hexdigest()

    def _save(self):
        """Keeps the kernel of the start for trainings that go on from this one."""
        if self._unsaved and self.is_writing:
            self._unsaved = False
            new = self._path + ".new"
            with self.warning_of_errors():
                # A process may be killed at any time.
                with open(new, "wb") as file:
                    np.savez(file, kernel=self._start, inputs=self._inputs)
                os.replace(new, self._path)

    def _loaded(self, epoch):
        """The kernel of the start of a training that goes on here."""
        if self.log_dir is None or not os.path.exists(self._path):
            warnings.warn(
                "`NTKCallback` does not know the kernel at the start of a training that goes on "
                f"at epoch {epoch}: `ntk_distance` is measured from there. Give the `log_dir` that "
                "it had from the start, or the same callback.",
                stacklevel=2,
            )
            return self._last
        try:
            with np.load(self._path) as saved:
                start, inputs = saved["kernel"], saved["inputs"]
        # What NumPy raises of files that are damaged is of many kinds.
        except Exception as error:
            raise ValueError(
                f"`log_dir` must be new, or that of another training. Received: "
                f"log_dir={self.log_dir!r}, whose {START} cannot be read ({error})"
            ) from error
        if (
            str(inputs) != self._inputs
            or start.shape != self._last.shape
            or not np.issubdtype(start.dtype, np.floating)
        ):
            raise ValueError(
                "`log_dir` must be new, or that of a training with the same `x`, outputs and "
                f"`trace`. Received: log_dir={self.log_dir!r}, of another one"
            )
        return start
