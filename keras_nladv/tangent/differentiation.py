"""Automatic differentiation. In no other module a backend itself is imported."""

import contextlib
import functools
import warnings

import keras
import numpy as np
from keras import ops

from keras_nladv._common.temporarily import temporarily


# What every backend has here, for functions of a list of tensors, the primals:
#
# - `compiled(function)`: the same function, faster where it is called again. What it returns is not
#   differentiated any more; everything below can be, by whatever the backend differentiates with.
# - `jvp(function, primals, tangents)`: outputs and their derivative in a direction.
# - `vjps(function, primals, cotangents)`: for a function that returns outputs and something else,
#   that something, and a list of gradients, one for each primal, stacked over the cotangents that
#   `cotangents(outputs)` stacks.
# - `by_example(function, x, dtypes)`: for a function of a batch of one example, which returns
#   tensors of these dtypes, what it returns for all examples, stacked.
# - `unconnected(function, primals)`: the set of the indices of the primals on which outputs do not
#   depend in a way that has a derivative.
# - `repeatable(function, primals)`: whether outputs are the same in two runs.
# - `unseeded()`: a function that tells whether random numbers were drawn since, of which Keras'
#   seeds know nothing.
# - `least_batch(layers)`: with how many examples a model of these layers has to be run at least.
# - `traced(function, *arguments)`: runs a function once as if compiled, for the shapes it meets.
#
# What else has to be asked of the backend itself:
#
# - `full_precision()`: a context in which products of float32 are those of float32. Else cards
#   round their factors to ten bits (TF32), JAX and TensorFlow everywhere, torch in convolutions.
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

    def by_example(function, x, dtypes):
        return jax.vmap(lambda one: function(jax.tree.map(lambda each: each[None], one)))(x)

    def least_batch(layers):
        return 1

    def repeatable(function, primals):
        return True  # What is random has a seed, and that it moves can be seen.

    def unseeded():
        return lambda: False

    @contextlib.contextmanager
    def full_precision():
        with jax.default_matmul_precision("highest"):
            yield

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
        again = torch.is_grad_enabled()
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            primals = [
                # Not the tensors themselves: the function may use them in other ways, too.
                each.view_as(each)
                if again and each.requires_grad
                else each.detach().requires_grad_()
                for each in primals
            ]
            outputs, extra = function(primals)
        rows = cotangents(outputs)

        def pulled_back(rows, batched):
            gradients = torch.autograd.grad(
                outputs,
                primals,
                rows,
                retain_graph=True,
                create_graph=again,
                allow_unused=True,
                is_grads_batched=batched,
            )
            shape = rows.shape[:1] if batched else ()
            pairs = zip(gradients, primals, strict=True)
            return [p.new_zeros((*shape, *p.shape)) if g is None else g for g, p in pairs]

        if len(rows) > 1:
            # Not all that models may be made of can be differentiated for many rows at once.
            with contextlib.suppress(RuntimeError), warnings.catch_warnings():
                # Of operations that torch takes row by row: they take as long as below.
                warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
                return extra, pulled_back(rows, batched=True)
        rows = [pulled_back(row, batched=False) for row in rows]
        return extra, [torch.stack(column) for column in zip(*rows, strict=True)]

    def by_example(function, x, dtypes):
        def one(i):
            return function(keras.tree.map_structure(lambda each: each[i : i + 1], x))

        rows = map(one, range(len(keras.tree.flatten(x)[0])))
        return [torch.stack(column) for column in zip(*rows, strict=True)]

    repeatable = _repeatable

    def least_batch(layers):
        # Of one example, torch takes the gradient for the kernel of a single filter as one with
        # another order in memory, and fails.
        return 1 + any(getattr(layer, "filters", None) == 1 for layer in layers)

    def unseeded():
        # Those of dropout.
        generators = (torch.default_generator, *torch.cuda.default_generators)
        states = [each.get_state() for each in generators]
        return lambda: (
            not all(torch.equal(state, each.get_state()) for state, each in zip(states, generators))
        )

    def full_precision():
        cudnn = torch.backends.cudnn
        # Before 2.9 there is no `conv`, and what is asked for here has another name.
        parts = (
            [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn] if hasattr(cudnn, "conv") else []
        )
        return temporarily(parts, fp32_precision="ieee")

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

    # Operations on floats without a derivative.
    CONSTANT = {"Ceil", "Floor", "Rint", "Round", "Sign", "StopGradient"}

    # What does not depend on the primals has a derivative, too: 0.
    ZERO = tf.UnconnectedGradients.ZERO

    BILINEAR = (
        "TensorFlow takes this derivative of bilinear resizing for 0. Use another "
        "`interpolation`, or another backend."
    )

    def compiled(function):
        # Errors stay what they are without autograph, and Keras does not use it either. What is
        # traced often TensorFlow warns of, by the code of a function, though that be of many: a
        # `partial` has none.
        return tf.function(functools.partial(function), autograph=False)

    def traced(function, *arguments):
        compiled(function).get_concrete_function(*arguments)

    def jvp(function, primals, tangents):
        primals = [tf.identity(primal) for primal in primals]
        # No new shape, but gradients that forget theirs get it back.
        tangents = [tf.reshape(tangent, primal.shape) for tangent, primal in zip(tangents, primals)]
        try:
            return _forward(function, primals, tangents)
        except TypeError:
            # It fails in loops, those of recurrent layers. This does not, but takes longer.
            return _backward_twice(function, primals, tangents)

    def _forward(function, primals, tangents):
        graph = tf.compat.v1.get_default_graph()
        earlier = len(graph.get_operations())
        with tf.autodiff.ForwardAccumulator(primals, tangents) as accumulator:
            outputs = function(primals)
        for each in graph.get_operations()[earlier:]:
            if each.type == "ResizeBilinear" and accumulator.jvp(each.inputs[0]) is not None:
                raise NotImplementedError(BILINEAR)
        return outputs, accumulator.jvp(outputs, unconnected_gradients=ZERO)

    def _backward_twice(function, primals, tangents):
        """The derivative of gradients with respect to the cotangent."""
        graph = tf.compat.v1.get_default_graph()
        earlier = len(graph.get_operations())
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
            raise NotImplementedError(BILINEAR)
        change = forward.gradient(gradients, cotangent, tangents, unconnected_gradients=ZERO)
        return outputs, change

    def vjps(function, primals, cotangents):
        primals = [tf.identity(primal) for primal in primals]
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(primals)
            outputs, extra = function(primals)

        def pulled_back(row):
            gradients = tape.gradient(outputs, primals, row, unconnected_gradients=ZERO)
            # Those of embeddings are sparse, and in loops they forget their shapes.
            pairs = zip(gradients, primals, strict=True)
            return [
                tf.ensure_shape(tf.convert_to_tensor(each), primal.shape) for each, primal in pairs
            ]

        rows = cotangents(outputs)
        if rows.shape[0] == 1:
            return extra, [each[None] for each in pulled_back(rows[0])]
        dtypes = [primal.dtype for primal in primals]
        return extra, tf.map_fn(pulled_back, rows, fn_output_signature=dtypes)

    def by_example(function, x, dtypes):
        def one(x):
            return function(tf.nest.map_structure(lambda each: each[None], x))

        return tf.map_fn(one, x, fn_output_signature=dtypes)

    repeatable = _repeatable

    def least_batch(layers):
        return 1

    def unseeded():
        return lambda: False

    @contextlib.contextmanager
    def full_precision():
        before = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(False)
        try:
            yield
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(before)

    def unconnected(function, primals):
        graph = compiled(function).get_concrete_function(primals).graph
        reached, stack = set(), list(graph.outputs)
        while stack:
            tensor = stack.pop()
            discrete = tensor.dtype.is_integer or tensor.dtype.is_bool
            if not discrete and tensor.op.type not in CONSTANT and tensor.ref() not in reached:
                reached.add(tensor.ref())
                stack.extend(tensor.op.inputs)
        inputs = graph.inputs[: len(primals)]
        return {index for index, each in enumerate(inputs) if each.ref() not in reached}

else:

    def compiled(*_):
        raise NotImplementedError(
            "keras_nladv.tangent differentiates on the backends jax, torch and tensorflow. "
            f"Received: {keras.backend.backend()}"
        )

    jvp = vjps = by_example = unconnected = repeatable = unseeded = traced = compiled
    least_batch = compiled

    @contextlib.contextmanager
    def full_precision():
        yield
