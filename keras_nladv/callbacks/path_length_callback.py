import os

import numpy as np

from keras_nladv._common.arguments import flag
from keras_nladv.events.event_callback import EventCallback
from keras_nladv.graph.path_graph import PathGraph
from keras_nladv.slopes.freezing_watch import FreezingWatch


class PathLengthCallback(EventCallback):
    """Measures after each epoch how nonlinear the model still is.

    It adds to the logs of the epoch `path_length`, the average number of nonlinear units on a path
    from the input to the output, and `nonlinear_units`, the fraction of units that are nonlinear.
    `History` records them. Callbacks that shall see them, `keras.callbacks.EarlyStopping` or
    `ModelCheckpoint` say, stand after this one in the list.

    With `log_dir` it also writes events for TensorBoard, on every backend and without TensorFlow:
    scalars (everything in the logs when its turn comes, `loss` and metrics included), histograms
    of the slopes of each layer, and a picture of the nonlinear core. When training is resumed with
    `initial_epoch` into the same directory, epochs that are trained again replace the old ones.
    When the directory cannot be written, or is removed, a warning says so and training goes on.

    Args:
        log_dir: `None`, or the path of a directory for TensorBoard.
        unnormalized: Boolean. Whether to add `path_length_unnormalized` to the logs as well.
        weights: Boolean. Whether to count only edges whose weights are not all zero, as
            `path_length` does.

    Raises:
        ImportError: If `log_dir` is given and TensorBoard is not installed.
        ValueError: If `log_dir` is no path on this machine; when training begins, if the path
            length of the model cannot be computed.

    Example:

    >>> model = keras.Sequential(
    ...     [keras.Input((8,)), keras.layers.Dense(4), SparsePReLU(), keras.layers.Dense(1)]
    ... )
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(
    ...     np.ones((16, 8)), np.ones((16, 1)), callbacks=[PathLengthCallback()], verbose=0
    ... )
    >>> history.history["path_length"], history.history["nonlinear_units"]
    ([1.0], [1.0])

    Source: *Nonlinear Advantage*, arXiv 2211.17180.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] | None = None,
        unnormalized: bool = False,
        weights: bool = False,
    ):
        super().__init__(log_dir)
        self.unnormalized = flag("unnormalized", unnormalized)
        self.weights = flag("weights", weights)
        self._watch = FreezingWatch()
        if log_dir is not None:
            from keras_nladv.callbacks.core_drawing import draw_core

            self._draw_core = draw_core

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._checked = False
        self._watch.start(self.model)
        if self.model.built:
            self._check()

    def on_train_batch_begin(self, batch, logs=None):
        # With TensorFlow, a model may be built only while the first batch runs.
        if not self._checked and batch > 0:
            self._check()

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        self._watch.look(self.model)
        graph = PathGraph.of(self.model, self.weights)
        # Reading the slopes takes longest: once for everything.
        units = graph.activations()
        logs["path_length"] = graph.path_length(True, units)
        if self.unnormalized:
            logs["path_length_unnormalized"] = graph.path_length(False, units)
        nonlinear = [activation.nonlinear for activation in units]
        logs["nonlinear_units"] = float(np.concatenate([[], *nonlinear]).mean()) if units else 0.0
        if self.is_writing:
            slopes = {f"alpha/{unit.name}": unit.slopes for unit in units}
            # A training that diverges shall end as the user wants it to, not with an error here.
            finite = {
                tag: values[np.isfinite(values)]
                for tag, values in slopes.items()
                if values is not None
            }
            self.write_events(epoch, logs, finite, {"core": self._draw_core(units)})

    def _check(self):
        PathGraph.of(self.model, self.weights)
        self._checked = True
