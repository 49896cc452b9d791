from typing import Any

import keras


class MaskUpdates(keras.callbacks.Callback):
    """Lets a `NeuralTangentTransfer` choose its masks anew, every so many iterations.

    It does so before an iteration: none is left over after the last, with weights that have not
    settled, and whoever goes on in a later epoch gets the masks that would have come.
    """

    def on_train_begin(self, logs=None):
        self._every = self.model.mask_every
        self._last: Any = None

    def on_epoch_begin(self, epoch, logs=None):
        self._first = epoch * self.params["steps"]
        if self._last is None:
            self._last = self._first - 1

    def on_train_batch_begin(self, batch, logs=None):
        last, self._last = self._last, self._first + batch
        # On JAX, asking for the model brings its weights here: not before every batch. Those that
        # it starts with have masks.
        if last >= 0 and last // self._every < self._last // self._every:
            self.model.update_masks()
