"""What a network costs."""

import math

import numpy as np
from keras import layers

from training.watching import layers_of, watched

# Layers whose kernel is applied once at each position of the output.
KERNELS = (
    layers.Dense,
    *(layers.Conv1D, layers.Conv2D, layers.Conv3D),
    *(layers.DepthwiseConv1D, layers.DepthwiseConv2D),
)


def macs(model, attended=False):
    """Multiplications of dense layers and convolutions for one input.

    Those of attention are the ones of its four dense layers.

    Args:
        model: A model of one input, whose sizes are known.
        attended: Whether to count the products of queries, keys and values, too.
    """
    total = 0

    def note(layer, inputs, outputs):
        nonlocal total
        if isinstance(layer, layers.MultiHeadAttention):
            # Of queries, keys, values and the outputs, which are as wide as what comes in.
            tokens, channels = inputs.shape[1:]
            width = layer.num_heads * layer.key_dim
            total += 4 * tokens * channels * width + attended * 2 * tokens**2 * width
            return
        channels_first = getattr(layer, "data_format", None) == "channels_first"
        positions = outputs.shape[2:] if channels_first else outputs.shape[1:-1]
        total += math.prod(layer.kernel.shape) * math.prod(positions)

    counted = (*KERNELS, layers.MultiHeadAttention)
    with watched([layer for layer in layers_of(model) if isinstance(layer, counted)], note):
        model(np.zeros((1, *model.input_shape[1:]), "float32"), training=False)
    return total
