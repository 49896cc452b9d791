import keras

from keras_nladv.tangent import optimizer_reset


class FeatureUpdates(keras.callbacks.Callback):
    """What `fit` does for an `IterativeLinearization`: it logs, and it resets the optimizer.

    The point moves inside the step. The optimizer cannot be reset there: on JAX, its variables are
    not seen where the model is called.
    """

    def on_train_begin(self, logs=None):
        self._resets = self.model.reset_optimizer
        if self._resets:
            optimizer_reset.require_resettable(self.model)

    def on_epoch_begin(self, epoch, logs=None):
        self._due = self.model.steps_left

    def on_train_batch_begin(self, batch, logs=None):
        # On JAX, `self.model` fetches all variables: only where that is needed.
        if self._resets and batch == self._due:
            # It may not be due any more, if the point was moved by hand.
            left = self.model.steps_left
            if left == 0:
                optimizer_reset.reset(self.model)
            self._due += left or self.model.period

    def on_epoch_end(self, epoch, logs=None):
        logs["feature_updates"] = self.model.feature_updates
