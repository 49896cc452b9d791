"""The kernel of a model as a function of the values of its variables."""

import math
import operator
from functools import reduce
from itertools import starmap

import keras
from keras import ops

from keras_nladv.tangent import differentiation
from keras_nladv.tangent.kernel_plan import KernelPlan
from keras_nladv.tangent.taps import Taps


def kernel(stateless, values, state, x1, x2=None, trace=False, structured=True):
    """The empirical neural tangent kernel, for given values of variables.

    It can be differentiated with respect to `values`, by whatever the backend differentiates with.

    Args:
        stateless: A `Stateless` model.
        values: List of tensors, values of its `variables`.
        state: List of tensors, values of its `others`.
        x1: Inputs as tensors, of `n1` examples.
        x2: Inputs as tensors, of `n2` examples, or `None` for `x1`.
        trace: Boolean. Whether to sum over equal outputs.
        structured: Boolean. Whether the structure of layers is used.

    Returns:
        Tensor of shape `(n1, n2, k, k)`, or `(n1, n2)` with `trace`.
    """
    plan = KernelPlan.of(stateless, x1, structured)
    one = factors(stateless, values, state, x1, plan, trace)
    two = one if x2 is None else factors(stateless, values, state, x2, plan, trace)
    return contract(stateless, one, two, trace)


def factors(stateless, values, state, x, plan, trace):
    """The Jacobian of a batch, in parts that `contract` sums over.

    Returns:
        List of tuples. `(J,)` is a Jacobian, of shape `(n, k, size)`. `(a, g)`, of shapes
        `(n, positions, fan-in)` and `(n, k, filters, positions)`, stands for one that is the sum of
        the outer products over positions.
    """
    return [
        *_structured(stateless, values, state, x, plan, trace),
        *_unstructured(stateless, values, state, x, plan),
    ]


def _structured(stateless, values, state, x, plan, trace):
    """Examples do not influence each other: one gradient gives the rows of a whole batch."""
    if not plan.layers:
        return
    n = ops.shape(keras.tree.flatten(x)[0])[0]

    def shifted(shifts):
        with Taps([each.structure for each in plan.layers], shifts) as taps:
            outputs = stateless(values, state, x, filled=False)
        return outputs, [operand for _, operand, _ in taps.calls]

    shifts = [ops.zeros((n, *shape), dtype) for shape, dtype in plan.results]
    operands, gradients = differentiation.vjps(shifted, shifts, _each_output)
    for layer in plan.layers:
        calls = [layer.structure.matrices(operands[i], gradients[i]) for i in layer.calls]
        columns, rows = zip(*calls, strict=True)
        columns = ops.cast(_joined(columns, axis=2), stateless.dtype)
        rows = ops.cast(_joined(rows, axis=-1), stateless.dtype)
        if layer.is_product(plan.k, trace):
            yield columns[:, 0], rows[:, 0]
        else:
            yield (_summed(columns, rows),)


def _joined(calls, axis):
    """Of most layers there is one call, which need not be copied."""
    return calls[0] if len(calls) == 1 else ops.concatenate(calls, axis=axis)


def _summed(columns, rows):
    """The Jacobian, `(n, k, size)`: the outer products, summed over positions."""
    _, groups, k, filters, positions = rows.shape
    rows = ops.reshape(rows, (-1, groups, k * filters, positions))
    product = ops.reshape(ops.matmul(rows, columns), (-1, groups, k, filters * columns.shape[-1]))
    return ops.reshape(
        ops.transpose(product, (0, 2, 1, 3)), (-1, k, groups * filters * columns.shape[-1])
    )


def _unstructured(stateless, values, state, x, plan):
    """Of the rest of the variables, each example has a gradient for each output."""
    if not plan.rest:
        return []

    def jacobian(x):
        def function(some):
            everything = dict(enumerate(values)) | dict(zip(plan.rest, some, strict=True))
            return stateless(list(everything.values()), state, x), ()

        _, gradients = differentiation.vjps(function, [values[i] for i in plan.rest], _each_output)
        return [ops.cast(ops.reshape(each, (plan.k, -1)), stateless.dtype) for each in gradients]

    dtypes = [stateless.dtype] * len(plan.rest)
    return [(each,) for each in differentiation.by_example(jacobian, x, dtypes)]


def _each_output(outputs):
    """Cotangents that pick one output each, of all examples at once."""
    n, k = ops.shape(outputs)
    return ops.broadcast_to(ops.eye(k, dtype=outputs.dtype)[:, None], (k, n, k))


def contract(_, one, two, trace):
    """The kernel that two lists of factors make, `(n1, n2, k, k)`, or `(n1, n2)` with `trace`."""
    parts = starmap(_trace if trace else _blocks, zip(one, two, strict=True))
    # In place where nothing is compiled: to take new memory takes longer than to add.
    total = reduce(operator.iadd, parts)
    return total if trace else ops.transpose(total, (0, 2, 1, 3))


def _trace(one, two):
    if len(one) == 1:
        return _gram(one[0], two[0], kept=1)
    columns = _gram(one[0], two[0], kept=2)
    rows = _gram(ops.moveaxis(one[1], -1, 1), ops.moveaxis(two[1], -1, 1), kept=2)
    # Both are (n1, positions, n2, positions).
    return ops.sum(columns * rows, axis=(1, 3))


def _blocks(one, two):
    """The kernel as `(n1, k, n2, k)`."""
    if len(one) == 1:
        return _gram(one[0], two[0], kept=2)
    (columns1, rows1), (columns2, rows2) = one, two
    products = _gram(columns1, columns2, kept=2)
    n1, positions, n2, _ = ops.shape(products)
    _, k, filters, _ = rows1.shape
    if positions == 1:
        # Where nothing is compiled, in place, as above.
        return operator.imul(_gram(rows1, rows2, kept=2), products)
    # For each position of x1, the rows of all positions of x2, as much as their columns agree.
    rows2 = ops.reshape(ops.transpose(rows2, (0, 3, 1, 2)), (n2, positions, k * filters))
    products = ops.reshape(ops.transpose(products, (2, 0, 1, 3)), (n2, n1 * positions, positions))
    passed = ops.reshape(ops.matmul(products, rows2), (n2, n1, positions, k, filters))
    passed = ops.reshape(ops.transpose(passed, (1, 4, 2, 0, 3)), (n1, filters * positions, n2 * k))
    rows1 = ops.reshape(rows1, (n1, k, filters * positions))
    return ops.reshape(ops.matmul(rows1, passed), (n1, k, n2, k))


def _gram(one, two, kept):
    """The products of two tensors, summed over all axes but the first ones of each."""
    shapes = [ops.shape(each)[:kept] for each in (one, two)]
    one, two = (ops.reshape(each, (-1, math.prod(each.shape[kept:]))) for each in (one, two))
    return ops.reshape(ops.matmul(one, ops.transpose(two)), (*shapes[0], *shapes[1]))
