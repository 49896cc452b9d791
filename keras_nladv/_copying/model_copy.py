import inspect
from collections import defaultdict

import keras

from keras_nladv._copying.model_class import of_class
from keras_nladv._copying.rebuilt import rebuilt
from keras_nladv._copying.state import transfer_state
from keras_nladv._keras import private


class ModelCopy:
    """Copies a model call by call: new layers, the same weights.

    A subclass overrides `called` to put something else in the place of a call.
    """

    def __init__(self):
        # By the original's `id`, with the original, which has to stay alive for that.
        self._copies = {}
        self._names: list[set[str]] = [set()]
        # By the original's `id`: the `id`s of sublayers, of it and of its copy, that have no
        # counterpart in the other.
        self.unmatched = defaultdict(set)

    def copy(self, model, name=None):
        """Copies a Functional or Sequential model.

        Args:
            model: The model.
            name: Name of the copy, that of the model by default.

        Returns:
            A model of the same class, as far as its calls and its class allow: else a plain
            Sequential or Functional one. The outputs of a Functional model keep their names.
        """
        self._names.append(set())
        inputs, values = self.new_inputs(model)
        self.follow(private.nodes_between(model.inputs, model.outputs), values)
        _, outputs = private.structures(model)
        outputs = keras.tree.map_structure(lambda tensor: values[id(tensor)], outputs)
        ends = list(map(keras.tree.flatten, (inputs, outputs)))
        if isinstance(model, keras.Sequential):
            nodes = private.nodes_between(*ends)
            if _is_chain(ends[0][0], nodes):
                self._names.pop()
                layers = [ends[0][0], *(node.operation for node in nodes)]
                return of_class(model, keras.Sequential, layers, name=name or model.name)
        elif len(self._names) == 2:
            self.name_outputs(model.output_names, *ends)
        self._names.pop()
        return of_class(model, keras.Model, inputs, outputs, name=name or model.name)

    def name_outputs(self, names, inputs, outputs):
        """Gives outputs the names by which losses, metrics and targets of a model are given.

        These are the names of the operations that put them out. Another that has such a name gets
        one like it.

        Args:
            names: List of names, one an output.
            inputs: List of the inputs of a model under construction.
            outputs: List of its outputs.
        """
        operations = {id(x): x for x in map(private.producer, inputs)}
        for node in private.nodes_between(inputs, outputs):
            operations[id(node.operation)] = node.operation
        named = {operation.name: operation for operation in operations.values()}
        kept = set()
        for name, tensor in zip(names, outputs, strict=True):
            operation, other = private.producer(tensor), named.get(name)
            if id(operation) in kept or id(other) in kept:
                continue
            kept.add(id(operation))
            if other is operation:
                continue
            if other is not None:
                # A layer without its activation, which is now a layer behind it.
                other.name = self.unique_name(f"{name}_linear")
                named[other.name] = other
            del named[operation.name]
            operation.name = name
            named[name] = operation

    def new_inputs(self, model):
        """Makes inputs like those of a model.

        Returns:
            The inputs, in the structure of the model's, and a dict of them by the `id`s of those.
        """
        structure, _ = private.structures(model)
        inputs = keras.tree.map_structure(self._input, structure)
        leaves = keras.tree.flatten(inputs)
        return inputs, {id(tensor): x for tensor, x in zip(model.inputs, leaves, strict=True)}

    def follow(self, nodes, values, prefix=""):
        """Repeats calls on other tensors.

        Args:
            nodes: List of Keras nodes, in order.
            values: Dict from the `id`s of the tensors that the nodes start from to those in the
                copy. The outputs of the nodes are added to it.
            prefix: What the names of layers get before them.
        """
        # Torch has no weights in layers whose name has a dot; models may have one in theirs.
        prefix = prefix.replace(".", "_")
        for node in nodes:
            args, kwargs = node.arguments.fill_in(values)
            if any(isinstance(x, keras.Variable) for x in keras.tree.flatten((args, kwargs))):
                raise ValueError(
                    f"Operation '{node.operation.name}' uses a weight of a layer, outside of that "
                    "layer. What it would use in the copy cannot be known. Put it into a layer."
                )
            # What is `None` and need not be said: the attention layers of keras-hub take `cache`
            # in `call` but not where Keras asks for the shape of the output.
            kwargs = {key: value for key, value in kwargs.items() if value is not None}
            if isinstance(node.operation, keras.Layer):
                kwargs = {**_masks(node.operation, args, kwargs), **kwargs}
            outputs = keras.tree.flatten(self.called(node, args, kwargs, prefix))
            values.update((id(tensor), x) for tensor, x in zip(node.outputs, outputs, strict=True))

    def called(self, node, args, kwargs, prefix):
        """Puts something in the place of the call of a node. Returns its outputs in the copy."""
        return self.repeated(node, args, kwargs, prefix)

    def repeated(self, node, args, kwargs, prefix):
        """Repeats the call of a node on `args` and `kwargs`. Returns its outputs in the copy."""
        copy = self.copied(node.operation, prefix)
        with private.embedding_masks([copy]):
            return copy(*args, **kwargs)

    def copied(self, operation, prefix=""):
        """Returns the copy of a layer, operation or model, made the first time only."""
        if id(operation) not in self._copies:
            if private.is_functional(operation):
                copy = self.copy(operation, self.unique_name(prefix + operation.name))
            else:
                copy = self.from_config(operation, prefix=prefix)
            self.keep(operation, copy)
        return self._copies[id(operation)][0]

    def keep(self, operation, copy):
        """Notes what the copy of a layer or operation is. Returns the copy."""
        self._copies[id(operation)] = copy, operation
        return copy

    def originals(self):
        """Dict from the `id`s of copies to those of what they are copies of."""
        return {id(copy): id(original) for copy, original in self._copies.values()}

    def from_config(self, layer, changes=None, prefix=""):
        """Makes a layer or operation like another, with changes of its configuration."""
        return rebuilt(layer, self.unique_name(prefix + layer.name), changes)

    def unique_name(self, name):
        """Returns the name, with a number where a layer of the model at hand has it already."""
        names, number, unique = self._names[-1], 0, name
        while unique in names:
            number += 1
            unique = f"{name}_{number}"
        names.add(unique)
        return unique

    def transfer_weights(self):
        """Gives the copies the weights of their originals."""
        # Models before what is in them, whose `trainable` theirs sets.
        for copy, original in reversed(self._copies.values()):
            if not isinstance(original, keras.Layer):
                continue
            if private.is_functional(original):
                if not original.trainable:
                    copy.trainable = False
                continue
            transfer_state(original, copy, self.unmatched[id(original)])

    def _input(self, tensor):
        layer = private.producer(tensor)
        self._names[-1].add(layer.name)
        if isinstance(layer, keras.layers.InputLayer):
            return keras.layers.InputLayer.from_config(layer.get_config()).output
        return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)


