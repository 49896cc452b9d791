from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_nladv._common.arguments import number

SCOPES = ("layer", "global")


def largest(
    scores: Mapping[str, Any], density: float, scope: str = "layer"
) -> dict[str, np.ndarray]:
    """Makes masks that keep the weights with the largest scores.

    At least one weight is kept in each layer, or with `"global"` in all of them. Of equal scores,
    those of earlier weights are kept.

    Args:
        scores: Dict from names of kernels to arrays of their shapes.
        density: Float in (0, 1], the share of the weights that is kept.
        scope: `"layer"`, the share of each kernel, or `"global"`, of all together.

    Returns:
        Dict from names to bool arrays, True where a weight is kept.

    Raises:
        ValueError: If `density` or `scope` is none of these, or if a score is NaN.

    Example:

    >>> scores = {"first": [4.0, 3.0, 2.0, 0.0], "second": [1.0, 5.0]}
    >>> {name: mask.tolist() for name, mask in pruning.largest(scores, 0.5).items()}
    {'first': [True, True, False, False], 'second': [False, True]}
    >>> {name: mask.tolist() for name, mask in pruning.largest(scores, 0.5, "global").items()}
    {'first': [True, True, False, False], 'second': [False, True]}
    """
    density = require_density(density)
    if scope not in SCOPES:
        raise ValueError(f"`scope` must be one of {SCOPES}. Received: scope={scope!r}")
    arrays = {name: np.asarray(each) for name, each in scores.items()}
    for name, each in arrays.items():
        if np.isnan(each).any():
            raise ValueError(f"The scores of '{name}' must be numbers. Some of them are NaN.")
    if scope == "layer":
        return {name: _largest(each, density) for name, each in arrays.items()}
    pooled = _largest(np.concatenate([each.ravel() for each in arrays.values()]), density)
    ends = np.cumsum([each.size for each in arrays.values()])
    parts = np.split(pooled, ends[:-1])
    return {name: part.reshape(arrays[name].shape) for name, part in zip(arrays, parts)}


def require_density(density: float) -> float:
    """`density` as a float, if it is a share of weights that could be kept."""
    wanted = "a number greater than 0 and at most 1"
    return number("density", density, wanted, lambda given: 0 < given <= 1)


def _largest(scores, density):
    kept = max(round(density * scores.size), 1)
    mask = np.zeros(scores.size, bool)
    mask[np.argsort(-scores, axis=None, kind="stable")[:kept]] = True
    return mask.reshape(scores.shape)
