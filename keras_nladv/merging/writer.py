from collections import Counter, defaultdict
from dataclasses import replace

import keras
import numpy as np

from keras_nladv._copying.model_copy import ModelCopy
from keras_nladv._copying.pointwise import fuses_activation
from keras_nladv._copying.rebuilt import rebuilt
from keras_nladv._keras import private
from keras_nladv.layers.sparse_prelu import SparsePReLU
from keras_nladv.merging import forms, own
from keras_nladv.merging.linear_layers import CONVOLUTIONS, DEPTHWISE, PADDINGS
from keras_nladv.merging.reader import read_units
from keras_nladv.merging.steps import (
    ActivationStep,
    AddStep,
    ClipStep,
    MapStep,
    ShiftStep,
    along,
    same_dtype,
)

MAX_POOLING = (
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
    keras.layers.GlobalMaxPooling1D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.GlobalMaxPooling3D,
)
# What refuses a `KerasTensor`, of all activations.
NOT_SYMBOLIC = (keras.activations.hard_silu, keras.activations.mish)


class Writer(ModelCopy):
    """Writes steps as a plain Keras model."""

    def __init__(self):
        super().__init__()
        # By the `id` of a layer, the names of what has been replaced inside it.
        self._replaced = defaultdict(set)
        self._weights = []
        # Layers, with the map and the shape of the kernel that they are to get.
        self._maps = []
        # Arrays, with the map of the constant channel that fills them, the sizes and the axis.
        self._borders = []

    def shares(self, layer):
        # The function of an activation may be written into a layer of its own.
        return not fuses_activation(layer)

    def from_config(self, layer, changes=None, prefix=""):
        """Makes a layer like another, without what is of this library inside."""
        try:
            config = layer.get_config()
        except Exception:
            # What is wrong is said where all layers are made.
            return super().from_config(layer, changes, prefix)
        names = self._replaced[id(layer)]
        plain = own.replaced(config, layer, lambda x, name: self._plain_units(x, name, names))
        if plain is not config:
            parts = {key: value for key, value in plain.items() if value is not config.get(key)}
            changes = {**parts, **(changes or {})}
        return super().from_config(layer, changes, prefix)

    def _plain_units(self, layer, name, names):
        """A plain layer in the place of a `SparsePReLU` inside a layer that is kept whole. Its name
        is added to `names`."""
        found = [x for x in private.sublayers(layer) if isinstance(x, SparsePReLU)]
        found = [x for x in found if x.name == name]
        if not found or any(not np.array_equal(x.slopes, found[0].slopes) for x in found):
            raise ValueError(
                f"Layer '{layer.name}' of class {type(layer).__name__} lists a `SparsePReLU` "
                f"'{name}' in its configuration, and has none inside, or several whose slopes "
                "differ. Which slopes a plain layer in its place has is not known. Give each an "
                "argument and a name of its own."
            )
        units = found[0]
        names.add(name)
        shape = list(units.get_build_config()["input_shape"])
        if units.granularity == "channel":
            # Other sizes may be what a backend assumed.
            size = shape[units.axis]
            shape = [None] * len(shape)
            shape[units.axis] = size
        inputs = keras.Input(shape[1:], dtype=units.compute_dtype)
        common = {"name": name, "inputs": [], "outputs": [], "node": None}
        step = read_units(units, private.source(units(inputs)), common)
        if step.weights:
            raise ValueError(
                f"Layer '{layer.name}' of class {type(layer).__name__} has a `SparsePReLU` inside, "
                f"'{name}', whose activation has weights of its own. A plain layer in its place "
                "would lose these. Take it out of the layer, or give it another activation."
            )
        if step.linear.all():
            return keras.layers.Activation("linear", name=name, dtype=units.dtype_policy)
        # Made of the configuration it has no weights, those of a PReLU would be lost.
        is_binary = np.isin(step.slopes, (0.0, 1.0)).all()
        step = replace(step, form="" if is_binary else "sum")
        writer = Writer()
        return keras.Model(inputs, writer.activation(step, inputs), name=name)

    def model(self, flat, steps, ends):
        """Writes the steps of a flat model; `ends` are the keys of its outputs in order."""
        self.expect(flat)
        inputs, values = self.new_inputs(flat)
        self.write(steps, values, ends)
        _, structure = private.structures(flat)
        outputs = [values[key] for key in ends]
        self.names.tell_apart(keras.tree.flatten(inputs), outputs)
        if not isinstance(flat, keras.Sequential):
            self.names.name_outputs(flat.output_names, keras.tree.flatten(inputs), outputs)
        outputs = keras.tree.pack_sequence_as(structure, outputs)
        model = keras.Model(inputs, outputs, name=flat.name)
        if not flat.trainable:
            model.trainable = False
        return model

    def segment(self, steps, entry, shape):
        """Writes steps from one tensor, whose whole shape is given, to the last output."""
        inputs = keras.Input(batch_shape=shape, dtype="float32")
        values = {entry: inputs}
        (end,) = steps[-1].outputs
        self.write(steps, values, [end])
        self.names.tell_apart([inputs], [values[end]])
        return keras.Model(inputs, values[end])

    def set_weights(self):
        """Gives the layers their weights. Until then they have others."""
        for original, copy in self.copies:
            names = self._replaced[id(original)]
            for layer in (original, copy) if isinstance(original, keras.Layer) else ():
                for part in private.sublayers(layer):
                    if part.name in names or isinstance(part, own.ON_WEIGHTS):
                        self.copies.leave_out(copy, part)
        self.copies.transfer_weights()
        for layer, weights in self._weights:
            layer.set_weights(weights)
        for layer, linear, shape in self._maps:
            kernel = linear.kernel.swapaxes(-3, -2).reshape(shape)
            layer.set_weights([kernel, linear.bias] if linear.is_biased else [kernel])

        for array, constant, sizes, axis in self._borders:
            array[0] = np.moveaxis(constant.border(sizes), -1, 0 if axis == 1 else -1)

    def weigh(self, layer, weights):
        """Notes the weights that a layer is to get."""
        self._weights.append((layer, weights))

    def write(self, steps, values, ends):
        """Calls what the steps stand for.

        Args:
            steps: List of steps in order.
            values: Dict of tensors by key, which is added to.
            ends: List of the keys that are asked for.
        """
        uses = Counter(key for step in steps for key in step.inputs)
        fused = set()
        for step, following in zip(steps, [*steps[1:], None]):
            if id(step) in fused:
                continue
            inputs = [values[key] for key in step.inputs]
            # Whether what it gives goes to the next step and nowhere else.
            is_followed = (
                following is not None
                and following.inputs == step.outputs
                and uses[following.inputs[0]] == 1
                and following.inputs[0] not in ends
            )
            if isinstance(step, MapStep):
                activation = keras.activations.linear
                if is_followed and _fits(step, following):
                    # A layer of its own would keep one more tensor while the model runs.
                    fused.add(id(following))
                    activation = following.function
                divided = _divisor(step, following) if is_followed else 1.0
                if divided != 1:
                    # Instead of an operation more.
                    fused.add(id(following))
                    outputs = self._map(_over(step, divided), activation, *inputs)
                    outputs = self.activation(replace(following, divided=divided), outputs)
                elif step.node is None:
                    outputs = self._map(step, activation, *inputs)
                else:
                    if activation is not keras.activations.linear:
                        self.copied(step.node.operation).activation = activation
                    outputs = self._repeated(step, inputs)
            elif isinstance(step, ActivationStep):
                if is_followed and _commutes(step, following):
                    # The same for fewer positions.
                    fused.add(id(following))
                    inputs = [self._repeated(following, inputs)]
                outputs = self.activation(step, *inputs)
            elif isinstance(step, ClipStep):
                clipped = keras.ops.clip(*inputs, step.low, step.high)
                outputs = private.with_name(clipped, self.names.unique(step.name))
            elif isinstance(step, ShiftStep):
                shift = along(step.axis, step.shift.astype("float32"), inputs[0])
                name = self.names.unique(step.name)
                outputs = private.with_name(keras.ops.add(inputs[0], shift), name)
            elif isinstance(step, AddStep) and step.node is None:
                name = self.names.unique(step.name)
                outputs = keras.layers.Add(name=name, dtype=step.policy)(inputs)
            else:
                outputs = self._repeated(step, inputs)
            values.update(zip(step.outputs, keras.tree.flatten(outputs), strict=True))
            if id(following) in fused:
                values[following.outputs[0]] = outputs

    def _repeated(self, step, inputs):
        tensors = step.node.arguments.keras_tensors
        args, kwargs = step.node.arguments.fill_in(
            {id(tensor): x for tensor, x in zip(tensors, inputs, strict=True)}
        )
        return self.called(step.node, args, kwargs, "")

    def _map(self, step, activation, inputs):
        if step.map.takes_one:
            # What the constant channel comes to is the same for all samples, and computed for one:
            # with a channel more, the input would have to be copied.
            main, constant = step.map.without_one()
            outputs = self._map(replace(step, map=main), activation, inputs)
            name = f"{step.name}_border"
            sizes = inputs.shape[2:] if step.axis == 1 else inputs.shape[1:-1]
            if step.border == "constant" and None not in sizes:
                border = np.zeros((1, *outputs.shape[1:]), outputs.dtype)
                self._borders.append((border, constant, sizes, step.axis))
                return private.with_name(keras.ops.add(outputs, border), self.names.unique(name))
            first = inputs[:1, :1] if step.axis == 1 else inputs[:1, ..., :1]
            return keras.ops.add(
                outputs,
                self._map(
                    replace(step, name=name, map=constant), activation, keras.ops.ones_like(first)
                ),
            )
        linear = step.map
        rank = linear.rank
        common = {
            "name": self.names.unique(step.name),
            "use_bias": linear.is_biased,
            "activation": activation,
            "trainable": step.trainable,
            "dtype": step.policy,
        }
        # Convolutions would let masks end.
        as_dense = step.kind == "dense" or private.mask_of(inputs) is not None
        if linear.is_matrix and (rank == 0 or (as_dense and step.axis == -1)):
            linear = linear.regrouped(1)
            shape = linear.shape[-2:]
            layer = keras.layers.Dense(linear.outputs, **common)
        else:
            data_format = "channels_first" if step.axis == 1 else "channels_last"
            sizes = inputs.shape[2:] if step.axis == 1 else inputs.shape[1:-1]
            same = linear.is_padded and linear.pads == linear.same_pads(sizes)
            if linear.is_padded and not same:
                pads = linear.pads if rank > 1 else linear.pads[0]
                padding = PADDINGS[rank](
                    pads, data_format=data_format, name=self.names.unique(step.name + "_padding")
                )
                inputs = padding(inputs)
            common.update(
                kernel_size=linear.taps,
                strides=linear.strides,
                padding="same" if same else "valid",
                dilation_rate=linear.dilation,
                data_format=data_format,
            )
            *_, groups, rows, columns = linear.shape
            # TensorFlow has depthwise convolutions of equal strides only.
            equal = len(set(linear.strides)) == 1
            if groups > 1 and rows == 1 and rank in DEPTHWISE and equal:
                shape = (*linear.taps, groups, columns)
                layer = DEPTHWISE[rank](depth_multiplier=columns, **common)
            else:
                shape = (*linear.taps, rows, linear.outputs)
                layer = CONVOLUTIONS[rank](linear.outputs, groups=groups, **common)
        self._maps.append((layer, linear, shape))
        return layer(inputs)

    def activation(self, step, inputs):
        """Applies an activation, in the form of its step."""
        is_sparse = isinstance(step.node and step.node.operation, SparsePReLU)
        if step.node is not None and not is_sparse:
            return self._repeated(step, [inputs])
        name = self.names.unique(step.name)
        if step.linear.all():
            # It was not left out because it casts.
            return keras.layers.Activation("linear", name=name, dtype=step.policy)(inputs)
        if inputs.dtype != step.policy.compute_dtype:
            # What operations put out is of the type of their inputs.
            cast = self.names.unique(f"{name}_cast")
            inputs = keras.layers.Activation("linear", name=cast, dtype=step.policy)(inputs)
        if not step.slopes.any():
            return self.base(step, inputs, name)
        _, write = forms.FORMS[forms.chosen(step, inputs)]
        return write(self, step, inputs, name)

    def base(self, step, inputs, name):
        """Applies the function of an activation to all units."""
        function, policy = step.function, step.policy
        if step.weights and function in self.copies:
            layer = self.copies[function]  # It is in several places.
        elif isinstance(function, keras.Operation):
            layer = self.copies.keep(function, rebuilt(function, name))
        elif function is keras.activations.relu:
            layer = keras.layers.ReLU(name=name, dtype=policy)
        else:
            layer = keras.layers.Activation(function, name=name, dtype=policy)
            if (
                private.is_keras_function(function)
                and function not in NOT_SYMBOLIC
                and private.mask_of(inputs) is None
                and inputs.dtype == layer.compute_dtype
            ):
                # The same as an operation, which is called faster. Masks would end at it.
                return private.with_name(function(inputs), name)
        return layer(inputs)


