from dataclasses import dataclass

import numpy as np

from keras_nladv.graph.channel_graph import NO_CHANNEL


@dataclass(frozen=True)
class Channels:
    """A tensor of the model as the channel graph sees it: which channel each element belongs to.

    Attributes:
        labels: Integer array with an axis for each axis of the tensor, the batch axis included.
            The size of an axis is 1 if the channel does not depend on it, and else the tensor's.
        shape: The tensor's shape, `None` for unknown sizes.
        dtype: The tensor's dtype, a string.
    """

    labels: np.ndarray
    shape: tuple[int | None, ...]
    dtype: str

    @property
    def is_constant(self):
        """Whether no path leads through the tensor."""
        return not self.labels.any()

    @property
    def channel_axis(self):
        """The axis that tells channels apart; the last one if several do or none."""
        axes = [axis for axis, size in enumerate(self.labels.shape) if size > 1]
        return axes[0] if len(axes) == 1 else len(self.shape) - 1

    def full_labels(self, unknown=1):
        """The labels with an entry for each element.

        Args:
            unknown: Integer. What unknown sizes are taken for, where labels do not vary.
        """
        sizes = [
            size if size is not None else label if label > 1 else unknown
            for label, size in zip(self.labels.shape, self.shape)
        ]
        return np.broadcast_to(self.labels, sizes)


def compress(labels):
    """Reduces axes along which labels do not change to size 1."""
    for axis, size in enumerate(labels.shape):
        first = labels.take([0], axis) if size else np.full((1,), NO_CHANNEL)
        if size > 1 and (labels == first).all():
            labels = first
    return labels
