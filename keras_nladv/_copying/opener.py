from typing import Any

import keras

from keras_nladv._copying.masks import without_masks
from keras_nladv._copying.model_copy import ModelCopy
from keras_nladv._copying.opened import CannotOpenError, opened
from keras_nladv._copying.pointwise import fuses_activation, pointwise_function
from keras_nladv._keras import private
from keras_nladv._keras.pass_mask import PassMask
from keras_nladv.graph.rules import find_rule
from keras_nladv.layers.sparse_prelu import SparsePReLU

RECURRENT = (keras.layers.RNN, keras.layers.Bidirectional)


class Opener(ModelCopy):
    """Copies a model, and can put the parts of a layer in its place.

    A subclass says in `called` of which layers it wants the parts.

    Attributes:
        opens_for: Tuple of classes of layers that are, beside activations that `SparsePReLU` could
            replace, a reason to open the layer that they are in.
    """

    opens_for: tuple[type, ...] = ()

    def detached(self, layer, prefix):
        """The copy of a layer without its activation."""
        if id(layer) not in self.copies.detached:
            changes: dict[str, Any] = {"activation": "linear"}
            if layer.activity_regularizer is not None:
                # It is for what the layer puts out, behind the activation.
                changes["activity_regularizer"] = None
            copy = self.from_config(layer, changes, prefix)
            self.copies.keep(layer, copy, detached=True)
            if isinstance(layer.activation, keras.Layer):
                self.copies.leave_out(copy, layer.activation)
        return self.copies.detached[id(layer)]

    def inlined(self, node, args, kwargs, prefix):
        """Puts the calls of a nested model in the place of its own."""
        model = node.operation
        masks = keras.tree.flatten(kwargs.get("mask"))
        inputs = keras.tree.flatten((args, {**kwargs, "mask": None}))
        inputs = [x for x in inputs if isinstance(x, keras.KerasTensor)]
        for tensor, mask in zip(inputs, masks):
            if mask is not None:
                private.with_mask(tensor, mask)
        values = {id(tensor): x for tensor, x in zip(model.inputs, inputs, strict=True)}
        nodes = private.nodes_between(model.inputs, model.outputs)
        self.follow(nodes, values, prefix, kwargs.get("training"))
        _, outputs = private.structures(model)
        return keras.tree.map_structure(lambda tensor: values[id(tensor)], outputs)

    def composite(self, node, args, kwargs, prefix):
        """Opens a layer into the calls that it makes, if there are activations among them."""
        layer = node.operation
        masks = {id(x): private.mask_of(x) for x in keras.tree.flatten((args, kwargs))}
        if isinstance(layer, RECURRENT):
            return self.repeated(node, args, kwargs, prefix)
        try:
            run = opened(layer, args, kwargs)
        except CannotOpenError as error:
            run, wanted = error.run, False
            results = self.closed(node, args, kwargs, prefix, error)
        else:
            wanted = any(activates(node, self.opens_for) for node in run.nodes)
            results = None if wanted else self.repeated(node, args, kwargs, prefix)
        if run is None:
            return results
        values = {id(tensor): x for tensor, x in run.starts}
        if wanted:
            self.enters(layer, run.nodes)
            with private.dense_tensors():
                self.follow(run.nodes, values, f"{prefix}{layer.name}_")
            results = keras.tree.map_structure(lambda tensor: values[id(tensor)], run.outputs)
        else:
            self.follow(run.mask_nodes, values, f"{layer.name}_")
        gone = without_masks(run.nodes)
        for start, tensor in run.starts:
            if id(start) in gone:
                private.with_mask(tensor, None)
        first = run.starts[0][1]
        self._pass_masks(layer, run, values, keras.tree.flatten(results), first, masks[id(first)])
        return self.behind(layer, results, prefix) if wanted else results

    def closed(self, node, args, kwargs, prefix, error):
        """Calls a layer that cannot be opened, for the reason that `error` says."""
        return self.repeated(node, args, kwargs, prefix)

    def enters(self, layer, nodes):
        """Is told of the nodes of a layer before they are followed."""

    def behind(self, layer, results, prefix):
        """Attaches masks as the model runs, too, where losses look for them."""

        def masked(tensor):
            mask = private.mask_of(tensor)
            if mask is None:
                return tensor
            name = self.names.unique(f"{prefix}{layer.name}_mask")
            return PassMask(name=name, dtype=tensor.dtype)(tensor, mask=mask)

        return keras.tree.map_structure(masked, results)

    def _pass_masks(self, layer, run, values, results, first, mask):
        """Lets the results have the masks that the layer gives its outputs as the model runs.

        Some layers attach masks in their `call`; operations drop them.
        """
        masks = [None] * len(results)
        if layer.supports_masking:
            masks = keras.tree.flatten(layer.compute_mask(first, mask)) or masks
        for tensor, mask, attached in zip(results, masks, run.masks):
            private.with_mask(tensor, mask if attached is None else values[id(attached)])


def activates(node, kinds=()):
    """Whether a call applies an activation, or a layer of some `kinds`, itself or in the calls that
    it makes."""
    operation = node.operation
    if private.is_functional(operation):
        nodes = private.nodes_between(operation.inputs, operation.outputs)
    elif not isinstance(operation, keras.Layer) or find_rule(operation) is not None:
        applied = operation.activation if fuses_activation(operation) else operation
        return pointwise_function(applied, node) is not None or isinstance(applied, kinds)
    else:
        try:
            nodes = opened(operation, node.arguments.args, node.arguments.kwargs).nodes
        except CannotOpenError:
            return activates_inside(operation)
    return any(activates(each, kinds) for each in nodes)


def activates_inside(layer):
    """Whether a layer that cannot be opened has an activation inside that is a layer's."""
    parts = private.sublayers(layer)
    return any(
        pointwise_function(getattr(part, "activation", part))
        for part in parts
        if not isinstance(part, SparsePReLU)
    )
