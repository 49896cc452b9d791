import keras
from keras import ops


class SmoothedCrossEntropy(keras.losses.Loss):
    """Cross-entropy of logits, with a share of each label spread over all classes.

    The mean is that over tokens that count, not over padding.

    Args:
        smoothing: Float, the share.
    """

    def __init__(self, smoothing):
        super().__init__(reduction="mean_with_sample_weight", name="smoothed_cross_entropy")
        self.smoothing = smoothing

    def call(self, y_true, y_pred):
        log = ops.log_softmax(ops.cast(y_pred, "float32"))
        right = ops.take_along_axis(log, ops.cast(y_true, "int32")[..., None], axis=-1)[..., 0]
        return -(1 - self.smoothing) * right - self.smoothing * ops.mean(log, axis=-1)

    def get_config(self):
        return {"smoothing": self.smoothing}
