import numpy as np
from keras import ops

from keras_nladv._common.arguments import flag, integer
from keras_nladv.tangent.batches import count, part
from keras_nladv.tangent.kernel import contract, factors
from keras_nladv.tangent.kernel_plan import KernelPlan
from keras_nladv.tangent.ntk_vector_product import product
from keras_nladv.tangent.stateless import Stateless

METHODS = ("structured", "jacobian", "ntk-vector")

# With float32, two blocks of so many numbers are 1 GiB.
NUMBERS = 2**27


def empirical_ntk(model, x1, x2=None, trace=False, variables=None, batch_size=None, method="auto"):
    r"""The empirical neural tangent kernel of a model.

    Its entries are the inner products of the derivatives of outputs with respect to the weights,

    $$K_{ijab} = \langle \partial_\theta f_a(x_i), \partial_\theta f_b(x'_j) \rangle.$$

    The model runs as in `predict`: no dropout, normalization by moving statistics. Outputs for an
    input must not depend on the other inputs of a batch.

    There are three methods.

    - `"structured"` back-propagates each output to the results of layers, for all inputs at once,
      and uses that the rest of a layer's Jacobian is what it multiplies its weights with. That is
      known of Dense, EinsumDense, Conv, DepthwiseConv, Embedding, normalization, PReLU and
      SparsePReLU; other weights are left to `"jacobian"`. Where it is cheaper, Jacobians are not
      written out.
    - `"jacobian"` back-propagates each output of each input to the weights.
    - `"ntk-vector"` makes columns of the kernel by `ntk_vector_product`. It holds no Jacobian.

    `"auto"` takes the one with the fewest multiplications. With F multiplications of weights in a
    forward pass, P weights and m inputs on both sides together, they are about m k F for the
    gradients and, for each layer, the least of what there is to do, with `"structured"`; 2 m k F +
    n1 n2 k^2 P with `"jacobian"`, k in place of k^2 with `trace`; and 3 (n1 + 1) n2 k F with
    `"ntk-vector"`. For layers of unknown structure, F is taken as P.

    Args:
        model: A built Keras model with one output tensor. Outputs of an example are flattened
            to `k` numbers.
        x1: Inputs, of `n1` examples.
        x2: Inputs, of `n2` examples of the same shape. Defaults to `x1`; the kernel is symmetric
            then.
        trace: Boolean. Whether to sum over equal outputs, `sum_a K[i, j, a, a]`.
        variables: List of variables of the model. Defaults to those that are trainable.
        batch_size: Integer. The kernel is made of blocks of so many inputs on each side, and
            derivatives are held for two of them at a time. Defaults to as many as take about 1 GiB.
        method: `"auto"`, `"structured"`, `"jacobian"` or `"ntk-vector"`.

    Returns:
        NumPy array of shape `(n1, n2, k, k)`, or `(n1, n2)` with `trace`.

    Raises:
        ValueError: If the model cannot be differentiated, or if an argument does not fit.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> tangent.empirical_ntk(model, np.eye(2, dtype="float32"), trace=True)
    array([[2., 1.],
           [1., 2.]], dtype=float32)

    Source: Jacot et al., *Neural Tangent Kernel*, arXiv 1806.07572; Novak et al., *Fast Finite
    Width Neural Tangent Kernel*, arXiv 2206.08720.
    """
    if not isinstance(method, str) or method not in ("auto", *METHODS):
        raise ValueError(
            f"`method` must be 'auto', {', '.join(map(repr, METHODS))}. Received: method={method!r}"
        )
    trace = flag("trace", trace)
    stateless = Stateless.of(model, variables)
    symmetric = x2 is None
    x1, x2 = stateless.pair(x1, x2)
    n1, n2 = count(x1), count(x2)
    plan = KernelPlan.of(stateless, x1)
    if method == "auto":
        costs = plan.multiplications(n1, 0 if symmetric else n2, trace)
        method = min(costs, key=costs.get)
    if method == "jacobian":
        plan = KernelPlan.of(stateless, x1, structured=False)
    size = max(NUMBERS // plan.numbers(method, trace), 1)
    if batch_size is not None:
        size = integer("batch_size", batch_size, least=1)

    def prepared(x, start):
        block = part(x, start, size)
        if method == "ntk-vector":
            return block
        return stateless.compiled(factors, plan, trace)(stateless.values, stateless.state, block)

    def combined(one, two):
        if method == "ntk-vector":
            return _by_products(stateless, one, two, plan.k, trace)
        return ops.convert_to_numpy(stateless.compiled(contract, trace)(one, two))

    kernel = np.empty((n1, n2) if trace else (n1, n2, plan.k, plan.k), stateless.dtype)
    for i in range(0, n1, size):
        one = prepared(x1, i)
        for j in range(i if symmetric else 0, n2, size):
            two = one if symmetric and i == j else prepared(x2, j)
            block = combined(one, two)
            if symmetric:
                mirrored = block.transpose((1, 0, 3, 2)[: block.ndim])
                # Exactly symmetric, not up to rounding.
                block = (block + mirrored) / 2 if i == j else block
                kernel[j : j + size, i : i + size] = mirrored
            kernel[i : i + size, j : j + size] = block
    return kernel


def _by_products(stateless, x1, x2, k, trace):
    """A block of the kernel: the products with each column of the identity."""
    function = stateless.compiled(product)
    values, state = stateless.values, stateless.state
    rows = ops.convert_to_tensor(np.eye(k, dtype=stateless.dtype)[:, None])
    columns = []
    for j in range(count(x2)):
        one = part(x2, j, 1)
        columns.append(
            [ops.convert_to_numpy(function(values, state, x1, one, row)) for row in rows]
        )
    # (n2, k of x2, n1, k of x1)
    kernel = np.array(columns).transpose(2, 0, 3, 1)
    return np.trace(kernel, axis1=2, axis2=3) if trace else kernel
