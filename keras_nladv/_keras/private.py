"""The one place that reads what Keras has no public name for.

That is the graph of a model or of a symbolic run, the masks of tensors, the scopes that a call runs
in, and parts of some layers. Where supported versions have it is said in `PLACES`, nowhere else.
"""

import inspect
import operator
import warnings
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras

from keras_nladv._common.temporarily import temporarily
from keras_nladv.layers.sparse_prelu import SparsePReLU

# The versions of Keras that all of it was found in.
VERSIONS = "3.10 to 3.16"

# Dotted names from what they are read of. Of several, the first that a version has counts.
PLACES = {
    # Of `keras`:
    "get_mask": ("src.backend.common.masking.get_keras_mask", "src.backend.get_keras_mask"),
    "set_mask": ("src.backend.common.masking.set_keras_mask", "src.backend.set_keras_mask"),
    "autocast": ("src.backend.common.variables.AutocastScope", "src.backend.AutocastScope"),
    "get_global": ("src.backend.common.global_state.get_global_attribute",),
    "set_global": ("src.backend.common.global_state.set_global_attribute",),
    "Functional": ("src.models.functional.Functional",),
    "array functions": ("src.backend.numpy",),
    # Of a `KerasTensor`: the operation that it comes from, and which of its calls.
    "operation": ("_keras_history.operation",),
    "call": ("_keras_history.node_index",),
    # Of an operation:
    "calls": ("_inbound_nodes",),
    "next calls": ("_outbound_nodes",),
    # Of a model:
    "graph": ("_functional",),
    "inputs": ("_inputs_struct",),
    "outputs": ("_outputs_struct",),
    # Of a layer:
    "sublayers": ("_flatten_layers",),
    "remat": ("_remat_mode",),
    "get_context": ("_get_call_context",),
    "reset_context": ("_maybe_reset_call_context",),
    # Of a `Lambda` and of an attention layer:
    "output_shape": ("_output_shape",),
    "query": ("_query_dense",),
    "key": ("_key_dense",),
    "value": ("_value_dense",),
    "output": ("_output_dense",),
}


def read(owner, what):
    """Reads what Keras has no public name for.

    Args:
        owner: `keras`, or one of its objects.
        what: A key of `PLACES`.

    Raises:
        ImportError: If the version of Keras that is installed has it in none of the places.
    """
    for place in PLACES[what]:
        try:
            return operator.attrgetter(place)(owner)
        except AttributeError:
            continue
    raise ImportError(
        f"keras_nladv reads a name of Keras that is not public, {' or '.join(PLACES[what])}, which "
        f"Keras {keras.__version__} does not have. Install one that does: Keras {VERSIONS}."
    )


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
        node = source(tensor)
        missing = [
            each
            for each in node.arguments.keras_tensors
            if id(each) not in known and getattr(each, "_keras_history", None) is not None
        ]
        if missing:
            stack.extend(missing)
            continue
        stack.pop()
        known.update(id(output) for output in node.outputs)
        ordered.append(node)
    return ordered


def arguments_of(layer, args, kwargs):
    """What a call gives the parameters of a layer's `call`: a dict by their names, in order."""
    signature = inspect.signature(layer.call)
    if "training" not in signature.parameters:
        # Keras takes it all the same, for the layers inside.
        kwargs = {key: value for key, value in kwargs.items() if key != "training"}
    return signature.bind(*args, **kwargs).arguments


def producer(tensor):
    """Returns the operation that a `KerasTensor` is an output of, or `None`."""
    history = getattr(tensor, "_keras_history", None)
    return None if history is None else history.operation


def is_optional(tensor):
    """Whether a tensor is an input of a model that may be `None` when the model runs."""
    return getattr(producer(tensor), "optional", False)


def with_name(tensor, name):
    """Names the operation that a `KerasTensor` is an output of. Returns the tensor."""
    producer(tensor).name = name
    return tensor


def source(tensor):
    """Returns the Keras node, the call, that a `KerasTensor` of a model is an output of."""
    return read(producer(tensor), "calls")[read(tensor, "call")]


def operations_around(node):
    """Lists the operations right before and right behind a call of one, a Keras node."""
    before = [producer(tensor) for tensor in node.arguments.keras_tensors]
    return [*before, *(each.operation for each in read(node.operation, "next calls"))]


def mask_of(tensor):
    """Returns the mask that Keras passes along with a tensor, or `None`."""
    return read(keras, "get_mask")(tensor)


def with_mask(tensor, mask):
    """Lets Keras pass a mask along with a tensor. Returns the tensor."""
    read(keras, "set_mask")(tensor, mask)
    return tensor


def takes_masks_off(operation):
    """Whether a call of a layer takes the masks off the tensors that it is given, for all that use
    these afterwards. It does as a model runs, and does not where it is called on symbolic ones."""
    kind = keras.layers.MultiHeadAttention
    return isinstance(operation, kind) and type(operation).call is kind.call


def without_autocast():
    """A scope in which variables have the values that they hold, whatever the dtype policy."""
    return read(keras, "autocast")(None)


def global_seeds():
    """Lists the state of the generator of random numbers without a seed, if there is one."""
    generator = read(keras, "get_global")("global_seed_generator")
    return [] if generator is None else [generator.state]


def is_functional(operation):
    """Whether `operation` is a model whose graph of layers is what a call of it computes."""
    if isinstance(operation, keras.Sequential):
        has_graph = operation.built and getattr(operation, "outputs", None)
        return bool(has_graph) and type(operation).call is keras.Sequential.call
    functional = read(keras, "Functional")
    return isinstance(operation, functional) and type(operation).call is functional.call


