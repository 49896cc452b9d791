from dataclasses import replace

import keras
import numpy as np

from keras_nladv._keras import private
from keras_nladv._keras.unknown_sizes import UnknownSizes
from keras_nladv.graph import recurrent_rules  # noqa: F401  Its rules are registered.
from keras_nladv.graph.call import Call
from keras_nladv.graph.channels import Channels
from keras_nladv.graph.operation_rules import OPERATION_RULES
from keras_nladv.graph.reading import Reading
from keras_nladv.graph.rules import constant, find_rule, function_of

# What unknown sizes are taken for when a composite layer is opened, tried in turn: some layers need
# to know them, some need them small, some divisible.
ASSUMED_SIZES = (None, 8, 16, 4, 2, 1)


class Tracer:
    """Reads a Keras model as a channel graph, call by call.

    Args:
        skips_zeros: Boolean. Whether edges whose weights are all zero do not count.

    Attributes:
        reading: The `Reading`, what has been read so far.
    """

    def __init__(self, skips_zeros=False):
        self.reading = Reading(skips_zeros)

    def trace(self, model):
        """Traces a model from its inputs. Returns the array of channels at which paths end."""
        formats = {getattr(layer, "data_format", None) for layer in private.sublayers(model)}
        inputs = []
        for tensor in model.inputs:
            rank = len(tensor.shape)
            axis = 1 if "channels_first" in formats and rank > 2 else rank - 1
            # There is one channel without axes besides the batch or a last one of unknown size.
            sources = self.reading.graph.add_sources((tensor.shape[axis] or 1) if axis else 1)
            shape = [1] * rank
            shape[axis] = len(sources)
            inputs.append(self._channels(sources.reshape(shape), tensor))
        outputs = self._run(model, inputs, scope="")
        return np.concatenate([np.unique(channels.labels) for channels in outputs])

    def apply(self, operation, args, kwargs, outputs, name):
        """Applies the path rule of a layer or operation.

        Args:
            operation: The layer or operation.
            args: Its positional arguments, with `Channels` in place of tensors.
            kwargs: Its keyword arguments, likewise.
            outputs: List of `keras.KerasTensor`, the specifications of its outputs.
            name: Name of the call.

        Returns:
            List of `Channels`.
        """
        call = Call(operation, args, kwargs, outputs, name, self.reading, self.apply)
        labels = self._labels(call)
        labels = labels if isinstance(labels, list) else [labels]
        if len(labels) != len(outputs) or not all(map(_fits, labels, outputs)):
            raise ValueError(
                f"The path rule of '{name}' must return an array of labels for each output, with "
                "an axis for each axis of the output, of its size or of size 1. Received: "
                f"{labels} for outputs of shapes {[output.shape for output in outputs]}"
            )
        return [self._channels(each, output) for each, output in zip(labels, outputs, strict=True)]

    def _channels(self, labels, tensor):
        if tensor.dtype == "bool":
            distinct, inverse = np.unique(labels, return_inverse=True)
            labels = self.reading.graph.as_masks(distinct)[inverse].reshape(labels.shape)
        return Channels(labels, tuple(tensor.shape), tensor.dtype)

    def _labels(self, call):
        if not call.carrying:
            return constant(call)
        if private.is_functional(call.operation):
            # Keras gives nested models the masks of their inputs, too.
            given = replace(call, kwargs={**call.kwargs, "mask": None}).inputs
            outputs = self._run(call.operation, given, scope=call.name + "/")
            return [channels.labels for channels in outputs]
        rule = find_rule(call.operation)
        if rule is None and private.is_keras_operation(call.operation):
            rule = OPERATION_RULES.get(type(call.operation).__name__)
        if rule is None and isinstance(call.operation, keras.layers.Lambda):
            rule = find_rule(call.operation.function)
        labels = None if rule is None else rule(call)
        return self._opened(call) if labels is None else labels

    def _run(self, model, inputs, scope):
        """Follows the graph of a model. Returns the `Channels` of its outputs."""
        nodes = private.nodes_between(model.inputs, model.outputs)
        names = [scope + node.operation.name for node in nodes]
        values = {id(tensor): x for tensor, x in zip(model.inputs, inputs, strict=True)}
        return self._follow(nodes, names, values, model.outputs)

    def _follow(self, nodes, names, values, outputs):
        for node, name in zip(nodes, names, strict=True):
            args, kwargs = node.arguments.fill_in(values)
            results = self.apply(node.operation, args, kwargs, node.outputs, name)
            values.update((id(tensor), x) for tensor, x in zip(node.outputs, results, strict=True))
        return [values[id(tensor)] for tensor in outputs]

    def _opened(self, call):
        """Labels of the outputs of a composite layer, whose `call` is run symbolically."""
        layer, kind = call.operation, type(call.operation).__name__
        if not isinstance(layer, keras.Layer):
            function = function_of(layer)
            of_all = function and (
                f"with `keras_nladv.register_path_rule({function}, rule)`, where `rule` is "
                '"activation", "pass", "mixing" or another, for all of its calls; or '
            )
            raise ValueError(
                f"The path rules do not know operation '{call.name}' of class {kind} as it is used "
                f"here. Say how paths lead through it {of_all or ''}with "
                "`keras_nladv.register_path_rule(ThatLayer, rule)` for the layer that calls it; "
                "put it into one if it is in none."
            )
        for size in ASSUMED_SIZES:
            try:
                nodes, values, outputs = _symbolic_run(call, size)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
            else:
                break
        else:
            raise ValueError(
                f"The path rules do not know layer '{call.name}' of class {kind}, and it cannot be "
                "opened by a symbolic run of its `call`. Say how paths lead through it with "
                f"`keras_nladv.register_path_rule({kind}, rule)`. What stopped the run: {reason}"
            )
        # Numbers in place of the names of operations, which are new in each run.
        names = [
            f"{call.name}/{type(node.operation).__name__.lower()}_{index}"
            if private.is_keras_operation(node.operation)
            else f"{call.name}/{node.operation.name}"
            for index, node in enumerate(nodes)
        ]
        assumed = self.reading.assumes_sizes
        unknown = any(None in channels.shape[1:] for channels in call.inputs)
        self.reading.assumes_sizes = assumed or (unknown and size is not None)
        symbolic = [x for x in outputs if isinstance(x, keras.KerasTensor)]
        followed = iter(self._follow(nodes, names, values, symbolic))
        self.reading.assumes_sizes = assumed
        return [
            next(followed).labels
            if isinstance(output, keras.KerasTensor)
            else np.zeros((1,) * np.ndim(output), int)
            for output in outputs
        ]


