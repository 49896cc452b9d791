"""What batches of all kinds have in common."""

import keras
import numpy as np


class SeededBatches(keras.utils.PyDataset):
    """Batches that the seed and the epoch alone decide: a resumed run sees what it would have seen.

    Give `fit` the callback `batches.epochs()` and `shuffle=False`: left to itself, it shuffles the
    batches once more, with Python's global generator.

    Args:
        seed: Integer.
    """

    def __init__(self, seed):
        super().__init__()
        self.seed = seed
        self.start(0)

    def start(self, epoch):
        """Gets ready for an epoch."""
        self.epoch = epoch
        self.draw(np.random.default_rng([self.seed, epoch]))

    def draw(self, rng):
        """Draws the order of an epoch; how, a subclass says."""
        raise NotImplementedError  # Each kind of data has its own.

    def epochs(self):
        """A callback that gets ready for each epoch."""
        # Keras calls `on_epoch_end` of data sets before the first epoch too.
        return keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: self.start(epoch))
