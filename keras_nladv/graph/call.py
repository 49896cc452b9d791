from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_nladv._keras import private
from keras_nladv.graph.channel_graph import NO_CHANNEL
from keras_nladv.graph.channels import Channels, compress
from keras_nladv.graph.reading import Reading

# What unknown sizes are taken for, in turn, until nothing that is moved gets lost for want of room.
UNKNOWN_SIZES = (1, 8, 64)


@dataclass(frozen=True)
class Call:
    """One call of a layer or operation, as a path rule sees it.

    A rule reads the arguments, in which `Channels` stand for tensors, and returns the labels of the
    output (or a list of them), made with the methods below.

    Attributes:
        operation: The layer or `keras.ops` operation that is called.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        outputs: List of `keras.KerasTensor`, the outputs' shapes and dtypes.
        name: The call's name for messages, with those of the models it is nested in.
        reading: The `Reading` to add to.
        follow: Function that applies the rule of another layer or operation.
    """

    operation: keras.Operation
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[keras.KerasTensor]
    name: str
    reading: Reading
    follow: Callable[..., list[Channels]]

    @property
    def graph(self):
        """The `ChannelGraph` to add to."""
        return self.reading.graph

    @property
    def inputs(self):
        """The `Channels` among the arguments, in order."""
        leaves = keras.tree.flatten((self.args, self.kwargs))
        return [leaf for leaf in leaves if isinstance(leaf, Channels)]

    @property
    def carrying(self):
        """The inputs that paths lead through."""
        return [channels for channels in self.inputs if not channels.is_constant]

    @property
    def arguments(self):
        """The arguments by the names of their parameters, in order, without defaults."""
        return private.arguments_of(self.operation, self.args, self.kwargs)

    @property
    def first(self):
        """The first argument, however it was given."""
        return next(iter(self.arguments.values()))

    @property
    def rank(self):
        """The number of axes of the first output, the batch axis included."""
        return len(self.outputs[0].shape)

    @property
    def is_discrete(self):
        """Whether all that paths lead through are ids or masks, among which nothing is a unit."""
        return all(
            "int" in x.dtype or x.dtype in ("bool", "string") or self.graph.is_mask(x.labels)
            for x in self.carrying
        )

    def nonzero(self, weights):
        """Tells where weights are not zero, if edges of zeros shall not count.

        Args:
            weights: Weights or constants, a tensor of any shape.

        Returns:
            Bool array of their shape, or `None` if every edge counts.
        """
        return ops.convert_to_numpy(weights) != 0 if self.reading.skips_zeros else None

    def mixed(self, channels, axis, size, output_axis=None, groups=1, nonzero=None):
        """Labels of new channels that are each fed by all channels of their group.

        Args:
            channels: `Channels`, the input.
            axis: The input's axis that is mixed and, with `groups` > 1, divided.
            size: Number of channels of the output.
            output_axis: The output's channel axis, `axis` by default.
            groups: Number of groups of equal size, each mixed by itself.
            nonzero: Bool array of shape (..., inputs of a group, size), the weights that are not
                zero: an input feeds an output only through such. `None` if all do.

        Returns:
            Integer array of labels.
        """
        labels = self.along(channels, axis) if groups > 1 else channels.labels
        rows = labels if groups > 1 else np.moveaxis(labels, axis, 0)
        if nonzero is not None:
            nonzero = nonzero.any(axis=tuple(range(nonzero.ndim - 2)))
            nonzero = nonzero.reshape(len(nonzero), groups, -1).swapaxes(0, 1)
        rows = rows.reshape(groups, len(rows) // groups, -1)
        fed = self.graph.connect(rows, size // groups, nonzero).ravel()
        return self.on_axis(fed, axis if output_axis is None else output_axis)

    def scaled(self, labels, nonzero):
        """Labels of channels that are multiplied element by element.

        Args:
            labels: Integer array, those of the input.
            nonzero: Bool array that broadcasts with the input, the factors that are not zero: a
                channel goes on only through such. `None` if all do.

        Returns:
            Integer array of labels.
        """
        if nonzero is None or nonzero.all():
            return labels
        nonzero = nonzero.reshape((1,) * (labels.ndim - nonzero.ndim) + nonzero.shape)
        positions = tuple(axis for axis, size in enumerate(labels.shape) if size == 1)
        nonzero = np.broadcast_to(nonzero.any(axis=positions, keepdims=True), labels.shape)
        distinct, inverse = np.unique(labels, return_inverse=True)
        goes_on = np.zeros(len(distinct), bool)
        np.logical_or.at(goes_on, inverse.ravel(), nonzero.ravel())
        return self.graph.fan_out(distinct, goes_on)[inverse].reshape(labels.shape)

    def merged(self, operands):
        """Labels of new channels that are each fed by one channel of every operand.

        Args:
            operands: List of label arrays that broadcast. Operands of constants do not count, nor
                do masks beside values.

        Returns:
            Integer array of labels.
        """
        rank = max(self.rank, *(labels.ndim for labels in operands))
        operands = [
            labels.reshape((1,) * (rank - labels.ndim) + labels.shape) for labels in operands
        ]
        operands = [labels for labels in operands if labels.any()] or operands[:1]
        values = [labels for labels in operands if not self.graph.is_mask(labels)]
        operands = values or operands
        if len(operands) == 1:
            return operands[0]
        shape = np.broadcast_shapes(*(labels.shape for labels in operands))
        largest = max(operands, key=np.size).shape
        if shape != largest:
            # Channels of the operands lie along different axes. Pairing all with all would turn
            # positions into paths; an operand that cannot be followed counts by its mean.
            operands = [x if x.shape == largest else self.mean(x) for x in operands]
        flat = np.stack([np.broadcast_to(labels, largest).ravel() for labels in operands])
        tuples, inverse = np.unique(flat, axis=1, return_inverse=True)
        # In NumPy 2.0 the inverse has two axes.
        return self.graph.merge(tuples)[inverse.ravel()].reshape(largest)

    def mean(self, labels):
        """Labels of one channel fed by all of `labels`, for where channels cannot be followed."""
        return np.full((1,) * labels.ndim, self.graph.mix(labels))

    def copied(self, labels):
        """Labels of new channels, one for each that there is, fed by it alone."""
        distinct, inverse = np.unique(labels, return_inverse=True)
        return self.graph.fan_out(distinct)[inverse].reshape(labels.shape)

    def along(self, channels, axis):
        """The channel at each index of an axis, one that mixes where other axes differ too."""
        labels = np.moveaxis(channels.labels, axis, 0)
        labels = labels.reshape(len(labels), -1)
        if labels.shape[1] == 1:
            vector = labels[:, 0]
        else:
            vector = np.array([self.graph.mix(row) for row in labels])
        size = channels.shape[axis]
        return np.broadcast_to(vector, size) if len(vector) == 1 and size else vector

    def on_axis(self, vector, axis, rank=None):
        """Shapes a vector of labels so that it lies along one axis of the output."""
        shape = [1] * (self.rank if rank is None else rank)
        shape[axis] = len(vector)
        return vector.reshape(shape)

    def contracted(self, labels, axes, keepdims=False):
        """Labels after a reduction: what lay along `axes` is mixed into one channel."""
        axes = tuple(axis % labels.ndim for axis in axes)
        kept = [1 if axis in axes else size for axis, size in enumerate(labels.shape)]
        if kept != list(labels.shape):
            rows = np.moveaxis(labels, axes, range(len(axes))).reshape(-1, np.prod(kept))
            labels = np.array([self.graph.mix(column) for column in rows.T]).reshape(kept)
        return labels if keepdims else labels.squeeze(axes)

    def linear(self, labels, axis, size, feeds=None):
        """Labels after a linear map along one axis, the same for all that lies along the others.

        Args:
            labels: Integer array, those of the input. If they are the same along the axis, it is
                one of positions, and they stay.
            axis: Integer.
            size: Size of the axis of the output.
            feeds: Bool array of shape (size of the input's axis, `size`): what feeds what. `None`
                if all feeds all.

        Returns:
            Integer array of labels.
        """
        if labels.shape[axis] == 1:
            return labels
        rows = np.moveaxis(labels, axis, -1)
        rest = rows.shape[:-1]
        rows = rows.reshape(-1, rows.shape[-1], 1)
        if feeds is not None:
            feeds = np.broadcast_to(feeds, (len(rows), *feeds.shape))
        fed = self.graph.connect(rows, size, feeds).reshape(*rest, size)
        return np.moveaxis(fed, -1, axis)

    def rearranged(self):
        """Labels of the outputs of an operation that only moves elements: it moves the labels."""
        for unknown in UNKNOWN_SIZES:
            moved = self._moved(unknown)
            if moved is not None:
                return moved
        # The channels cannot be followed.
        everything = np.concatenate([channels.labels.ravel() for channels in self.carrying])
        hub = self.graph.mix(everything)
        return [np.full((1,) * len(output.shape), hub) for output in self.outputs]

    def _moved(self, unknown):
        """The labels moved, or `None` if they cannot be where unknown sizes are `unknown`."""

        def run(labels_of):
            def to_labels(leaf):
                if not isinstance(leaf, Channels):
                    return leaf
                return ops.convert_to_tensor(labels_of(leaf).astype("int32"))

            args, kwargs = keras.tree.map_structure(to_labels, (self.args, self.kwargs))
            return keras.tree.flatten(self.operation(*args, **kwargs))

        try:
            moved = run(lambda channels: channels.full_labels(unknown))
            # What the operation adds of its own, or of constants that it is given, has no label.
            added = run(lambda channels: 0 * channels.full_labels(unknown))
        except Exception:
            return None
        results = []
        for labels, constants, output in zip(moved, added, self.outputs):
            labels = ops.convert_to_numpy(labels).astype("int64")
            if not labels.size and 0 not in output.shape:
                return None
            constants = ops.convert_to_numpy(constants)
            results.append(compress(np.where(constants == 0, labels, NO_CHANNEL)))
        return results

    def apply(self, operation, channels, output):
        """Labels of the output of another layer or operation that is called on `channels`."""
        return self.follow(operation, (channels,), {}, [output], self.name)[0].labels

    def activated(self, labels, activation, units):
        """Labels of new channels behind an activation.

        Args:
            labels: Integer array, those of the input.
            activation: An `Activation`, the units.
            units: Integer array that broadcasts with `labels`: the unit that each element meets.

        Returns:
            Integer array of the shape of `labels`: an activation never changes what a channel is.
        """
        fed = self.copied(labels)
        self.reading.meet(activation, fed, units)
        return fed
