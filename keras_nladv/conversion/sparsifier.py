import inspect
from dataclasses import replace

import keras

from keras_nladv._copying.attributes import differing
from keras_nladv._copying.masks import masks_matter
from keras_nladv._copying.opener import RECURRENT, Opener, activates, activates_inside
from keras_nladv._copying.pointwise import (
    function_name,
    fuses_activation,
    granularity_of,
    is_bound_beside_another,
    pointwise_function,
)
from keras_nladv._copying.rebuilt import rebuilt
from keras_nladv._keras import private
from keras_nladv.conversion.site import Site
from keras_nladv.graph.rules import find_rule
from keras_nladv.layers.base_activation import unfit
from keras_nladv.layers.sparse_prelu import SparsePReLU

# What may stand between a depthwise convolution and its activations: it acts on each channel.
BY_CHANNEL = (
    *(keras.layers.BatchNormalization, keras.layers.Dropout, keras.layers.SpatialDropout2D),
    *(keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D),
)
# What they wrap computes what it would alone, at each time step or with a kernel that is scaled.
WRAPPERS = (keras.layers.TimeDistributed, keras.layers.SpectralNormalization)
DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)


class Sparsifier(Opener):
    """Copies a model with `SparsePReLU` in the place of its activations.

    Args:
        select: Function of an activation's name and layer or operation: whether to convert it.
        options: Dict of the arguments `granularity` and `linear_threshold` of `SparsePReLU`.
        regularizer: Regularizer of the slopes.
        share: Whether the activations around a depthwise convolution share their slopes.
    """

    def __init__(self, select, options, regularizer, share):
        super().__init__()
        self._rows = {}
        self._select = select
        self._options = options
        self._regularizer = regularizer
        self._share = share
        self._axis = -1
        self._scope = None
        # With the sites where they were made, by keys of these and the shapes of the slopes.
        self._made = {}
        # Names and keys for operations inside composite layers, by their `id`: each run of a
        # layer makes new ones.
        self._inside = {}

    @property
    def rows(self):
        """List of dicts, what became of each activation, see `SparsifyReport`."""
        return list(self._rows.values())

    def copy(self, model, name=None):
        formats = {getattr(layer, "data_format", None) for layer in private.sublayers(model)}
        outer = self._axis, self._scope
        self._axis = 1 if "channels_first" in formats else -1
        self._scope = "" if self._scope is None else f"{self._scope}{name or model.name}/"
        copy = super().copy(model, name)
        self._axis, self._scope = outer
        return copy

    def called(self, node, args, kwargs, prefix):
        operation, output = node.operation, node.outputs[0]
        if private.is_functional(operation) and masks_matter(operation, args, kwargs):
            outer, self._scope = self._scope, f"{self._scope}{prefix}{operation.name}/"
            outputs = self.inlined(node, args, kwargs, "")
            self._scope = outer
            return outputs
        if isinstance(operation, SparsePReLU) or private.is_functional(operation):
            return self.repeated(node, args, kwargs, prefix)
        if fuses_activation(operation):
            if isinstance(operation.activation, SparsePReLU):
                outputs = self.detached(operation, prefix)(*args, **kwargs)
                return self.copied(operation.activation, f"{prefix}{operation.name}_")(outputs)
            first = getattr(operation, "data_format", None) == "channels_first"
            site = self._site(node, operation.activation, 1 if first else -1)
            if self._is_left(site, prefix, output):
                return self.repeated(node, args, kwargs, prefix)
            outputs = self.detached(operation, prefix)(*args, **kwargs)
            return self._activated(site, outputs, f"{prefix}{site.name}_activation")
        if type(operation) in WRAPPERS:
            inner = operation.layer
            if private.is_functional(inner) and not masks_matter(inner, args, kwargs):
                self._copy_inside(operation, prefix)
                return self.repeated(node, args, kwargs, prefix)
            site = self._site_inside(node)
            if site is not None:
                if self._is_left(site, prefix, output):
                    return self.repeated(node, args, kwargs, prefix)
                if not fuses_activation(inner):
                    return self._activated(site, args[0], prefix + site.name)
                outputs = self._wrapped_detached(operation, prefix)(*args, **kwargs)
                return self._activated(site, outputs, f"{prefix}{site.name}_activation")
        opens = find_rule(operation) is None or isinstance(operation, RECURRENT)
        if isinstance(operation, keras.Layer) and opens:
            return self.composite(node, args, kwargs, prefix)
        site = self._site(node, operation, self._axis)
        leaves = keras.tree.flatten((args, kwargs))
        inputs = next((x for x in leaves if isinstance(x, keras.KerasTensor)), output)
        if self._is_left(site, prefix, inputs):
            return self.repeated(node, args, kwargs, prefix)
        if private.mask_of(inputs) is not None and not isinstance(operation, keras.Layer):
            # Masks end at operations. A layer would pass them on.
            inputs = keras.ops.copy(inputs)
        return self._activated(site, inputs, prefix + site.name)

    # ---- Wrappers

    def _copy_inside(self, wrapper, prefix):
        """Copies the model in a wrapper. The copy of the wrapper will have that."""
        model = wrapper.layer
        if model not in self.copies:
            outer, self._scope = self._scope, f"{self._scope}{prefix}{wrapper.name}/"
            self._shared[id(model)] = self.copies.keep(model, self.copy(model))
            self._scope = outer

    def _site_inside(self, node):
        """The site of the activation of a wrapped layer, if it can stand behind the wrapper."""
        wrapper, inner = node.operation, node.operation.layer
        is_fused = fuses_activation(inner)
        if is_fused and inner.activity_regularizer is not None:
            return None
        applied = inner.activation if is_fused else inner
        if isinstance(applied, SparsePReLU) or not (is_fused or pointwise_function(applied)):
            return None
        first = getattr(inner, "data_format", None) == "channels_first"
        axis = (1 if first else -1) if is_fused else self._axis
        site = self._site(node, applied, axis, inner)
        if isinstance(wrapper, keras.layers.TimeDistributed):
            if site.granularity == "element":
                return None  # Slopes would differ between time steps.
            if site.axis > 0:
                site = replace(site, axis=site.axis + 1)
        return site

    def _wrapped_detached(self, wrapper, prefix):
        """The copy of a wrapper, of a layer without its activation."""
        copies, inner = self.copies.detached, wrapper.layer
        if id(inner) not in copies:
            # Not by `detached`: beside others, its name is that of the wrapper.
            copy = rebuilt(inner, inner.name, {"activation": "linear"})
            self.copies.keep(inner, copy, detached=True)
            if isinstance(inner.activation, keras.Layer):
                self.copies.leave_out(copy, inner.activation)
        if id(wrapper) not in copies:
            outer, self._shared = self._shared, {id(inner): copies[id(inner)]}
            self.copies.keep(wrapper, self.from_config(wrapper, prefix=prefix), detached=True)
            self._shared = outer
        return copies[id(wrapper)]

    # ---- Activations

    def _site(self, node, applied, axis, owner=None):
        operation = node.operation
        key, layer = id(owner or operation), operation
        if key in self._inside:
            key, layer, _ = self._inside[key]
        granularity = self._options["granularity"]
        if isinstance(applied, keras.layers.PReLU):
            granularity, axis = granularity_of(applied)
        return Site(
            node=node,
            applied=applied,
            function=pointwise_function(applied, node),
            name=operation.name,
            key=key,
            trainable=getattr(layer, "trainable", True),
            granularity=granularity,
            axis=axis,
        )

    def _is_left(self, site, prefix, tensor):
        """Whether a call is to be repeated as it is. Notes why, if it applies an activation."""
        applied, reason = site.applied, None
        if site.function is None:
            applied, reason = _not_pointwise(site)
            if reason is None:
                return True
        elif "float" not in tensor.dtype:
            reason = "it is applied to integers"
        elif not self._selects(site, prefix):
            reason = "it is not selected"
        elif site.granularity is None:
            reason = "its slopes are shared over some positions only"
        elif not isinstance(applied, keras.layers.PReLU) and (why := unfit(site.function)):
            reason = f"it {why}"
        elif site.granularity == "channel" and len(tensor.shape) < 2:
            reason = "its input has no axis of channels"
        elif None in site.slopes_shape(tensor.shape):
            reason = "its slopes would lie along an axis of unknown size"
        self._note(site, prefix, applied, "left" if reason else "converted", reason or "")
        return bool(reason)

    def _selects(self, site, prefix):
        return self._select(f"{self._scope}{prefix}{site.name}", site.node.operation)

    def _note(self, site, prefix, applied, outcome, reason):
        self._rows.setdefault(
            (site.key, outcome, reason),
            {
                "name": f"{self._scope}{prefix}{site.name}",
                "function": applied if isinstance(applied, str) else function_name(applied),
                "outcome": outcome,
                "reason": reason,
            },
        )

    def _activated(self, site, inputs, name):
        """Applies the `SparsePReLU` that stands for an activation, made the first time only."""
        applied, shape = site.applied, site.slopes_shape(inputs.shape)
        # An activation that has no weights may be called on tensors of several sizes.
        key = (
            id(applied) if isinstance(applied, keras.Layer) else site.key,
            *(site.axis, len(inputs.shape) if site.axis > 0 else None, shape),
        )
        if key not in self._made:
            regularizer = getattr(site.node.operation, "activity_regularizer", None)
            layer = None
            if self._share and regularizer is None:
                layer = self._across_depthwise(site, inputs)
            if layer is None:
                layer = self._sparse_prelu(site, inputs.dtype, self.names.unique(name))
                layer.activity_regularizer = _copied_regularizer(regularizer)
            self._made[key] = layer, site, shape
        layer = self._made[key][0]
        outputs = layer(inputs)
        if isinstance(applied, keras.layers.PReLU):
            # By NumPy, as in `transfer_weights`.
            slopes = keras.ops.convert_to_numpy(applied.alpha)
            layer.alpha.assign(slopes.reshape(layer.alpha.shape))
        return outputs

    def _sparse_prelu(self, site, dtype, name):
        function = site.function
        if isinstance(site.applied, keras.layers.PReLU):
            function = keras.activations.relu
        elif isinstance(function, keras.Operation):
            function = self.copies.keep(function, rebuilt(function, function.name))
        half = {"float16": "mixed_float16", "bfloat16": "mixed_bfloat16"}
        return SparsePReLU(
            axis=site.axis,
            granularity=site.granularity,
            linear_threshold=self._options["linear_threshold"],
            alpha_regularizer=_copied_regularizer(self._regularizer),
            activation=function,
            name=name,
            trainable=site.trainable,
            dtype=getattr(site.applied, "dtype_policy", half.get(dtype, dtype)),
        )

    def _across_depthwise(self, site, inputs):
        """The `SparsePReLU` of the same function on the other side of a depthwise convolution."""
        crossed, shape = False, site.slopes_shape(inputs.shape)
        while True:
            node = private.source(inputs)
            layer = node.operation
            if isinstance(layer, SparsePReLU) and crossed:
                for made, other, other_shape in self._made.values():
                    if made is layer and other_shape == shape and other.computes_as(site):
                        return layer
            if isinstance(layer, DEPTHWISE) and layer.depth_multiplier > 1:
                return None
            if not isinstance(layer, (*DEPTHWISE, *BY_CHANNEL)):
                return None
            crossed = crossed or isinstance(layer, DEPTHWISE)
            inputs = node.arguments.keras_tensors[0]

    # ---- Layers made of layers

    def composite(self, node, args, kwargs, prefix):
        if isinstance(node.operation, RECURRENT):
            site = self._site(node, node.operation, -1)
            self._note(site, prefix, "cell", "left", "it is applied inside a recurrent cell")
        return super().composite(node, args, kwargs, prefix)

    def enters(self, layer, nodes):
        """Lets operations be the same ones in every run of a layer."""
        for index, node in enumerate(nodes):
            operation = node.operation
            if not isinstance(operation, keras.Layer):
                # The operation is kept alive, for its `id`.
                self._inside[id(operation)] = (id(layer), index), layer, operation

    def closed(self, node, args, kwargs, prefix, error):
        """Gives a layer that cannot be opened another `activation`, if it takes that argument."""
        layer = node.operation
        if layer in self.copies:
            return self.repeated(node, args, kwargs, prefix)
        activation = getattr(layer, "activation", None)
        site = self._site(node, activation, -1)
        why = f"the layer cannot be opened: {error}"
        if site.function is None or getattr(activation, "weights", []) or unfit(site.function):
            nodes = error.run.nodes if error.run is not None else []
            unknown = site.function is None and _not_pointwise(site)[1]
            if unknown or activates_inside(layer) or any(map(activates, nodes)):
                self._note(site, prefix, "?", "left", why)
        elif not self._selects(site, prefix):
            self._note(site, prefix, activation, "left", "it is not selected")
        elif _applies_others(layer):
            why = "the layer has another one inside than `activation` says"
            self._note(site, prefix, activation, "left", why)
        else:
            self._note(site, prefix, activation, "converted", f"inside; {why}")
            sparse = self._sparse_prelu(site, layer.compute_dtype, f"{layer.name}_activation")
            changes = {"activation": keras.saving.serialize_keras_object(sparse)}
            copy = self.copies.keep(layer, self.from_config(layer, changes, prefix))
            outputs = copy(*args, **kwargs)
            # What only the copy or only the original has inside.
            parts = [part for part in private.sublayers(copy) if isinstance(part, SparsePReLU)]
            parts += [activation] if isinstance(activation, keras.Layer) else []
            for part in parts:
                self.copies.leave_out(copy, part)
            return outputs
        return self.repeated(node, args, kwargs, prefix)


