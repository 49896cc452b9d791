import itertools

import keras
import numpy as np
from keras import ops

from keras_nladv.tangent.batches import count
from keras_nladv.tangent.unlabelled_batches import with_signs


class StreamedBatches:
    """Batches of inputs that a dataset, a generator or a data loader makes.

    All are of the size of the first: those that are smaller are left out.

    Args:
        source: What makes batches. Unless it is an iterator, it does so anew whenever it ends.
        checked: Function of a batch that returns inputs as NumPy arrays.
        seed: Integer.
        signs: Function of the size of a batch that returns the shape of its signs, or `None`.
        steps: Integer, the number of batches in an epoch, or `None`: those that there are.
        epoch: Integer, the first epoch.
        copies: Integer, the number of devices that a batch is for, whole on each.
    """

    def __init__(self, source, checked, seed, signs, steps, epoch, copies=1):
        self._source = source
        self._checked = checked
        self.seed = seed
        self._epoch = epoch
        self._copies = copies
        self._rest = self._forever()
        self._size = count(self.first(1)[0])
        self._signs = signs(self._size)
        if steps is None:
            if hasattr(source, "__next__"):
                raise ValueError(
                    "`steps_per_epoch` must say how many batches of an iterator or generator are "
                    "an epoch. Received: steps_per_epoch=None"
                )
            steps = sum(count(x) == self._size for x in self._once())
        self.steps = steps

    def first(self, number):
        """A list of the inputs of the first batches. They come again."""
        taken = list(itertools.islice(self._rest, number))
        if not taken:
            raise ValueError(f"`x` must give batches. Received: {self._source!r}, which gives none")
        self._rest = itertools.chain(taken, self._rest)
        return taken

    def gathered(self, number=None):
        """The inputs of batches, together. They do not come again."""
        taken = list(itertools.islice(self._once(), number))
        return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *taken)

    def __iter__(self):
        full = (x for x in self._rest if count(x) == self._size)
        for number, x in enumerate(full):
            epoch, index = divmod(number, self.steps)
            yield with_signs(x, self._signs, [self.seed, self._epoch + epoch, index], self._copies)

    def _forever(self):
        if hasattr(self._source, "__next__"):
            yield from self._once()
            return
        while True:
            before = None
            for before in self._once():
                yield before
            if before is None:
                return

    def _once(self):
        source = self._source
        if isinstance(source, keras.utils.PyDataset):
            source = map(source.__getitem__, range(len(source)))
        return map(self._checked, source)


def is_stream(x):
    """Whether `x` makes batches, as against arrays and structures of them."""
    if isinstance(x, (dict, list, tuple, np.ndarray)) or ops.is_tensor(x) or hasattr(x, "shape"):
        return False
    return isinstance(x, keras.utils.PyDataset) or hasattr(x, "__iter__")
