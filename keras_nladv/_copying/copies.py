import warnings
from collections import defaultdict

import keras

from keras_nladv._copying.state import transfer_state
from keras_nladv._keras import private


class Copies:
    """What is a copy of what, from when it is made until it has the weights of its original.

    Attributes:
        detached: Dict from the `id`s of layers to copies of them without their activations.
    """

    def __init__(self):
        # With the originals, which have to stay alive for their `id`s.
        self._pairs = []
        self._whole = {}
        self.detached = {}
        # By the copy's `id`: the `id`s of what has no counterpart in the other of the pair.
        self._unmatched = defaultdict(set)
        # By the original's `id`: its copies by theirs, each with the original.
        self._twins: dict[int, dict[int, keras.Layer]] = defaultdict(dict)

    def __contains__(self, original):
        return id(original) in self._whole

    def __getitem__(self, original):
        return self._whole[id(original)]

    def __iter__(self):
        """The pairs of an original and its copy, in the order in which they were made."""
        return iter(self._pairs)

    def keep(self, original, copy, detached=False):
        """Notes what the copy of a layer or operation is. Returns the copy."""
        self._pairs.append((original, copy))
        (self.detached if detached else self._whole)[id(original)] = copy
        return copy

    def leave_out(self, copy, part):
        """Lets a layer inside a copy, or inside its original, have no counterpart in the other."""
        self._unmatched[id(copy)].update(map(id, private.sublayers(part)))

    def transfer_weights(self):
        """Gives the copies the weights of their originals."""
        # Models before what is in them, whose `trainable` theirs sets.
        for original, copy in reversed(self._pairs):
            if not isinstance(original, keras.Layer):
                continue
            if private.is_functional(original):
                if not original.trainable:
                    copy.trainable = False
                continue
            self._leave_out_known_parts(original, copy)
            for old, new in transfer_state(original, copy, self._unmatched[id(copy)]):
                if old.weights:
                    self._twins[id(old)][id(new)] = old

    def warn_of_separated(self):
        """Warns of layers that are in several others, if these have copies of their own now."""
        names = [
            next(iter(copies.values())).name for copies in self._twins.values() if len(copies) > 1
        ]
        if names:
            warnings.warn(
                f"Layers {', '.join(map(repr, names))} are in several others, and called without "
                "their activations in the copy, or kept with it where a layer is kept whole. There "
                "they have weights of their own in the copy, of the same values: what was one "
                "weight is trained as several.",
                stacklevel=4,
            )

    def _leave_out_known_parts(self, original, copy):
        """Lets what is in an original, and has been copied by itself, be no part of it."""
        parts = {id(part) for part in private.sublayers(copy)}
        for part in private.sublayers(original)[1:]:
            for known in (self._whole.get(id(part)), self.detached.get(id(part))):
                if id(known) in parts:
                    self.leave_out(copy, part)
                    self.leave_out(copy, known)