def _commutes(step, following):
    """Whether an activation, which increases in each channel, may come after a max-pooling."""
    pooling = following.node and following.node.operation
    return (
        isinstance(pooling, MAX_POOLING)
        and step.axis == (1 if pooling.data_format == "channels_first" else -1)
        and (step.node is None or isinstance(step.node.operation, SparsePReLU))
        and step.function is keras.activations.relu
        and step.slopes.min() >= 0
        and step.slopes.any()
    )


def _divisor(step, following):
    """What a map is divided by for the step after it, 1 as a rule."""
    fits = (
        isinstance(following, ActivationStep)
        and same_dtype(step, following)
        and step.axis == following.axis
        and step.kind != "any"
        and not step.map.takes_one
    )
    return forms.divisor(following) if fits else 1.0


def _over(step, number):
    """A map divided by a number."""
    factors = np.full(step.map.outputs, 1 / number)
    return replace(step, map=step.map.scaled(outputs=factors), node=None)


def _fits(step, following):
    """Whether the step after a map is an activation that a layer can apply to its output."""
    return (
        isinstance(following, ActivationStep)
        and not following.slopes.any()
        and not isinstance(following.function, keras.Operation)
        and same_dtype(step, following)
        and step.kind != "any"
        and not step.map.takes_one
    )
