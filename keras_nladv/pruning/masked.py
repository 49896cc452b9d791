from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_nladv.pruning.kernel import prunable
from keras_nladv.pruning.masking import constrain, copied, warn_if_cut


def masked(model: keras.Model, masks: Mapping[str, Any]) -> keras.Model:
    """Copies a model, with some weights of its kernels pruned.

    The pruned weights are zero, and stay zero through training, saving and loading: the layers of
    the copy have `FixedMask` constraints. What was pruned before stays pruned. Otherwise the copy
    is like the model, which is left as it is; it is not compiled.

    Args:
        model: A built Functional or Sequential model.
        masks: Dict from names of kernels, as `prunable` gives them, to bool arrays of their shapes:
            which weights are kept. Other kernels stay as they are.

    Returns:
        A model. If masks cut every path from the inputs to some of its outputs, a warning says to
        how many.

    Raises:
        ValueError: If the model cannot be copied, or if a mask is for no kernel of the model or has
            another shape.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="dense")])
    >>> pruned = pruning.masked(model, {"dense/kernel": [[True, False], [False, True]]})
    >>> int(np.count_nonzero(pruned.get_weights()[0]))
    2
    """
    copy = copied(model)
    kernels = {kernel.name: kernel for kernel in prunable(copy)}
    for name, mask in masks.items():
        if name not in kernels:
            raise ValueError(
                f"`masks` must be for kernels that can be pruned: {', '.join(kernels)}. Received: "
                f"a mask for {name!r}"
            )
        shape = tuple(kernels[name].variable.shape)
        if np.shape(mask) != shape:
            raise ValueError(
                f"The mask of {name!r} must have the shape of the kernel, {shape}. Received: "
                f"{np.shape(mask)}"
            )
    for name, mask in masks.items():
        constrain(kernels[name], mask)
    warn_if_cut(copy)
    return copy