def _applies_others(layer):
    """Whether functions inside a layer were replaced after it had been made."""
    plain = rebuilt(layer, layer.name)
    if not plain.built:
        plain.build_from_config(layer.get_build_config())
    return any(
        inspect.isfunction(value)
        for old, new in zip(private.sublayers(layer), private.sublayers(plain))
        for _, value in differing(old, new)
    )


def _not_pointwise(site):
    """An activation that is not pointwise, as far as one can tell, and why it is left.

    The reason is `None` if there is no activation.
    """
    applied = site.applied
    if isinstance(getattr(applied, "layer", None), keras.Layer):
        for part in private.sublayers(applied.layer):
            inner = getattr(part, "activation", part)
            if pointwise_function(inner) is not None:
                return inner, "it is applied inside a wrapper"
    is_fused = applied is not site.node.operation
    if isinstance(applied, keras.layers.Activation):
        applied, is_fused = applied.activation, True
    if function_name(applied) in ("softmax", "log_softmax", "logsoftmax", "sparsemax"):
        return applied, "it is not pointwise"
    if is_fused and applied is not None and find_rule(applied) is None:
        return applied, "the path rules do not know it, see `register_path_rule`"
    kind = type(applied).__name__
    if private.is_keras_operation(applied) and kind in ("Maximum", "Minimum", "Clip"):
        tensor, *others = site.node.arguments.keras_tensors
        if not others and "float" in tensor.dtype:
            if kind != "Clip" and is_bound_beside_another(site.node):
                return applied, "it is one of two bounds; `keras.ops.clip` would be converted"
            return applied, "it is no ReLU"
    return applied, None


def _copied_regularizer(regularizer):
    return keras.regularizers.get(keras.regularizers.serialize(regularizer))
