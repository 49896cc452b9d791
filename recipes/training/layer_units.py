import keras

from keras_nladv import nonlinearity_report


class LayerUnits(keras.callbacks.Callback):
    """Counts after each epoch the nonlinear units of each activation.

    It adds `nonlinear/NAME` to the logs; and with images the shares of units that are never on and
    always on, `dead/NAME` and `always_on/NAME`. It stands after callbacks that shall not see these.

    Args:
        images: Array, the images to watch the units on; none of them for counts alone.
    """

    def __init__(self, images):
        super().__init__()
        self.images = images

    def on_epoch_end(self, epoch, logs=None):
        images = self.images if len(self.images) else None
        for row in nonlinearity_report(self.model, images).rows:
            for key in ("nonlinear", "dead", "always_on"):
                if key in row:
                    logs[f"{key}/{row['name']}"] = row[key]
