"""The one place that reads Keras' private graph attributes.

Keras has no public way to walk the graph of a Functional model or of a symbolic run. What is read
here: `_keras_history` of a `KerasTensor`, `Operation._inbound_nodes`, the fields
of a node, the structures of a model's inputs and outputs, a layer's sublayers and `RematScope`, the
masks of tensors, the projections of an attention layer, and `AutocastScope`.
"""

import sys
import warnings
from contextlib import contextmanager
from typing import Any

import keras

from keras_nladv.layers.sparse_prelu import SparsePReLU


def nodes_between(inputs, outputs):
    """Lists the calls that lead from `inputs` to `outputs`.

    Args:
        inputs: List of `KerasTensor`s at which the walk stops.
        outputs: List of `KerasTensor`s.

    Returns:
        List of Keras nodes in topological order. A node has `operation`, `arguments` (with
        `keras_tensors` and `fill_in`) and `outputs`.
    """
    known = {id(tensor) for tensor in inputs}
    ordered, stack = [], list(reversed(outputs))
    # An explicit stack: the graphs are deeper than Python's recursion limit.
    while stack:
        tensor = stack[-1]
        history = getattr(tensor, "_keras_history", None)
        if id(tensor) in known or history is None or history.operation is None:
            stack.pop()
            continue
        node = history.operation._inbound_nodes[history.node_index]
        missing = [
            source
            for source in node.arguments.keras_tensors
            if id(source) not in known and getattr(source, "_keras_history", None) is not None
        ]
        if missing:
            stack.extend(missing)
            continue
        stack.pop()
        known.update(id(output) for output in node.outputs)
        ordered.append(node)
    return ordered


def producer(tensor):
    """Returns the operation that a `KerasTensor` is an output of, or `None`."""
    history = getattr(tensor, "_keras_history", None)
    return None if history is None else history.operation


def with_name(tensor, name):
    """Names the operation that a `KerasTensor` is an output of. Returns the tensor."""
    producer(tensor).name = name
    return tensor


def source(tensor):
    """Returns the Keras node, the call, that a `KerasTensor` of a model is an output of."""
    return producer(tensor)._inbound_nodes[tensor._keras_history.node_index]


def mask_of(tensor):
    """Returns the mask that Keras passes along with a tensor, or `None`."""
    return keras.src.backend.get_keras_mask(tensor)


def with_mask(tensor, mask):
    """Lets Keras pass a mask along with a tensor. Returns the tensor."""
    keras.src.backend.set_keras_mask(tensor, mask)
    return tensor


def without_autocast():
    """A scope in which variables have the values that they hold, whatever the dtype policy."""
    return keras.src.backend.AutocastScope(None)


def global_seeds():
    """Lists the state of the generator of random numbers without a seed, if there is one."""
    generator = keras.src.backend.common.global_state.get_global_attribute("global_seed_generator")
    return [] if generator is None else [generator.state]


def is_functional(operation):
    """Whether `operation` is a model whose graph of layers is what a call of it computes."""
    if isinstance(operation, keras.Sequential):
        has_graph = operation.built and getattr(operation, "outputs", None)
        return bool(has_graph) and type(operation).call is keras.Sequential.call
    functional = keras.src.models.functional.Functional
    return isinstance(operation, functional) and type(operation).call is functional.call


def structures(model):
    """Returns the inputs and the outputs of a model with a graph, in the structures they have."""
    functional = model._functional if isinstance(model, keras.Sequential) else model
    return functional._inputs_struct, functional._outputs_struct


def is_keras_operation(operation):
    """Whether `operation` is one of Keras' own, as against a layer or a user's own operation."""
    return is_keras_function(type(operation))


def is_keras_function(function):
    """Whether `function` is an activation or operation of Keras, as against a user's own."""
    return function.__module__.startswith(("keras.src.ops.", "keras.src.activations."))


def sublayers(layer):
    """All layers inside `layer`, at any depth, `layer` itself first."""
    return layer._flatten_layers()


def is_rematerialized(layer):
    """Whether a layer is called again for its gradients: it was made in a `keras.RematScope`."""
    return layer._remat_mode is not None


def lambda_arguments(layer):
    """The arguments of a `Lambda` layer, with the functions themselves."""
    names = ("function", "_output_shape", "mask", "arguments")
    return {name.removeprefix("_"): getattr(layer, name) for name in names}


def projections(attention):
    """The kernels of an attention layer: of its query, key and value, and of its output."""
    names = ("_query_dense", "_key_dense", "_value_dense", "_output_dense")
    return [getattr(attention, name).kernel for name in names]


