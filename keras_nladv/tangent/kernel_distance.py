import numpy as np

from keras_nladv._common.arguments import number


def kernel_distance(kernel1, kernel2):
    r"""How far one kernel is from another, whatever their scales.

    $$S(K, K') = 1 - \frac{\langle K, K' \rangle}{\lVert K \rVert \, \lVert K' \rVert}$$

    with sums over all entries: 0 for kernels that are multiples of each other, 1 for kernels that
    have nothing in common.

    Args:
        kernel1: Array, a kernel, of any shape.
        kernel2: Array of the same shape.

    Returns:
        Float. NaN if a kernel is 0 or not finite.

    Raises:
        ValueError: If the shapes differ.

    Example:

    >>> tangent.kernel_distance(np.diag([2, 0]), np.diag([5, 0]))
    0.0
    >>> tangent.kernel_distance(np.diag([1, 0]), np.diag([0, 1]))
    1.0

    Source: Fort et al., *Deep Learning versus Kernel Learning*, arXiv 2010.15110.
    """
    kernels = [np.asarray(each, "float64") for each in (kernel1, kernel2)]
    if kernels[0].shape != kernels[1].shape:
        raise ValueError(
            "`kernel1` and `kernel2` must have the same shape. Received: "
            f"{kernels[0].shape} and {kernels[1].shape}"
        )
    with np.errstate(all="ignore"):
        # So that no square is beyond what numbers can be.
        kernels = [each / np.abs(each).max(initial=0) for each in kernels]
        first, second = (each / np.linalg.norm(each) for each in kernels)
        # The same number; the one above is rounded to 0 for kernels that are close.
        return float(np.square(first - second).sum() / 2)


def kernel_velocity(kernel1, kernel2, time):
    """How fast a kernel moves: the `kernel_distance` from one to the next, over the time between.

    Args:
        kernel1: Array, a kernel, of any shape.
        kernel2: Array of the same shape, the kernel later.
        time: Positive float, the time between them. `NTKCallback` counts epochs.

    Returns:
        Float. NaN if a kernel is 0 or not finite.

    Raises:
        ValueError: If the shapes differ, or if no time has passed.

    Example:

    >>> tangent.kernel_velocity(np.diag([1, 0]), np.diag([0, 1]), time=4)
    0.25

    Source: Fort et al., *Deep Learning versus Kernel Learning*, arXiv 2010.15110.
    """
    time = number("time", time, "greater than 0", lambda given: given > 0)
    return kernel_distance(kernel1, kernel2) / time
