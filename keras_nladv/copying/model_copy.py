import inspect
import tempfile
from collections import defaultdict
from typing import Any

import keras

from keras_nladv import private


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
            A model of the same class as far as its calls allow: Sequential, else Functional.
        """
        self._names.append(set())
        inputs, values = self.new_inputs(model)
        self.follow(private.nodes_between(model.inputs, model.outputs), values)
        _, outputs = private.structures(model)
        outputs = keras.tree.map_structure(lambda tensor: values[id(tensor)], outputs)
        self._names.pop()
        if isinstance(model, keras.Sequential):
            ends = map(keras.tree.flatten, (inputs, outputs))
            chain = [node.operation for node in private.nodes_between(*ends)]
            distinct = len({id(layer) for layer in chain}) == len(chain)
            if distinct and all(isinstance(layer, keras.Layer) for layer in chain):
                return keras.Sequential([inputs, *chain], name=name or model.name)
        return keras.Model(inputs, outputs, name=name or model.name)

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

    def from_config(self, layer, changes=None, prefix=""):
        """Makes a layer or operation like another, with changes of its configuration."""
        known = {*inspect.signature(type(layer).__init__).parameters, "name", "trainable", "dtype"}
        name = self.unique_name(prefix + layer.name)
        try:
            config = {**layer.get_config(), **(changes or {}), "name": name}
            if type(layer) is keras.layers.Lambda:
                # Read from a configuration, a lambda would not know the names around it.
                return keras.layers.Lambda(**{**config, **private.lambda_arguments(layer)})
            try:
                copy = type(layer).from_config(config)
            except TypeError:
                if changes is not None and not changes.keys() <= known:
                    raise
                # Some layers of keras-hub list what their `__init__` does not take. The copy must
                # not, or the model could be saved but not loaded.
                config = {key: config[key] for key in config.keys() & known}
                copy = type(layer).from_config(config)
                copy.get_config = lambda: config
            named = "activation" not in (changes or {}) and getattr(layer, "activation", None)
            if named is keras.ops.gelu:
                # By its name Keras knows another function, which does not approximate.
                copy.activation = named
            return copy
        except Exception as error:
            raise ValueError(
                f"Layer '{layer.name}' of class {type(layer).__name__} cannot be copied: "
                f"`{type(layer).__name__}.from_config(layer.get_config())` failed with "
                f"{type(error).__name__}: {error}. Give the class a `get_config` that returns all "
                "arguments of its `__init__`."
            ) from error

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
            unmatched = self.unmatched[id(original)]
            pairs = [
                [part for part in private.sublayers(layer) if id(part) not in unmatched]
                for layer in (original, copy)
            ]
            if len(pairs[0]) != len(pairs[1]):
                raise ValueError(
                    f"Layer '{original.name}' of class {type(original).__name__} cannot be copied: "
                    "what `from_config(layer.get_config())` makes has other layers inside."
                )
            for old, new in zip(*pairs):
                new.trainable = old.trainable
                if not old.built:
                    continue
                if not new.built:
                    # In wrappers and cells a symbolic call asks for sizes only.
                    new.build_from_config(old.get_build_config())
                store: dict[str, Any] = {}
                old.save_own_variables(store)
                # By NumPy: on JAX, variables that shared an array would be deleted together.
                new.load_own_variables(
                    {key: keras.ops.convert_to_numpy(value) for key, value in store.items()}
                )
                if hasattr(old, "save_assets"):  # Vocabularies.
                    with tempfile.TemporaryDirectory() as folder:
                        old.save_assets(folder)
                        new.load_assets(folder)

    def _input(self, tensor):
        layer = private.producer(tensor)
        self._names[-1].add(layer.name)
        if isinstance(layer, keras.layers.InputLayer):
            return keras.layers.InputLayer.from_config(layer.get_config()).output
        return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)
