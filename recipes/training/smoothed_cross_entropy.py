import keras
from keras import ops

from training.devices import part


class SmoothedCrossEntropy(keras.losses.Loss):
    """Cross-entropy, with a share of each label spread over all classes.

    It is computed from the logarithms of probabilities: where there are thousands of classes, each
    softmax that a loss or a metric computes for itself takes a good part of a training step. The
    mean is that over tokens that count, not over padding, on all devices.

    Args:
        smoothing: Float, the share.
    """

    def __init__(self, smoothing=0.0):
        super().__init__(reduction="mean_with_sample_weight", name="smoothed_cross_entropy")
        self.smoothing = smoothing

    def __call__(self, y_true, y_pred, sample_weight=None):
        loss = super().__call__(y_true, y_pred, sample_weight)
        return loss if sample_weight is None else loss * part(ops.sum(sample_weight))

    def call(self, y_true, y_pred):
        labels = ops.cast(y_true, "int32")[..., None]
        loss = -ops.take_along_axis(y_pred, labels, axis=-1)[..., 0]
        if self.smoothing:
            loss = (1 - self.smoothing) * loss - self.smoothing * ops.mean(y_pred, axis=-1)
        return loss

    def get_config(self):
        return {"smoothing": self.smoothing}
