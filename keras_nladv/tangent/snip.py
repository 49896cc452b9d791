from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_nladv.pruning.kernel import Kernel
from keras_nladv.tangent.gradient import gradient
from keras_nladv.tangent.stateless import Stateless


def snip(
    x: Any, y: Any = None, loss: Any = None
) -> Callable[[keras.Model, list[Kernel]], list[Any]]:
    r"""Scores for `keras_nladv.prune`: how much weights matter for the loss, or for the outputs.

    The score of a weight $\theta$ is $|\theta\,\partial L / \partial \theta|$, to first order the
    change of $L$ if the weight were removed. Without labels $L$ is the sum of the squares of all
    outputs; this is logit-SNIP. The model runs as in `predict`.

    Args:
        x: Inputs of the model. About ten examples of each class are usual.
        y: Their labels, or `None`.
        loss: The loss function of labels and outputs, or its name. Needed with `y`.

    Returns:
        A function, to be given to `prune` as `scores`.

    Raises:
        ValueError: If one of `y` and `loss` is given without the other; when weights are scored, if
            the model cannot be differentiated, or `x` does not fit it.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> pruned = prune(model, 0.75, tangent.snip(np.ones((8, 4), "float32")))
    >>> int(np.count_nonzero(pruned.get_weights()[0]))
    9

    Source: Lee et al., *SNIP: single-shot network pruning based on connection sensitivity*, arXiv
    1810.02340; logit-SNIP: Liu and Zenke, arXiv 2006.08228.
    """
    if (y is None) != (loss is None):
        raise ValueError(
            "`y` and `loss` must be given together, or none of them. Received: "
            f"{'no y' if y is None else 'y'} and loss={loss!r}"
        )
    function = None if loss is None else keras.losses.get(loss)

    def scores(model, kernels):
        stateless = Stateless.of(model, [kernel.variable for kernel in kernels])
        gradients = stateless.compiled(_gradients, function)(
            stateless.values, stateless.state, stateless.inputs(x), y
        )
        return [ops.abs(ops.multiply(*pair)) for pair in zip(stateless.values, gradients)]

    return scores


def _gradients(stateless, values, state, x, y, loss):
    def change(values):
        outputs = stateless.run(values, state, x)
        return ops.sum(ops.square(outputs)) if loss is None else ops.mean(loss(y, outputs))

    return gradient(change, values)[1]
