"""Units that are linear because they only see numbers around 0, as `collapse` writes such.

Some functions are x / 2 there, or x: SiLU of 2**-34 * x is 2**-35 * x to the last digit.
"""

import keras
import numpy as np

# Layers whose kernels have their outputs last.
MIXING = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
# What numbers are small enough, and how steep a function is there. Engines compute with powers of
# them: where those have fewer digits, processors take much longer. The tangent is bent more.
HALF, TANGENT = (2.0**-34, 0.5), (2.0**-28, 1.0)
STRAIGHT = {
    keras.activations.silu: HALF,
    keras.activations.hard_silu: HALF,
    keras.activations.gelu: HALF,
    keras.activations.tanh: TANGENT,
    keras.ops.silu: HALF,
    keras.ops.hard_silu: HALF,
    keras.ops.gelu: HALF,
    keras.ops.tanh: TANGENT,
}
# A bound is beyond what is small enough, and as good as 0 for all others.
CLIPPED, BOUND = (2.0**-66, 1.0), -(2.0**-40)
# Weights are small by less than so many times that.
TELLING = 2.0**10


def small_outputs(layer, given, small):
    """Which outputs of a layer are so small, by its weights, that an activation is straight there.

    What a layer takes may be small itself, of linear units before it, and its weights for that as
    much larger. In a kernel of all inputs and outputs, what is small is so beside the largest of
    the weights for one input; in one of depthwise convolutions that is told by the units before.

    Args:
        layer: A layer. What is trained, or of another kind, has no such outputs.
        given: Array of shape (inputs,), by how much less of each it is given, or `None`.
        small: What numbers are small enough.

    Returns:
        Bool array of shape (outputs,), or `None` if there are none.
    """
    limit = TELLING * small
    if not isinstance(layer, (*MIXING, *DEPTHWISE)) or layer.trainable:
        return None
    kernel = np.abs(keras.ops.convert_to_numpy(layer.kernel)).astype("float64")
    if isinstance(layer, DEPTHWISE):
        kernel = kernel if given is None else kernel * given[:, None]
        sizes = kernel.reshape(-1, kernel.shape[-2] * kernel.shape[-1]).max(axis=0)
        found = (sizes > 0) & (sizes < limit)
    else:
        tells = (kernel > 0) & (kernel < limit * kernel.max(axis=-1, keepdims=True))
        rows = tuple(range(kernel.ndim - 1))
        # Most of what is not pruned.
        found = 2 * tells.sum(axis=rows) > (kernel > 0).sum(axis=rows)
    if layer.bias is not None:
        found &= np.abs(keras.ops.convert_to_numpy(layer.bias)) < limit
    return found if found.any() else None
