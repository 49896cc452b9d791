"""The zeros that Keras' convolutions put around their input."""


def pads(layer, sizes):
    """Zeros before and after each spatial axis.

    Args:
        layer: A convolution.
        sizes: Sizes of the input's spatial axes; `None` where they are not known.

    Returns:
        Tuple of pairs, or `None` if they depend on a size that is not known.
    """
    extent = [d * (k - 1) for k, d in zip(layer.kernel_size, layer.dilation_rate)]
    if layer.padding == "same":
        return same_pads(sizes, extent, layer.strides)
    return tuple((reach if layer.padding == "causal" else 0, 0) for reach in extent)


def same_pads(sizes, extent, strides):
    """What is meant by `padding="same"`.

    Args:
        sizes: See `pads`.
        extent: How many positions the kernel reaches beyond the first, per axis.
        strides: One an axis.

    Returns:
        See `pads`.
    """
    found = []
    for size, reach, stride in zip(sizes, extent, strides):
        if stride == 1:
            total = reach
        elif reach == 0:
            total = 0
        elif size is None:
            return None
        else:
            total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
        found.append((total // 2, total - total // 2))
    return tuple(found)
