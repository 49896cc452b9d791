"""What TensorBoard shows of a training."""

from keras_nladv.event_callback import EventCallback


class Events(EventCallback):
    """Writes the logs of each epoch for TensorBoard, without TensorFlow.

    Args:
        log_dir: Path of the directory.
    """

    def on_epoch_end(self, epoch, logs=None):
        if self.is_writing:
            self.write_events(epoch, logs, {}, {})
