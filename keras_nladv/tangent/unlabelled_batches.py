from typing import Any

import keras
import numpy as np


class UnlabelledBatches(keras.utils.PyDataset):
    """Batches of inputs, with random signs that project kernels.

    The seed, the epoch and the number of the batch decide what is in it: whoever goes on in a later
    epoch, on any backend, gets what would have come. Examples that are left when all batches are
    full wait for another epoch.

    Args:
        x: Inputs, a structure of NumPy arrays.
        batch_size: Integer.
        seed: Integer.
        signs: Shape of the signs of a batch, or `None`.
        steps: Integer, the number of batches in an epoch at most, or `None`.
        copies: Integer, the number of devices that a batch is for, whole on each.
    """

    def __init__(self, x, batch_size, seed, signs, steps=None, copies=1):
        super().__init__()
        self.x = x
        self.copies = copies
        self.batch_size = batch_size
        self.seed = seed
        self.signs = signs
        self.steps = self.number // batch_size
        if steps is not None:
            self.steps = min(steps, self.steps)
        self.start(0)

    @property
    def number(self):
        """The number of examples."""
        return len(keras.tree.flatten(self.x)[0])

    def start(self, epoch):
        """Draws the order of an epoch."""
        self.epoch = epoch
        self._order = np.random.default_rng([self.seed, epoch]).permutation(self.number)

    def epochs(self):
        """A callback that gets ready for each epoch."""
        return keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: self.start(epoch))

    def __len__(self):
        return self.steps

    def first(self, number):
        """A list of the inputs of the first batches."""
        batches = [self[index] for index in range(min(number, self.steps))]
        return [keras.tree.map_structure(lambda each: each[0], x) for ((x, *_),) in batches]

    def __getitem__(self, index):
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        x = keras.tree.map_structure(lambda each: each[chosen], self.x)
        return with_signs(x, self.signs, [self.seed, self.epoch, index], self.copies)


def with_signs(x, signs, seed, copies):
    """What a `NeuralTangentTransfer` is called on: a batch, with random signs if there are any."""
    batch: tuple[Any, ...] = (x,)
    if signs is not None:
        batch += (np.random.default_rng(seed).choice(np.array([-1, 1], "float32"), signs),)
    # Behind an axis that devices share: for Keras, that of a batch has no size where it compiles.
    return (keras.tree.map_structure(lambda each: np.repeat(each[None], copies, axis=0), batch),)
