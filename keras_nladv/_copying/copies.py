from collections import defaultdict

import keras

from keras_nladv._copying.state import transfer_state
from keras_nladv._keras import private


class Copies:
    """What is a copy of what, from when it is made until it has the weights of its original."""

    def __init__(self):
        # By the original's `id`, with the original, which has to stay alive for that.
        self._pairs = {}
        # By the original's `id`: the `id`s of what has no counterpart in the other of the pair.
        self._unmatched = defaultdict(set)

    def __contains__(self, original):
        return id(original) in self._pairs

    def __getitem__(self, original):
        return self._pairs[id(original)][1]

    def __iter__(self):
        """The pairs of an original and its copy, in the order in which they were made."""
        return iter(self._pairs.values())

    def keep(self, original, copy):
        """Notes what the copy of a layer or operation is. Returns the copy."""
        self._pairs[id(original)] = original, copy
        return copy

    def leave_out(self, original, part):
        """Lets a layer inside an original, or inside its copy, have no counterpart in the other."""
        self._unmatched[id(original)].update(map(id, private.sublayers(part)))

    def transfer_weights(self):
        """Gives the copies the weights of their originals."""
        # Models before what is in them, whose `trainable` theirs sets.
        for original, copy in reversed(self._pairs.values()):
            if not isinstance(original, keras.Layer):
                continue
            if private.is_functional(original):
                if not original.trainable:
                    copy.trainable = False
                continue
            transfer_state(original, copy, self._unmatched[id(original)])
