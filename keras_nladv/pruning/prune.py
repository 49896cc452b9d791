from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_nladv._common.arguments import integer
from keras_nladv.constraints.fixed_mask import FixedMask
from keras_nladv.pruning.kernel import Kernel, prunable
from keras_nladv.pruning.largest import largest, require_density
from keras_nladv.pruning.masking import constrain, copied, warn_if_cut

Scores = Callable[[keras.Model, list[Kernel]], Sequence[Any]]


def prune(
    model: keras.Model,
    density: float,
    scores: str | Scores = "magnitude",
    *,
    scope: str = "layer",
    rounds: int = 1,
    select: str | Sequence[str] | Callable[[str, keras.Layer], bool] | None = None,
    seed: int = 0,
) -> keras.Model:
    """Prunes a model: keeps the weights with the largest scores, and sets the others to zero.

    Pruned weights stay zero through any training, saving and loading, see `masked`. Biases and the
    weights of normalization layers are never pruned.

    Args:
        model: A built Functional or Sequential model. It is left as it is. Layers that are made of
            others are opened where their `call` allows: subclassed models that were wrapped, blocks
            of one's own or of keras-hub.
        density: Float in (0, 1], the share of the weights of kernels that is kept.
        scores: `"magnitude"`, `"random"` (each choice of weights is equally likely), or a function
            of the model, as far as it is pruned, and of its kernels, a list of `Kernel`, that
            returns an array of the shape of each.
        scope: `"layer"`, where each kernel keeps its share, or `"global"`, where all are pooled.
        rounds: Integer. Weights are pruned in so many steps, of equal ratios of densities, with
            scores of what is left each time.
        select: Which layers to prune, see `prunable`. What was in a block that is opened has the
            block's name before its own, as in `"block_dense"`.
        seed: Integer, that of `"random"`.

    Returns:
        A copy of the model, not compiled. It has the class of the model if that can be called with
        `inputs` and `outputs`; a warning says which methods are lost else. If masks cut every path
        from the inputs to some of its outputs, a warning says to how many.

    Raises:
        ValueError: If the model has no graph or nothing to prune, or if an argument is out of
            range.

    Example:

    >>> model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(10)])
    >>> int(np.count_nonzero(prune(model, 0.95).get_weights()[0]))
    95
    """
    density = require_density(density)
    if not callable(scores) and not (isinstance(scores, str) and scores in SCORES):
        raise ValueError(
            f"`scores` must be a function or one of {tuple(SCORES)}. Received: scores={scores!r}"
        )
    rounds = integer("rounds", rounds, least=1)
    model = copied(model)
    kernels = prunable(model, select)
    rng = np.random.default_rng(integer("seed", seed, least=0))
    for step in range(1, rounds + 1):
        arrays = SCORES[scores](kernels, rng) if isinstance(scores, str) else scores(model, kernels)
        arrays = [ops.convert_to_numpy(each) for each in arrays]
        if len(arrays) != len(kernels):
            raise ValueError(
                f"`scores` must return an array for each of {len(kernels)} kernels. Received: "
                f"{len(arrays)} arrays"
            )
        candidates = {}
        for kernel, array in zip(kernels, arrays):
            if array.shape != tuple(kernel.variable.shape):
                raise ValueError(
                    f"`scores` must return an array of shape {tuple(kernel.variable.shape)} for "
                    f"'{kernel.name}'. Received: shape {array.shape}"
                )
            constraint = kernel.variable.constraint
            kept = constraint.mask if isinstance(constraint, FixedMask) else True
            candidates[kernel.name] = np.where(kept, array, -np.inf)
        masks = largest(candidates, density ** (step / rounds), scope)
        for kernel in kernels:
            constrain(kernel, masks[kernel.name])
    warn_if_cut(model)
    return model


def _magnitudes(kernels, _):
    return [np.abs(ops.convert_to_numpy(kernel.variable)) for kernel in kernels]


def _random(kernels, rng):
    return [rng.random(kernel.variable.shape) for kernel in kernels]


SCORES = {"magnitude": _magnitudes, "random": _random}
