"""How far two sets of weights of a model are apart, in its outputs and in its tangent kernel."""

import math

from keras import ops

from keras_nladv.tangent import differentiation
from keras_nladv.tangent.batches import count, part
from keras_nladv.tangent.kernel import kernel


def transfer_distances(stateless, student, teacher, state, x, signs=None):
    """Mean squared differences of outputs, and of the kernels between two halves of a batch.

    They can be differentiated with respect to the student's weights.

    Args:
        stateless: A `Stateless` model.
        student: List of tensors, values of its `variables`.
        teacher: List of tensors, others.
        state: List of tensors, values of its `others`.
        x: Inputs as tensors.
        signs: Tensor of shape `(probes, n2, k)` of random signs, for `n2` examples in the second
            half and `k` outputs. Kernels are projected on them, which gives an estimate. With
            `None` they are computed.

    Returns:
        Tuple of two scalars.
    """
    half = count(x) // 2
    x1, x2 = part(x, 0, half), part(x, half, count(x))
    if signs is None:
        pairs = [
            (stateless(values, state, x), kernel(stateless, values, state, x1, x2))
            for values in (student, teacher)
        ]
        entries = math.prod(pairs[0][1].shape)
    else:
        pairs = [_projected(stateless, each, state, x1, x2, signs) for each in (student, teacher)]
        entries = math.prod(pairs[0][1].shape) * math.prod(signs.shape[1:])
    (outputs, kernels), constant = pairs[0], map(ops.stop_gradient, pairs[1])
    targets, target_kernels = constant
    kernel_distance = ops.sum(ops.square(kernels - target_kernels)) / entries
    return ops.mean(ops.square(outputs - targets)), kernel_distance


def _projected(stateless, values, state, x1, x2, signs):
    """Outputs, and the products of the kernel with all signs, `(probes, n1, k)`."""

    def second(values):
        outputs = stateless(values, state, x2)
        return outputs, outputs

    later, directions = differentiation.vjps(
        second, values, lambda outputs: ops.cast(signs, outputs.dtype)
    )
    changes = []
    for i in range(signs.shape[0]):
        first, change = differentiation.jvp(
            lambda values: stateless(values, state, x1), values, [each[i] for each in directions]
        )
        changes.append(change)
    return ops.concatenate([first, later]), ops.stack(changes)