@contextmanager
def symbolic_run(layer, training=None, values=()):
    """Keeps a symbolic run of a layer's `call` from leaving traces on the layers inside it.

    Layers that are not told otherwise take `training` from the run, as in a call of the layer.

    Its warnings are left out: the layer has been called before and has said the same then.
    Attention layers inside accept all arguments of their `call` while it lasts: those of keras-hub
    have more than the `compute_output_spec` that they inherit from `MultiHeadAttention`.

    Args:
        layer: The layer.
        training: As in a call of the layer.
        values: List of pairs: a variable, and the value that it has while this lasts.

    Yields:
        A list to which is added what the layer does in the run beside its outputs, in words.
    """
    effects: list[str] = []
    layers = sublayers(layer)
    states = [{**vars(each)} for each in layers]
    marks = [(len(each._inbound_nodes), len(each._outbound_nodes)) for each in layers]
    patched = [each for each in layers if isinstance(each, keras.layers.MultiHeadAttention)]
    for each in patched:
        each.__dict__["compute_output_spec"] = _spec_from_call(each)
    layer.__dict__["add_loss"] = lambda loss: effects.append("adds losses")
    context = layer._get_call_context()
    outer = context.get_value("training")
    context.set_value("training", training)
    try:
        with (
            warnings.catch_warnings(),
            embedding_masks(layers),
            _noted_gradients(effects),
            deferred_operators(),
            sizes_unchecked(layers),
            # Layers inside that are called have scopes of their own.
            keras.StatelessScope(state_mapping=values, collect_losses=True) as scope,
        ):
            warnings.simplefilter("ignore")
            before = {**scope.state_mapping}
            yield effects
        if scope.losses:
            effects.append("adds losses")
        if any(before.get(key) is not value for key, value in scope.state_mapping.items()):
            effects.append("assigns to variables or draws random numbers")
    finally:
        context.set_value("training", outer)
        layer._maybe_reset_call_context()
        for each, (inbound, outbound) in zip(layers, marks):
            del each._inbound_nodes[inbound:]
            del each._outbound_nodes[outbound:]
        for each, state in zip(layers, states):
            if each.built == state["built"]:
                vars(each).clear()
                vars(each).update(state)


@contextmanager
def _noted_gradients(effects):
    """Notes where symbolic tensors get gradients of their own, which would be lost.

    Only on torch they are let through.
    """
    kind: Any = type(keras.ops.custom_gradient(lambda x: x))
    if not kind.__module__.startswith("keras."):
        yield
        return
    original = kind.__call__

    def noting(function, *args, **kwargs):
        if any(isinstance(x, keras.KerasTensor) for x in args):
            effects.append("has gradients of its own")
        return original(function, *args, **kwargs)

    kind.__call__ = noting
    try:
        yield
    finally:
        kind.__call__ = original


OPERATORS = (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"),
    *("lt", "le", "gt", "ge", "ne"),
)


@contextmanager
def deferred_operators():
    """Lets symbolic tensors be used with operators as others are.

    Those of weights, arrays and tensors on the left would ask for the symbolic tensor's values.
    While this lasts they leave such tensors to the operators on the right.
    """

    def deferring(operator):
        def operate(self, other):
            return NotImplemented if isinstance(other, keras.KerasTensor) else operator(self, other)

        return operate

    patched = []
    get_item = keras.KerasTensor.__getitem__
    keras.KerasTensor.__array_ufunc__ = None  # So NumPy's own leave it to the right.
    # A new axis alone, `x[None]`, is something that symbolic tensors do not know.
    keras.KerasTensor.__getitem__ = lambda self, key: get_item(
        self, (None,) if key is None else key
    )
    try:
        for kind in (keras.Variable, type(keras.ops.zeros(()))):
            for name in (f"__{operator}__" for operator in OPERATORS):
                if hasattr(kind, name):
                    patched.append((kind, name, vars(kind).get(name)))
                    setattr(kind, name, deferring(getattr(kind, name)))
        yield
    finally:
        for kind, name, original in reversed(patched):
            if original is None:
                delattr(kind, name)
            else:
                setattr(kind, name, original)
        del keras.KerasTensor.__array_ufunc__
        keras.KerasTensor.__getitem__ = get_item


