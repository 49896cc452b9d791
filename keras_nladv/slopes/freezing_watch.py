import warnings
import weakref
from typing import Any, ClassVar

import numpy as np
from keras import ops

from keras_nladv._keras import private
from keras_nladv.layers.sparse_prelu import SparsePReLU


class FreezingWatch:
    """Warns, once for a model, when slopes have crossed 1 in training and nothing froze them."""

    _warned: ClassVar[weakref.WeakSet[Any]] = weakref.WeakSet()

    def __init__(self):
        self._starts: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def start(self, model):
        """Notes where slopes are before a model is trained, as far as it is built."""
        self._starts.clear()
        self.look(model)

    def look(self, model):
        """Compares slopes with those of the first look since the start.

        Args:
            model: A model that is trained between looks.
        """
        found = [each for each in private.sublayers(model) if isinstance(each, SparsePReLU)]
        crossed = {each.name: self._crossed(each) for each in found if each.built}
        crossed = {name: number for name, number in crossed.items() if number}
        if not crossed or self._warned.issuperset(found):
            return
        self._warned.update(found)
        warnings.warn(
            f"Slopes of {sum(crossed.values())} units of model '{model.name}' (in layer "
            f"{', '.join(crossed)}) have crossed 1, and nothing froze them: the training step "
            "applies no constraints. Call `keras_nladv.freeze_linear_units(model)` after each step "
            "of the optimizer, or train with an optimizer of Keras.",
            stacklevel=3,
        )

    def _crossed(self, layer):
        # Constraints leave no 0 in `side`: where they are applied, slopes are not read.
        loose = ops.convert_to_numpy(layer.side) == 0
        if not loose.any():
            return 0
        slopes = layer.slopes
        start = self._starts.setdefault(layer, slopes)
        return int(np.sum(loose & ((1 - start) * (1 - slopes) < 0)))