def _fits(labels, output):
    """Whether labels have an axis for each axis of a tensor, of size 1 or of its size, if known."""
    sizes = np.shape(labels)
    return len(sizes) == len(output.shape) and all(
        size in (1, known) or known is None for size, known in zip(sizes, output.shape)
    )


def _symbolic_run(call, size):
    """Runs a layer's `call` on symbolic tensors whose unknown sizes are `size`.

    Returns:
        The nodes of the run, the `Channels` of its inputs by the tensors' `id`, and its outputs.
    """
    tensors, values = [], {}

    def symbolic(leaf):
        if not isinstance(leaf, Channels):
            return leaf
        shape = tuple(size if known is None else known for known in leaf.shape)
        tensors.append(keras.KerasTensor(shape, leaf.dtype))
        values[id(tensors[-1])] = replace(leaf, shape=shape)
        return tensors[-1]

    args, kwargs = keras.tree.map_structure(symbolic, (call.args, call.kwargs))
    sizes = UnknownSizes([(tensor, tensor) for tensor in tensors])
    with private.symbolic_run(call.operation), sizes.in_force():
        outputs = keras.tree.flatten(call.operation.call(*args, **kwargs))
        outputs = [output for output in outputs if output is not None]
        ends = [output for output in outputs if isinstance(output, keras.KerasTensor)]
        # The inputs stay alive with the nodes, or their `id`s could be given to others.
        return private.nodes_between(tensors, ends), values, outputs
