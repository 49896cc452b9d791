import inspect
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_nladv._copying.masks import masked_tensors
from keras_nladv._keras import private
from keras_nladv._keras.unknown_sizes import UnknownSizes
from keras_nladv.graph.rules import find_rule


class CannotOpenError(ValueError):
    """Says why a layer cannot be replaced by the calls that its `call` makes.

    Attributes:
        run: `Opened`, what is known of it all the same, or `None`.
    """

    def __init__(self, reason, run=None):
        super().__init__(reason)
        self.run = run


@dataclass
class Opened:
    """The calls that a composite layer makes, from a symbolic run of its `call`.

    Attributes:
        starts: List of pairs: a tensor that the run starts from, and the one that it stands for.
        outputs: The outputs of the run.
        masks: List of the masks that the run attached to the outputs, `None` where there is none.
        nodes: List of the Keras nodes that lead to the outputs and masks.
        mask_nodes: List of those that lead to the masks.
        effects: List of what the run does beside, in words.
    """

    starts: list[tuple[keras.KerasTensor, keras.KerasTensor]]
    outputs: Any
    masks: list[keras.KerasTensor | None]
    nodes: list[Any]
    mask_nodes: list[Any]
    effects: list[str]


def opened(layer, args, kwargs):
    """Runs a composite layer's `call` symbolically.

    Args:
        layer: A layer whose `call` is made of layers and `keras.ops`.
        args: Its positional arguments, tensors of a model under construction among them.
        kwargs: Its keyword arguments, likewise.

    Returns:
        `Opened`.

    Raises:
        CannotOpenError: If the calls would not do all that the layer does.
    """
    kwargs = dict(kwargs)
    # The model's `training` takes precedence over False.
    if kwargs.pop("training", None):
        raise CannotOpenError("it is called with `training=True`")
    if any(map(private.is_optional, keras.tree.flatten((args, kwargs)))):
        raise CannotOpenError("an optional input of the model, which may be `None`, goes into it")
    run = _run(layer, args, kwargs, training=None)
    parts = private.sublayers(layer)
    inside = {id(weight) for part in parts[1:] for weight in part.variables}
    if any(id(weight) not in inside for weight in layer.variables):
        raise CannotOpenError("it has weights of its own", run)
    if layer.activity_regularizer is not None:
        raise CannotOpenError("it has an activity regularizer", run)
    if run.effects:
        raise CannotOpenError(f"its `call` {run.effects[0]}", run)
    leaves = keras.tree.flatten([(x.arguments.args, x.arguments.kwargs) for x in run.nodes])
    operations = [x.operation for x in run.nodes if not isinstance(x.operation, keras.Layer)]
    leaves += keras.tree.flatten([list(vars(operation).values()) for operation in operations])
    if any(map(inspect.isroutine, leaves)):
        # It may use layers of the original.
        raise CannotOpenError("it gives functions to operations", run)
    calls = _calls(run, parts)
    is_constant = any(map(keras.ops.is_tensor, leaves))
    if any(isinstance(x, keras.Variable) for x in leaves) or (
        # A tensor that is made of the weights of a layer inside would be a constant from then on.
        is_constant and calls != _calls(_run_with_other_weights(layer, args, kwargs), parts)
    ):
        raise CannotOpenError("it calls operations on tensors that are not made of its inputs", run)
    in_training = _run(layer, args, kwargs, training=True)
    if calls != _calls(in_training, parts):
        raise CannotOpenError("it makes other calls in training", run)
    if any(node.arguments.kwargs.get("training", True) is not True for node in in_training.nodes):
        raise CannotOpenError("it fixes `training` for a layer inside it", run)
    for node in run.nodes:
        if find_rule(node.operation) is None:
            continue  # It may be opened in turn.
        try:
            node.operation.get_config()
        except Exception as error:
            raise CannotOpenError(
                f"layer '{node.operation.name}' inside it has no `get_config` that works", run
            ) from error
    return run


def _run_with_other_weights(layer, args, kwargs):
    """Runs a layer's `call` as `_run` does, with all of its weights and seeds changed."""
    changed = [(x, keras.ops.cast(keras.ops.add(x, 1), x.dtype)) for x in layer.variables]
    return _run(layer, args, kwargs, training=None, values=changed)


def _calls(run, parts):
    """What the calls of a run are, to be compared with another run of the same layer.

    Args:
        run: The run.
        parts: List of the layers inside; others are made anew in each run.
    """
    owned = set(map(id, parts))
    tensors = [tensor for tensor, _ in run.starts]
    tensors += [tensor for node in run.nodes for tensor in node.outputs]
    numbers = {id(tensor): f"tensor {number}" for number, tensor in enumerate(tensors)}

    def comparable(leaf):
        is_array = isinstance(leaf, np.ndarray) or keras.ops.is_tensor(leaf)
        return (
            keras.ops.convert_to_numpy(leaf).tolist() if is_array else numbers.get(id(leaf), leaf)
        )

    calls = []
    for node in run.nodes:
        operation = node.operation
        kwargs = {key: x for key, x in node.arguments.kwargs.items() if key != "training"}
        given = [node.arguments.args, sorted(kwargs.items())]
        if isinstance(operation, keras.Layer):
            given.append(id(operation) if id(operation) in owned else "")
        else:
            # A new one in each run, with a name of its own.
            known = {key: x for key, x in vars(operation).items() if key[0] != "_"}
            given.append(sorted((known | {"name": ""}).items()))
        calls.append([type(operation), *map(comparable, keras.tree.flatten(given))])
    return calls


def _run(layer, args, kwargs, training, values=()):
    if "training" in inspect.signature(layer.call).parameters:
        kwargs = {**kwargs, "training": training}
    starts: list[tuple[Any, Any]] = []
    masked = masked_tensors(layer, args, kwargs)

    def fresh(leaf):
        if not isinstance(leaf, keras.KerasTensor):
            return leaf
        tensor = keras.KerasTensor(leaf.shape, leaf.dtype)
        starts.append((tensor, leaf))
        return private.with_mask(tensor, fresh(private.mask_of(leaf)))

    args, kwargs = keras.tree.map_structure(fresh, (args, kwargs))
    owners = [(tensor, masked.get(id(leaf), leaf)) for tensor, leaf in starts]
    with ExitStack() as stack:
        effects = stack.enter_context(private.symbolic_run(layer, training, values))
        stack.enter_context(UnknownSizes(owners).in_force())
        try:
            outputs = layer.call(*args, **kwargs)
        except Exception as error:
            raise CannotOpenError(
                f"a symbolic run of its `call` fails with {type(error).__name__}: {error}"
            ) from error
        flat = keras.tree.flatten(outputs)
        if not all(isinstance(output, keras.KerasTensor) for output in flat):
            raise CannotOpenError("an output of it is no tensor that depends on its inputs")
        masks = [private.mask_of(tensor) for tensor in flat]
        begin = [tensor for tensor, _ in starts]
        nodes, mask_nodes = (private.nodes_between(begin, ends) for ends in (flat + masks, masks))
    for index, node in enumerate(nodes):
        if not isinstance(node.operation, keras.Layer):
            # The same name in every run: that which Keras gave it counts all that there were.
            node.operation.name = f"{type(node.operation).__name__.lower()}_{index}"
    return Opened(starts, outputs, masks, nodes, mask_nodes, effects)
