"""Automatic differentiation. In no other module a backend itself is imported."""

import keras
import numpy as np
from keras import ops


# What every backend has here, for functions of a list of tensors, the primals:
#
# - `compiled(function)`: the same function, faster where it is called again. What it returns is not
#   differentiated any more; everything below can be, by whatever the backend differentiates with.
# - `jvp(function, primals, tangents)`: outputs and their derivative in a direction.
# - `vjps(function, primals, cotangents)`: for a function that returns outputs and something else,
#   that something, and a list of gradients, one for each primal, stacked over the cotangents that
#   `cotangents(outputs)` stacks.
# - `unconnected(function, primals)`: the set of the indices of the primals on which outputs do not
#   depend in a way that has a derivative.
# - `repeatable(function, primals)`: whether outputs are the same in two runs.
# - `traced(function, *arguments)`: runs a function for the shapes it meets, computing no more than
#   the backend needs to.
def _repeatable(function, primals):
    first, second = (ops.convert_to_numpy(ops.cast(function(primals), "float32")) for _ in range(2))
    return np.allclose(first, second, rtol=1e-3, equal_nan=True)


if keras.backend.backend() == "jax":
    import jax
    from jax.extend.core import Literal

    # One after the other, pullbacks are up to twice as fast as together, but each is compiled.
    UNROLLED = 32

    compiled = jax.jit
    traced = jax.eval_shape

    def jvp(function, primals, tangents):
        return jax.jvp(function, (primals,), (tangents,))

    def vjps(function, primals, cotangents):
        outputs, pullback, extra = jax.vjp(function, primals, has_aux=True)
        rows = cotangents(outputs)
        if len(rows) > UNROLLED:
            (gradients,) = jax.vmap(pullback)(rows)
        else:
            columns = zip(*(pullback(row)[0] for row in rows), strict=True)
            gradients = [jax.numpy.stack(column) for column in columns]
        return extra, gradients

    def repeatable(function, primals):
        return True  # What is random has a seed, and that it moves can be seen.

    def unconnected(function, primals):
        def gradients(cotangent):
            return jax.vjp(function, primals)[1](cotangent)[0]

        jaxpr = jax.make_jaxpr(gradients)(jax.eval_shape(function, primals)).jaxpr
        reached = set(jaxpr.invars)

        def is_reached(each):
            return not isinstance(each, Literal) and each in reached

        for equation in jaxpr.eqns:
            if any(map(is_reached, equation.invars)):
                reached.update(equation.outvars)
        return {index for index, each in enumerate(jaxpr.outvars) if not is_reached(each)}

elif keras.backend.backend() == "torch":
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    # Of attention, the other kernels have no forward and no second derivatives: hence `MATH` below.
    # Torch passes zeros back through these.
    CONSTANT = {"CeilBackward0", "FloorBackward0", "RoundBackward0", "SignBackward0"}
    CONSTANT |= {"RoundBackward1", "SgnBackward0", "TruncBackward0"}

    # Keras runs torch eagerly, too. What is not recorded takes less memory.
    compiled = torch.no_grad()
    traced = torch.no_grad()(lambda function, *arguments: function(*arguments))

    def jvp(function, primals, tangents):
        with sdpa_kernel(SDPBackend.MATH):
            return torch.func.jvp(function, (primals,), (tangents,))

    def vjps(function, primals, cotangents):
        with sdpa_kernel(SDPBackend.MATH):
            outputs, pullback, extra = torch.func.vjp(function, primals, has_aux=True)
        columns = zip(*(pullback(row)[0] for row in cotangents(outputs)), strict=True)
        return extra, [torch.stack(column) for column in columns]

    repeatable = _repeatable

    def unconnected(function, primals):
        primals = [primal.detach().requires_grad_() for primal in primals]
        with torch.enable_grad():
            outputs = function(primals)
        reached, stack = set(), [outputs.grad_fn]
        while stack:
            node = stack.pop()
            if node is not None and node not in reached and node.name() not in CONSTANT:
                reached.add(node)
                stack.extend(each for each, _ in node.next_functions)
        leaves = {id(getattr(node, "variable", None)) for node in reached}
        return {index for index, primal in enumerate(primals) if id(primal) not in leaves}

elif keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # What does not depend on the primals has a derivative, too: 0.
    ZERO = tf.UnconnectedGradients.ZERO

    def compiled(function):
        # Errors stay what they are without autograph, and Keras does not use it either.
        return tf.function(function, autograph=False)

    def traced(function, *arguments):
        return function(*arguments)

    def jvp(function, primals, tangents):
        # The derivative of gradients with respect to the cotangent. `ForwardAccumulator` does the
        # same operation by operation, but fails in loops.
        graph = tf.compat.v1.get_default_graph()
        earlier = len(graph.get_operations())
        primals = [tf.identity(primal) for primal in primals]
        with tf.GradientTape() as forward:
            with tf.GradientTape() as backward:
                backward.watch(primals)
                outputs = function(primals)
            cotangent = tf.zeros_like(outputs)
            forward.watch(cotangent)
            gradients = backward.gradient(outputs, primals, cotangent, unconnected_gradients=ZERO)
            # Those of embeddings are sparse.
            gradients = [tf.convert_to_tensor(each) for each in gradients]
        if any(each.type == "ResizeBilinearGrad" for each in graph.get_operations()[earlier:]):
            raise NotImplementedError(
                "TensorFlow takes this derivative of bilinear resizing for 0. Use another "
                "`interpolation`, or another backend."
            )
        change = forward.gradient(gradients, cotangent, tangents, unconnected_gradients=ZERO)
        return outputs, change

    def vjps(function, primals, cotangents):
        primals = [tf.identity(primal) for primal in primals]
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(primals)
            outputs, extra = function(primals)
        rows = [
            tape.gradient(outputs, primals, row, unconnected_gradients=ZERO)
            for row in tf.unstack(cotangents(outputs))
        ]
        return extra, [tf.stack(column) for column in zip(*rows, strict=True)]

    repeatable = _repeatable

    def unconnected(function, primals):
        primals = [tf.identity(primal) for primal in primals]
        with tf.GradientTape() as tape:
            tape.watch(primals)
            outputs = function(primals)
        gradients = tape.gradient(outputs, primals)
        return {index for index, each in enumerate(gradients) if each is None}

else:

    def compiled(*_):
        raise NotImplementedError(
            "keras_nladv.tangent differentiates on the backends jax, torch and tensorflow. "
            f"Received: {keras.backend.backend()}"
        )

    jvp = vjps = unconnected = repeatable = traced = compiled
