import base64
import zlib
from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="keras_nladv")
class FixedMask(keras.constraints.Constraint):
    """Keeps pruned weights at exactly zero.

    Keras applies constraints after each step of an optimizer, so that weights which a mask leaves
    out are zero whatever the step was: momentum, weight decay and loss scaling included. The mask
    is saved with the configuration of the layer, eight weights a byte, and compressed.

    In a loop with an optimizer of `torch.optim` or optax, which know no constraints, call
    `keras_nladv.freeze_linear_units(model)` after each step.

    **Averaged weights are not masked.** Optimizers with `use_ema=True` average what a step leaves
    before constraints are applied, and put it into the model when training ends, or sooner with
    `ema_overwrite_frequency`; `keras.callbacks.SwapEMAWeights` does so for epochs and evaluations,
    and for the checkpoints that are written meanwhile. Assign `variable.constraint(variable)` then;
    the page on pruning has a callback for it.

    Args:
        mask: Array of the shape of the weights, of bools or of zeros and ones: which are kept.
        constraint: Another constraint of the same weights, applied before.

    Raises:
        ValueError: If `mask` holds other numbers; when it is applied, if the shape of the weights
            is not that of the mask.

    Example:

    >>> mask = np.array([[True, False], [False, True]])
    >>> layer = keras.layers.Dense(2, kernel_constraint=FixedMask(mask))
    >>> keras.ops.convert_to_numpy(layer.kernel_constraint(np.ones((2, 2)))).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    def __init__(self, mask: Any, constraint: Any = None):
        mask = np.asarray(mask)
        if mask.dtype != bool and not np.isin(mask, (0, 1)).all():
            raise ValueError(
                "`mask` must hold bools, or zeros and ones. Received: an array of dtype "
                f"{mask.dtype} with other values"
            )
        self.mask = mask.astype(bool)
        self.mask.flags.writeable = False
        self.constraint = keras.constraints.get(constraint)

    def __call__(self, weights):
        if self.constraint is not None:
            weights = self.constraint(weights)
        weights = ops.convert_to_tensor(weights)
        if tuple(weights.shape) != self.mask.shape:
            raise ValueError(
                f"The weights must have the shape of the mask, {self.mask.shape}. Received: "
                f"weights of shape {tuple(weights.shape)}"
            )
        # Not a product: zero times infinity is no zero.
        return ops.where(self.mask, weights, ops.zeros_like(weights))

    def get_config(self):
        bits = zlib.compress(np.packbits(self.mask).tobytes())
        return {
            "shape": list(self.mask.shape),
            "bits": base64.b64encode(bits).decode(),
            "constraint": keras.constraints.serialize(self.constraint),
        }

    @classmethod
    def from_config(cls, config):
        shape = config["shape"]
        bits = np.frombuffer(zlib.decompress(base64.b64decode(config["bits"])), "uint8")
        mask = np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape)
        return cls(mask, config["constraint"])
