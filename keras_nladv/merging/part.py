from dataclasses import dataclass

import keras
import numpy as np

from keras_nladv.layers.sparse_prelu import SparsePReLU


@dataclass(frozen=True)
class Part:
    """What is saved in a part of a network, between two maps, as units in it become linear.

    Attributes:
        layers: Tuple of the names of its activations, and of how many slopes each has for a channel
            that is linear throughout or not.
        saved: Dict from shares of its channels that are linear to what is saved.
    """

    layers: tuple[tuple[str, int], ...]
    saved: dict[float, float]

    def saved_now(self, layers):
        """What is saved with the slopes that layers have, between the shares that are known.

        Args:
            layers: Dict from names to layers.
        """
        straight: np.ndarray | bool = True
        for name, slopes in self.layers:
            linear = slopes_of(layers[name]) == 1.0
            # One slope may be that of all channels.
            straight = straight & (
                linear.reshape(-1, slopes).all(axis=1) if linear.size > 1 else linear
            )
        share = np.mean(straight)
        return float(np.interp(share, [0.0, *self.saved], [0.0, *self.saved.values()]))


def slopes_of(layer):
    """The slopes of a `SparsePReLU` or `PReLU` in a row."""
    if isinstance(layer, SparsePReLU):
        return layer.slopes.ravel()
    return keras.ops.convert_to_numpy(layer.alpha).ravel()
