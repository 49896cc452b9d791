from keras_nladv.events.event_callback import EventCallback


class EventLog(EventCallback):
    """Writes the logs of each epoch for TensorBoard, without TensorFlow.

    Args:
        log_dir: `None`, or the path of a directory.
    """

    def on_epoch_end(self, epoch, logs=None):
        if self.is_writing:
            self.write_events(epoch, logs or {}, {}, {})
