import warnings

import keras

from keras_nladv._copying.copies import Copies
from keras_nladv._copying.masks import given_masks, without_masks
from keras_nladv._copying.model_class import of_class
from keras_nladv._copying.names import Names
from keras_nladv._copying.pointwise import fuses_activation
from keras_nladv._copying.rebuilt import rebuilt
from keras_nladv._keras import private


class ModelCopy:
    """Copies a model call by call: new layers, the same weights.

    A subclass overrides `called` to put something else in the place of a call.

    Attributes:
        copies: The `Copies` of layers and operations.
        names: The `Names` that these have.
    """

    def __init__(self):
        self.copies = Copies()
        self.names = Names()
        # The `id`s of layers that may be in several others, of models that are called, and copies
        # of some of these.
        self._layers: set[int] = set()
        self._models: set[int] = set()
        self._shared: dict[int, keras.Layer] = {}
        self._has_shared = False

    def shares(self, layer):
        """Whether a layer that is called may be the one that is inside of others, too."""
        return True

    def expect(self, model):
        """Takes note of the layers in a model, before it is copied."""
        layers = private.sublayers(model)
        # Regularizers may be layers, and each layer gets its own.
        self._layers = {id(each) for each in layers if not isinstance(each, keras.Regularizer)}
        models = [model]
        for each in models:
            called = [x.operation for x in private.nodes_between(each.inputs, each.outputs)]
            models += {
                id(x): x for x in called if private.is_functional(x) and x not in models
            }.values()
        self._models = set(map(id, models))

    def copy(self, model, name=None):
        """Copies a Functional or Sequential model.

        Args:
            model: The model.
            name: Name of the copy, that of the model by default.

        Returns:
            A model of the same class, as far as its calls and its class allow: else a plain
            Sequential or Functional one. The outputs of a Functional model keep their names.
        """
        with self.names.of_model() as is_outermost:
            if is_outermost:
                self.expect(model)
            inputs, values = self.new_inputs(model)
            self.follow(private.nodes_between(model.inputs, model.outputs), values)
            _, outputs = private.structures(model)
            outputs = keras.tree.map_structure(lambda tensor: values[id(tensor)], outputs)
            ends = list(map(keras.tree.flatten, (inputs, outputs)))
            self.names.tell_apart(*ends)
            if is_outermost and not isinstance(model, keras.Sequential):
                self.names.name_outputs(model.output_names, *ends)
        name = name or model.name
        if isinstance(model, keras.Sequential):
            nodes = private.nodes_between(*ends)
            if _is_chain(ends[0][0], nodes):
                layers = [ends[0][0], *(node.operation for node in nodes)]
                return of_class(model, keras.Sequential, layers, name=name)
        return of_class(model, keras.Model, inputs, outputs, name=name)

    def new_inputs(self, model):
        """Makes inputs like those of a model.

        Returns:
            The inputs, in the structure of the model's, and a dict of them by the `id`s of those.
        """
        structure, _ = private.structures(model)
        inputs = keras.tree.map_structure(self._input, structure)
        leaves = keras.tree.flatten(inputs)
        return inputs, {id(tensor): x for tensor, x in zip(model.inputs, leaves, strict=True)}

    def follow(self, nodes, values, prefix="", training=None):
        """Repeats calls on other tensors.

        Args:
            nodes: List of Keras nodes, in order.
            values: Dict from the `id`s of the tensors that the nodes start from to those in the
                copy. The outputs of the nodes are added to it.
            prefix: What the names of layers get before them.
            training: What the layers are called with as `training`, `None` if by what they were.
        """
        # Torch has no weights in layers whose name has a dot; models may have one in theirs.
        prefix = prefix.replace(".", "_")
        for node in nodes:
            _build_fused(node)
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
                if training is not None:
                    kwargs["training"] = training
                kwargs = {**given_masks(node.operation, args, kwargs), **kwargs}
            outputs = keras.tree.flatten(self.called(node, args, kwargs, prefix))
            for key in without_masks([node]):
                private.with_mask(values[key], None)
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
        if operation not in self.copies:
            if id(operation) in self._shared and self.shares(operation):
                # It has been copied with a layer that it is in, too.
                copy = self._shared[id(operation)]
                copy.name = self.names.unique(prefix + operation.name)
                self._has_shared = True
            elif private.is_functional(operation):
                copy = self.copy(operation, self.names.unique(prefix + operation.name))
            else:
                copy = self.from_config(operation, prefix=prefix)
            self.copies.keep(operation, copy)
            if id(operation) in self._layers and self.shares(operation):
                self._shared[id(operation)] = copy
        return self.copies[operation]

    def from_config(self, layer, changes=None, prefix=""):
        """Makes a layer or operation like another, with changes of its configuration."""
        for part in private.sublayers(layer)[1:] if isinstance(layer, keras.Layer) else ():
            if id(part) in self._models:
                self.copied(part)  # Call by call, before it is read from a configuration.
        known = set(map(id, self._shared.values()))
        with private.one_object(self._layers, self._shared):
            copy = rebuilt(layer, self.names.unique(prefix + layer.name), changes)
        if isinstance(copy, keras.Layer) and known:
            self._has_shared |= any(id(part) in known for part in private.sublayers(copy))
        return copy

    def warn_of_shared(self, model):
        """Warns if layers that are in several others of a copy would not be when it is loaded."""
        self.copies.warn_of_separated()
        if self._has_shared and not private.loads_as_one(model):
            warnings.warn(
                f"In model '{model.name}' there are layers that are called, or in another layer, "
                "and in one that comes before. Keras saves such models, and cannot load them: use "
                "`save_weights` and `load_weights`, with a model that is made in the same way.",
                stacklevel=3,
            )

    def _input(self, tensor):
        layer = private.producer(tensor)
        self.names.take(layer.name)
        if isinstance(layer, keras.layers.InputLayer):
            # Configurations of Keras 3.10 do not say it.
            config = {**layer.get_config(), "optional": layer.optional}
            return keras.layers.InputLayer.from_config(config).output
        return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)


def _build_fused(node):
    """Builds the activation in a layer, if it is a layer: Keras does when the model runs."""
    layer, output = node.operation, node.outputs[0]
    shape = tuple(output.shape)
    if isinstance(layer, keras.layers.Wrapper):
        shape = shape[:1] + shape[2:] if isinstance(layer, keras.layers.TimeDistributed) else shape
        layer = layer.layer
    activation = layer.activation if fuses_activation(layer) else None
    if isinstance(activation, keras.Layer) and not activation.built:
        activation(keras.KerasTensor(shape, output.dtype))


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
