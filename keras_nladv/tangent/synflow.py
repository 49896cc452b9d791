import keras
import numpy as np
from keras import ops

from keras_nladv._keras import private
from keras_nladv.tangent.gradient import gradient
from keras_nladv.tangent.stateless import Stateless


def synflow(model, kernels):
    r"""Scores for `keras_nladv.prune`: the flow through weights, which needs no data.

    The score of a weight $\theta$ is $|\theta|\,\partial R / \partial |\theta|$, where $R$ is the
    sum of the outputs for an input of ones with all weights replaced by their magnitudes: the sum
    over all paths through the weight of the products of the magnitudes on them. Shifts are left out
    (biases, the statistics of normalization) and scales of normalization are magnitudes. Usual are
    `scope="global"` and `rounds=100`, with which no layer loses all of its weights.

    Paths are meant for activations like ReLU, which let positive numbers pass.

    Args:
        model: A built Functional or Sequential model.
        kernels: List of `keras_nladv.pruning.Kernel`, those to be scored.

    Returns:
        List of tensors, of the shapes of the kernels.

    Raises:
        ValueError: If the model has inputs of unknown size, if nothing flows through it, or if the
            flow is too large for its dtype.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> pruned = prune(model, 0.75, tangent.synflow, scope="global", rounds=10)
    >>> int(np.count_nonzero(pruned.get_weights()[0]))
    9

    Source: Tanaka et al., *Pruning neural networks without any data by iteratively conserving
    synaptic flow*, arXiv 2006.05467.
    """
    stateless = Stateless.of(model, [kernel.variable for kernel in kernels])
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    if any(None in shape for shape in shapes):
        raise ValueError(
            f"The inputs of model '{model.name}' must have known sizes. Received: shapes {shapes}"
        )
    ones = [np.ones((1, *shape), x.dtype) for shape, x in zip(shapes, model.inputs)]
    x = keras.tree.pack_sequence_as(private.structures(model)[0], ones)
    values = [ops.abs(value) for value in stateless.values]
    state = [_without_shifts(*pair) for pair in zip(stateless.others, stateless.state)]
    flow, gradients = stateless.compiled(_flow)(values, state, stateless.inputs(x))
    flow = float(ops.convert_to_numpy(flow))
    if not 0 < flow < np.inf:
        raise ValueError(
            f"The flow through model '{model.name}' must be positive and finite. Received: "
            f"{flow}. If it is infinite, the model is too deep or its weights too large; if "
            "it is not positive, nothing passes, since a layer shifts its inputs, say."
        )
    return [ops.multiply(*pair) for pair in zip(values, gradients)]


def _without_shifts(variable, value):
    if variable.name in ("bias", "beta", "moving_mean"):
        return ops.zeros_like(value)
    if variable.name == "moving_variance":
        return ops.ones_like(value)
    return ops.abs(value) if keras.backend.is_float_dtype(variable.dtype) else value


def _flow(stateless, values, state, x):
    return gradient(lambda values: ops.sum(stateless.run(values, state, x)), values)
