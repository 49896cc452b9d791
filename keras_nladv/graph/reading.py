import keras
import numpy as np

from keras_nladv._keras import private
from keras_nladv.graph.activation import Activation
from keras_nladv.graph.channel_graph import NO_CHANNEL, ChannelGraph


class Reading:
    """What has been read of a model so far: its channels and its activations.

    Args:
        skips_zeros: Boolean. Whether edges whose weights are all zero do not count.

    Attributes:
        skips_zeros: As given.
        graph: The `ChannelGraph`.
        activations: List of `Activation`, in the order in which they are met.
        assumes_sizes: Whether a layer is open whose unknown sizes had to be assumed.
    """

    def __init__(self, skips_zeros):
        self.skips_zeros = skips_zeros
        self.graph = ChannelGraph()
        self.activations: list[Activation] = []
        self.assumes_sizes = False
        self._indices: dict[tuple[str | int, int], int] = {}
        self._behind: dict[bytes, Activation] = {}
        self._factors: dict[bytes, np.ndarray] = {}
        self._given: dict[int, np.ndarray | None] = {}
        self._open_gates: list[keras.Operation] = []

    def meet(self, activation, labels, units):
        """Notes an activation, and which of its units some channels run through.

        Args:
            activation: An `Activation`. One met before gains positions.
            labels: Integer array, the channels right behind it.
            units: Integer array that broadcasts with `labels`: the unit that each element meets.
        """
        index = self._register(activation)
        pairs = np.stack([part.ravel() for part in np.broadcast_arrays(labels, units)])
        pairs, elements = np.unique(pairs[:, pairs[0] != NO_CHANNEL], axis=1, return_counts=True)
        shares = elements / np.bincount(pairs[0], elements)[pairs[0]]
        self.graph.visit(pairs[0], index, pairs[1], shares)
        self._behind[labels.tobytes()] = self.activations[index]

    def activation_before(self, channels):
        """The `Activation` right before some `Channels`, or `None`."""
        return self._behind.get(channels.labels.tobytes())

    def note_factors(self, labels, factors):
        """Notes by how much less an activation puts out, an array of shape (units,), by the labels
        behind it."""
        self._factors[labels.tobytes()] = factors

    def note_given(self, layer, channels):
        """Notes by how much less a layer is given of some `Channels`, if that is known."""
        self._given[id(layer)] = self._factors.get(channels.labels.tobytes())

    def given_to(self, layer):
        """By how much less a layer is given, an array of shape (inputs,), or `None`."""
        return self._given.get(id(layer))

    def note_open_gate(self, operation):
        """Notes a bound by which a gate is kept open for some units."""
        self._open_gates.append(operation)

    def is_open_gate(self, operation):
        return any(operation is each for each in self._open_gates)

    def _register(self, activation):
        """Returns the index of an activation."""
        layer = activation.layer
        # Operations inside a composite layer are made anew by each run of it.
        key = activation.name if private.is_keras_operation(layer) else id(layer)
        # One without slopes may be called on tensors of several sizes.
        key = key, activation.units
        if key not in self._indices:
            self._indices[key] = len(self.activations)
            self.activations.append(activation)
            return self._indices[key]
        known = self.activations[self._indices[key]]
        if None not in (known.positions, activation.positions):
            known.positions += activation.positions
        return self._indices[key]