def structures(model):
    """Returns the inputs and the outputs of a model with a graph, in the structures they have."""
    functional = read(model, "graph") if isinstance(model, keras.Sequential) else model
    return _untracked(read(functional, "inputs")), _untracked(read(functional, "outputs"))


def _untracked(structure):
    """A structure without the containers by which layers keep track of what is theirs.

    `keras.utils.FeatureSpace` makes models of its own. Other structures do not match with them.
    """
    kind = type(structure)
    if kind.__name__ in ("TrackedDict", "TrackedList"):
        (kind,) = kind.__bases__
    if kind is dict:
        return {key: _untracked(each) for key, each in structure.items()}
    return kind(map(_untracked, structure)) if kind in (list, tuple) else structure


def is_keras_operation(operation):
    """Whether `operation` is one of Keras' own, as against a layer or a user's own operation."""
    return is_keras_function(type(operation))


def is_keras_function(function):
    """Whether `function` is an activation or operation of Keras, as against a user's own."""
    return function.__module__.startswith(("keras.src.ops.", "keras.src.activations."))


def sublayers(layer):
    """All layers inside `layer`, at any depth, `layer` itself first."""
    return read(layer, "sublayers")()


def is_rematerialized(layer):
    """Whether a layer is called again for its gradients: it was made in a `keras.RematScope`."""
    return read(layer, "remat") is not None


def lambda_arguments(layer):
    """The arguments of a `Lambda` layer, with the functions themselves."""
    public = {name: getattr(layer, name) for name in ("function", "mask", "arguments")}
    return {**public, "output_shape": read(layer, "output_shape")}


def projections(attention):
    """The kernels of an attention layer: of its query, key and value, and of its output."""
    return [read(attention, name).kernel for name in ("query", "key", "value", "output")]


class _AllSerialized(dict[int, Any]):
    """What Keras has serialized so far, where these objects are to be told by their `id`s."""

    def __init__(self, ids):
        super().__init__((each, {}) for each in ids)

    def __setitem__(self, key, config):
        # Of an object that may be gone before another gets its `id`.
        pass


@contextmanager
def one_object(ids, objects):
    """Lets what is read from configurations be one object for all who have it.

    As Keras does it when it saves and loads a model, here across several configurations.

    Args:
        ids: The `id`s of those that may be serialized several times.
        objects: Dict from some of these to what is to be taken, which is added to.
    """
    with _sharing(_AllSerialized(ids), objects):
        yield


def loads_as_one(model):
    """Whether what is one layer inside of several is one, too, when Keras has loaded a model."""
    with _sharing({}, {}):
        try:
            loaded = type(model).from_config(model.get_config())
        except Exception:
            return True  # It cannot be loaded for another reason, which Keras will say.
    counts = {sum(len(part.weights) for part in sublayers(each)) for each in (model, loaded)}
    return len(counts) == 1


@contextmanager
def _sharing(configs, objects):
    set_global = read(keras, "set_global")
    maps = {"id_to_config_map": configs, "id_to_obj_map": objects}
    outer = {name: read(keras, "get_global")(f"shared_objects/{name}") for name in maps}
    for name, value in maps.items():
        set_global(f"shared_objects/{name}", value)
    try:
        yield
    finally:
        for name, value in outer.items():
            set_global(f"shared_objects/{name}", value)


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
    calls = [read(each, kind) for each in layers for kind in ("calls", "next calls")]
    marks = [len(each) for each in calls]
    patched = [each for each in layers if isinstance(each, keras.layers.MultiHeadAttention)]
    for each in patched:
        each.__dict__["compute_output_spec"] = _spec_from_call(each)
    layer.__dict__["add_loss"] = lambda loss: effects.append("adds losses")
    context = read(layer, "get_context")()
    outer = context.get_value("training")
    context.set_value("training", training)
    try:
        with (
            warnings.catch_warnings(),
            embedding_masks(layers),
            _noted_gradients(effects),
            deferred_operators(),
            dense_tensors(),
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
        read(layer, "reset_context")()
        for each, mark in zip(calls, marks):
            del each[mark:]
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

    with temporarily([kind], __call__=noting):
        yield


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


def dense_tensors():
    """Lets all symbolic tensors be dense.

    What Keras multiplies with a number is sparse to it otherwise, which most calls on TensorFlow
    cannot do with.
    """
    return temporarily([keras.KerasTensor], sparse=property(lambda self: False))


def array_functions(**others):
    """Lets the backend compute functions of arrays, by their names, with others. Each is given the
    backend's own and the arguments."""
    functions = read(keras, "array functions")
    given = {name: partial(other, getattr(functions, name)) for name, other in others.items()}
    return temporarily([functions], **given)


@contextmanager
def sizes_unchecked(layers):
    """Lets models inside a layer be run on other sizes than those that Keras built them with.

    Where a size is unknown, a model inside may have been built with one that a backend assumed. The
    layer runs on tensors of any size, which are not checked; symbolic ones are.
    """
    models = [layer for layer in layers if is_functional(layer)]
    models += [read(layer, "graph") for layer in models if isinstance(layer, keras.Sequential)]
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
    # Keras has it since 3.12.
    reversible = getattr(keras.layers, "ReversibleEmbedding", ())
    patched = [each for each in layers if isinstance(each, reversible)]
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