def _masks(layer, args, kwargs):
    """The masks that a layer is given with its inputs, as keyword arguments.

    Keras looks for them on tensors as the model runs, where it has not noted them before. What a
    block was opened into has lost them by then: they are known of symbolic tensors only.
    """
    signature = inspect.signature(layer.call)
    given = {
        name: value
        for name, value in signature.bind(*args, **kwargs).arguments.items()
        if (leaves := keras.tree.flatten(value))
        and all(isinstance(leaf, keras.KerasTensor) for leaf in leaves)
    }
    masks = {
        "mask" if len(given) == 1 else f"{name}_mask": keras.tree.map_structure(
            private.mask_of, value
        )
        for name, value in given.items()
    }
    return {
        name: value
        for name, value in masks.items()
        if name in signature.parameters
        and any(mask is not None for mask in keras.tree.flatten(value))
    }


def _is_chain(tensor, nodes):
    """Whether calls are those of distinct layers, each of what the one before puts out alone."""
    distinct = len({id(node.operation) for node in nodes}) == len(nodes)
    for node in nodes:
        args, kwargs = node.arguments.args, node.arguments.kwargs
        alone = len(args) == 1 and args[0] is tensor and all(x is None for x in kwargs.values())
        if not (alone and isinstance(node.operation, keras.Layer) and len(node.outputs) == 1):
            return False
        (tensor,) = node.outputs
    return distinct
