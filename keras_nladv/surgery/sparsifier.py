import keras
import numpy as np

from keras_nladv.graph import private
from keras_nladv.graph.rules import find_rule
from keras_nladv.layers.sparse_prelu import SparsePReLU
from keras_nladv.surgery.model_copy import ModelCopy
from keras_nladv.surgery.opened import CannotOpenError, opened
from keras_nladv.surgery.pointwise import function_name, fuses_activation, pointwise_function

# What may stand between a depthwise convolution and its activations: it acts on each channel.
BY_CHANNEL = (
    *(keras.layers.BatchNormalization, keras.layers.Dropout, keras.layers.SpatialDropout2D),
    *(keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D),
)
DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)


class Sparsifier(ModelCopy):
    """Copies a model with `SparsePReLU` in the place of its activations.

    Args:
        select: Function of an activation's name and layer or operation: whether to convert it.
        options: Dict of arguments of `SparsePReLU`.
        regularizer: Regularizer of the slopes, or `None`.
        share: Whether the activations around a depthwise convolution share their slopes.

    Attributes:
        rows: List of dicts, what became of each activation, see `SparsifyReport`.
    """

    def __init__(self, select, options, regularizer, share):
        super().__init__()
        self.rows = []
        self._select = select
        self._options = options
        self._regularizer = regularizer
        self._share = share
        self._axis = -1
        # By the `id` of the layer or operation that each stands for.
        self._made = {}

    def copy(self, model):
        formats = {getattr(layer, "data_format", None) for layer in private.sublayers(model)}
        outer, self._axis = self._axis, 1 if "channels_first" in formats else -1
        copy = super().copy(model)
        self._axis = outer
        return copy

    def called(self, node, args, kwargs, prefix):
        operation, shape = node.operation, node.outputs[0].shape
        name = prefix + operation.name
        if isinstance(operation, SparsePReLU) or private.is_functional(operation):
            return super().called(node, args, kwargs, prefix)
        if fuses_activation(operation):
            applied = operation.activation
            function = pointwise_function(applied)
            if isinstance(applied, SparsePReLU):
                outputs = self._detached(operation, prefix)(*args, **kwargs)
                return self.copied(applied, name + "_")(outputs)
            if self._is_left(operation, applied, function, name, shape):
                return super().called(node, args, kwargs, prefix)
            outputs = self._detached(operation, prefix)(*args, **kwargs)
            owner = applied if isinstance(applied, keras.Layer) else operation
            return self._activated(owner, applied, function, name + "_activation", outputs)
        function = pointwise_function(operation, args)
        if function is not None or not isinstance(operation, keras.Layer):
            if self._is_left(operation, operation, function, name, shape):
                return super().called(node, args, kwargs, prefix)
            inputs = next(
                x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)
            )
            return self._activated(operation, operation, function, name, inputs)
        if find_rule(operation) is None:
            return self._composite(node, args, kwargs, prefix)
        self._is_left(operation, operation, None, name, shape)
        return super().called(node, args, kwargs, prefix)

    # ---- Activations

    def _is_left(self, operation, applied, function, name, shape):
        """Whether a call is to be repeated as it is. Notes why, if it applies an activation."""
        kind = function_name(applied)
        if function is None:
            if kind in ("softmax", "log_softmax", "logsoftmax", "sparsemax"):
                self._note(name, kind, "left", "it is not pointwise")
            elif hasattr(getattr(applied, "layer", None), "activation"):
                inner = function_name(applied.layer.activation)
                if inner != "linear":
                    self._note(name, inner, "left", "it is applied inside a wrapper")
            return True
        if id(operation) in self._made or id(applied) in self._made:
            return False
        if not self._select(name, operation):
            reason = "it is not selected"
        elif len(shape) < 2:
            reason = "its input has no axis of channels"
        elif self._options["granularity"] == "channel" and shape[self._axis] is None:
            reason = "the number of its channels is not known"
        elif isinstance(applied, keras.layers.PReLU) and _granularity(applied) is None:
            reason = "its slopes are shared over some positions only"
        else:
            self._note(name, kind, "converted", "")
            return False
        self._note(name, kind, "left", reason)
        return True

    def _detached(self, layer, prefix):
        """The copy of a layer without its activation."""
        if id(layer) not in self._copies:
            self.keep(layer, self.from_config(layer, {"activation": "linear"}, prefix))
            if isinstance(layer.activation, keras.Layer):
                self.unmatched.update(map(id, private.sublayers(layer.activation)))
        return self.copied(layer)

    def _activated(self, owner, applied, function, name, inputs):
        """Applies the `SparsePReLU` that stands for an activation, made the first time only."""
        if id(owner) not in self._made:
            shared = self._across_depthwise(function, inputs) if self._share else None
            layer = shared or self._sparse_prelu(applied, function, inputs.dtype, name)
            # The original is kept alive, for its `id`.
            self._made[id(owner)] = layer, function, owner
        layer = self._made[id(owner)][0]
        outputs = layer(inputs)
        if isinstance(applied, keras.layers.PReLU):
            layer.alpha.assign(keras.ops.reshape(applied.alpha, layer.alpha.shape))
        return outputs

    def _sparse_prelu(self, applied, function, dtype, name):
        options = {**self._options, "axis": self._axis}
        if isinstance(applied, keras.layers.PReLU):
            options["granularity"] = _granularity(applied)
            function = keras.activations.relu
        elif isinstance(function, keras.Operation):
            function = type(function).from_config(function.get_config())
        if self._regularizer is not None:
            config = keras.regularizers.serialize(self._regularizer)
            options["alpha_regularizer"] = keras.regularizers.deserialize(config)
        policy = getattr(applied, "dtype_policy", None) or {
            "float16": "mixed_float16",
            "bfloat16": "mixed_bfloat16",
        }.get(dtype, dtype)
        return SparsePReLU(
            activation=function, name=self.unique_name(name), dtype=policy, **options
        )

    def _across_depthwise(self, function, inputs):
        """The `SparsePReLU` of the same function on the other side of a depthwise convolution."""
        crossed = False
        while True:
            node = private.source(inputs)
            layer = node.operation
            made = [x for x, base, _ in self._made.values() if x is layer and base is function]
            if made and crossed:
                return made[0]
            crossed = crossed or isinstance(layer, DEPTHWISE)
            if isinstance(layer, DEPTHWISE) and layer.depth_multiplier > 1:
                return None
            if not isinstance(layer, (*DEPTHWISE, *BY_CHANNEL)):
                return None
            inputs = node.arguments.keras_tensors[0]

    def _note(self, name, function, outcome, reason):
        row = {"name": name, "function": function, "outcome": outcome, "reason": reason}
        if row not in self.rows:
            self.rows.append(row)

    # ---- Layers made of layers

    def _composite(self, node, args, kwargs, prefix):
        """Opens a layer into the calls it makes, or converts it as a whole, or leaves it."""
        layer = node.operation
        name = prefix + layer.name
        if isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional)):
            self._note(name, "cell", "left", "it is applied inside a recurrent cell")
            return super().called(node, args, kwargs, prefix)
        try:
            run = opened(layer, args, kwargs)
        except CannotOpenError as error:
            run = error.run
            results = self._converted_inside(node, args, kwargs, prefix, str(error))
        else:
            if any(map(_activates, run.nodes)):
                values = {id(tensor): x for tensor, x in run.starts}
                self.follow(run.nodes, values, name + "_")
                results = keras.tree.map_structure(lambda tensor: values[id(tensor)], run.outputs)
            else:
                results = super().called(node, args, kwargs, prefix)
        if run is not None:
            self._pass_masks(layer, run, keras.tree.flatten(results))
        return results

    def _pass_masks(self, layer, run, results):
        """Lets the results have the masks that the layer gives its outputs as the model runs.

        Some layers attach masks in their `call`; operations drop them.
        """
        first = run.starts[0][1]
        masks = [None] * len(results)
        if layer.supports_masking:
            masks = keras.tree.flatten(layer.compute_mask(first, private.mask_of(first))) or masks
        values = {id(tensor): x for tensor, x in run.starts}
        self.follow(run.mask_nodes, values, layer.name + "_")
        for tensor, mask, attached in zip(results, masks, run.masks):
            private.with_mask(tensor, mask if attached is None else values[id(attached)])

    def _converted_inside(self, node, args, kwargs, prefix, why):
        """Gives a layer that cannot be opened another `activation`, if it takes that argument."""
        layer = node.operation
        name = prefix + layer.name
        if id(layer) not in self._copies:
            activation = getattr(layer, "activation", None)
            function = None if activation is None else pointwise_function(activation)
            if function is not None and self._select(name, layer):
                sparse = self._sparse_prelu(layer, function, None, name + "_activation")
                changes = {"activation": keras.saving.serialize_keras_object(sparse)}
                copy = self.keep(layer, self.from_config(layer, changes, prefix))
                kind = function_name(function)
                self._note(name, kind, "converted", f"in the layer, which is not opened: {why}")
                outputs = copy(*args, **kwargs)
                for part in private.sublayers(copy):
                    if isinstance(part, SparsePReLU):
                        self.unmatched.update(map(id, private.sublayers(part)))
                return outputs
            if _activates_inside(layer):
                self._note(name, "?", "left", f"the layer cannot be opened: {why}")
        return super().called(node, args, kwargs, prefix)


def _activates(node):
    """Whether a call applies an activation, itself or in the calls that it makes."""
    operation = node.operation
    if not isinstance(operation, keras.Layer) or find_rule(operation) is not None:
        applied = operation.activation if fuses_activation(operation) else operation
        return pointwise_function(applied, node.arguments.args) is not None
    try:
        run = opened(operation, node.arguments.args, node.arguments.kwargs)
    except CannotOpenError:
        return _activates_inside(operation)
    return any(map(_activates, run.nodes))


def _activates_inside(layer):
    """Whether a layer that cannot be opened has an activation inside that is a layer's."""
    parts = private.sublayers(layer)
    return any(pointwise_function(getattr(part, "activation", part)) for part in parts)


def _granularity(prelu):
    """The granularity of a stock PReLU's slopes, `None` if `SparsePReLU` has none like it."""
    shape = tuple(prelu.alpha.shape)
    if np.prod(shape) == 1:
        return "layer"
    if not prelu.shared_axes:
        return "element"
    return "channel" if np.prod(shape) == shape[-1] else None