@contextmanager
def sizes_unchecked(layers):
    """Lets models inside a layer be run on other sizes than those that Keras built them with.

    Where a size is unknown, a model inside may have been built with one that a backend assumed. The
    layer runs on tensors of any size, which are not checked; symbolic ones are.
    """
    models = [layer for layer in layers if is_functional(layer)]
    models += [layer._functional for layer in models if isinstance(layer, keras.Sequential)]
    for model in models:
        model.__dict__["_assert_input_compatibility"] = lambda *args, **kwargs: None
    try:
        yield
    finally:
        for model in models:
            model.__dict__.pop("_assert_input_compatibility", None)


@contextmanager
def embedding_masks(layers):
    """Lets those of `layers` that attach masks to real tensors only do so to symbolic ones, too."""
    patched = [each for each in layers if isinstance(each, keras.layers.ReversibleEmbedding)]
    for each in patched:
        each.__dict__["compute_mask"] = _mask_of_ids(each)
    try:
        yield
    finally:
        for each in patched:
            del each.__dict__["compute_mask"]


def _mask_of_ids(layer):
    def compute_mask(inputs, mask=None):
        # In reverse, the layer gets no ids.
        is_ids = "int" in keras.backend.standardize_dtype(inputs.dtype)
        return keras.layers.Embedding.compute_mask(layer, inputs, mask) if is_ids else None

    return compute_mask


@contextmanager
def dynamic_causal_masks(layer, sequence):
    """Lets a decoder of keras-hub be run symbolically on a sequence of unknown length.

    Its causal mask is made of sizes, which have to be known. While this lasts it is made of
    `sequence`, the symbolic tensor, instead.
    """
    module: Any = sys.modules[type(layer).__module__]
    original = getattr(module, "compute_causal_mask", None)
    if original is None:
        yield
        return

    def compute_causal_mask(batch_size, input_length, output_length, cache_index=0):
        positions = keras.ops.cumsum(keras.ops.ones_like(sequence[..., 0], dtype="int32"), axis=1)
        return positions[:, :, None] >= positions[:, None, :]

    module.compute_causal_mask = compute_causal_mask
    try:
        yield
    finally:
        module.compute_causal_mask = original


class UnknownSize:
    """The size of an axis of a symbolic tensor that is not known.

    Attributes:
        tensor: The `KerasTensor`.
        axis: The axis.
    """

    def __init__(self, tensor, axis):
        self.tensor = tensor
        self.axis = axis


@contextmanager
def dynamic_positions():
    """Lets `keras.ops.arange` count the positions of a symbolic tensor along an unknown axis.

    While this lasts, `keras.ops.shape` says which axis an unknown size is of.
    """
    shape, arange = keras.ops.shape, keras.ops.arange

    def shape_with_unknown_sizes(x):
        sizes = shape(x)
        if not isinstance(x, keras.KerasTensor):
            return sizes
        return tuple(
            UnknownSize(x, axis) if size is None else size for axis, size in enumerate(sizes)
        )

    def arange_of_positions(start, stop=None, step=None, dtype=None):
        size = start if stop is None else stop
        if not isinstance(size, UnknownSize) or step not in (None, 1):
            return arange(start, stop, step, dtype)
        along: list[Any] = [0] * len(size.tensor.shape)
        along[size.axis] = slice(None)
        ones = keras.ops.ones_like(size.tensor[tuple(along)], dtype=dtype or "int32")
        positions = keras.ops.cumsum(ones) - 1
        return positions if stop is None else positions[start:]

    keras.ops.shape, keras.ops.arange = shape_with_unknown_sizes, arange_of_positions
    try:
        yield
    finally:
        keras.ops.shape, keras.ops.arange = shape, arange


def _spec_from_call(layer):
    return lambda *args, **kwargs: keras.Operation.compute_output_spec(layer, *args, **kwargs)


@contextmanager
def watched(activations, note):
    """Calls `note(activation, inputs)` whenever one of `activations` is applied."""
    patched = []
    for activation in activations:
        layer = activation.layer
        # A fused activation is watched where the layer calls it, others are layers themselves.
        fused = hasattr(layer, "activation") and not isinstance(layer, SparsePReLU)
        attribute = "activation" if fused else "call"
        patched.append((layer, attribute, layer.__dict__.get(attribute)))
        layer.__dict__[attribute] = _noting(activation, getattr(layer, attribute), note)
    try:
        yield
    finally:
        for layer, attribute, original in patched:
            if original is None:
                del layer.__dict__[attribute]
            else:
                layer.__dict__[attribute] = original


def _noting(activation, function, note):
    def noting(inputs, *args, **kwargs):
        note(activation, inputs)
        return function(inputs, *args, **kwargs)

    return noting
