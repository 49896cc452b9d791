import math
from contextlib import contextmanager
from typing import Any

import keras

from keras_nladv._keras import private

# What unknown sizes are taken for, to see what numbers that are made of them are: two choices, in
# each of which no size is another one by chance.
CHOICES = ((101, 103, 107, 109, 113, 127, 131, 137), (211, 223, 227, 229, 233, 239, 241, 251))
PATCHED = ("shape", "arange", "reshape", "tile", "broadcast_to", "ones", "zeros", "full")


class UnknownSizes:
    """Lets layers compute with unknown sizes of symbolic tensors.

    While it is in force, `keras.ops.shape` says them as symbolic numbers, as it says tensors where
    a model runs. Functions that take shapes know what such numbers are sizes of, and do with
    operations on tensors of any size what they would do with numbers.

    Args:
        starts: List of pairs, the symbolic tensors that a run starts from, and whose unknown sizes
            each has: itself, or what it is the mask of.
    """

    def __init__(self, starts):
        self._starts = starts
        self._keras: dict[str, Any] = {name: getattr(keras.ops, name) for name in PATCHED}
        # By the `id` of the number: it, and the tensor and the axis that it is the size of.
        self._axes: dict[int, Any] = {}

    @contextmanager
    def in_force(self):
        for name in PATCHED:
            setattr(keras.ops, name, getattr(self, name))
        try:
            yield
        finally:
            for name, function in self._keras.items():
                setattr(keras.ops, name, function)

    # ---- The functions of `keras.ops`

    def shape(self, x):
        sizes = self._keras["shape"](x)
        if not isinstance(x, keras.KerasTensor):
            return sizes
        return tuple(self._size(x, axis) if n is None else n for axis, n in enumerate(sizes))

    def arange(self, start, stop=None, step=1, dtype=None):
        if not _is_symbolic((start, stop, step)):
            return self._keras["arange"](start, stop, step, dtype)
        start, stop = (0, start) if stop is None else (start, stop)
        if _is_symbolic(start) or step not in (None, 1):
            raise ValueError("`arange` has to start at a number and go on by 1.")
        positions = self._positions(self._numbers(stop), dtype or "int32")
        return positions[int(start) :,] if start else positions

    def reshape(self, x, newshape):
        if not _is_symbolic(newshape):
            return self._keras["reshape"](x, newshape)
        before, after = self._shapes(x), self._targets(newshape)
        for old, new in zip(before, after):
            rest = -math.prod(new)
            new[:] = [math.prod(old) // rest if size == -1 else size for size in new]
            if math.prod(old) != math.prod(new):
                raise ValueError(f"{x.shape} cannot be reshaped to {newshape}.")
        sizes = _known(after)
        if sizes.count(-1) <= 1:
            return self._keras["reshape"](x, sizes)
        if all(old[0] == new[0] for old, new in zip(before, after)) and sizes[1:].count(-1) == 1:
            return keras.layers.Reshape(sizes[1:], name="reshape_samples")(x)
        if all(_longer(old) == _longer(new) for old, new in zip(before, after)):
            x = keras.ops.squeeze(x, [axis for axis, size in enumerate(x.shape) if size == 1])
            return keras.ops.expand_dims(x, [axis for axis, n in enumerate(sizes) if n == 1])
        raise ValueError(f"{x.shape} is reshaped to several unknown sizes.")

    def tile(self, x, repeats):
        if not _is_symbolic(repeats):
            return self._keras["tile"](x, repeats)
        counts = self._targets(repeats)
        rank = max(len(x.shape), len(counts[0]))
        counts = [[1] * (rank - len(each)) + each for each in counts]
        sizes = [[1] * (rank - len(each)) + each for each in self._shapes(x)]
        return self._spread(x, [list(map(int.__mul__, *pair)) for pair in zip(counts, sizes)])

    def broadcast_to(self, x, shape):
        if not _is_symbolic(shape):
            return self._keras["broadcast_to"](x, shape)
        return self._spread(x, self._targets(shape))

    def ones(self, shape, dtype=None):
        if not _is_symbolic(shape):
            return self._keras["ones"](shape, dtype)
        return self.full(shape, 1, dtype or keras.config.floatx())

    def zeros(self, shape, dtype=None):
        if not _is_symbolic(shape):
            return self._keras["zeros"](shape, dtype)
        return self.full(shape, 0, dtype or keras.config.floatx())

    def full(self, shape, fill_value, dtype=None):
        if not _is_symbolic(shape):
            return self._keras["full"](shape, fill_value, dtype)
        targets = self._targets(shape)
        one = self._keras["full"]([1] * len(targets[0]), fill_value, dtype)
        return self._spread(one, targets)

    # ---- What they are made of

    def _size(self, tensor, axis):
        for number, *place in self._axes.values():
            if place[0] is tensor and place[1] == axis:
                return number
        number = keras.ops.sum(_ones_along(tensor, axis, "int32"))
        self._axes[id(number)] = number, tensor, axis
        return number

    def _positions(self, numbers, dtype="int32"):
        """The numbers from 0 up to a size, a symbolic tensor."""
        for _, tensor, axis in self._axes.values():
            if [shape[axis] for shape in self._shapes(tensor)] == numbers:
                return keras.ops.cumsum(_ones_along(tensor, axis, dtype)) - 1
        raise ValueError("A length is no size of a tensor.")

    def _spread(self, x, targets):
        """A tensor with its axes of size 1 repeated to other sizes."""
        shapes = self._shapes(x)
        while len(shapes[0]) < len(targets[0]):
            x, shapes = keras.ops.expand_dims(x, 0), [[1, *shape] for shape in shapes]
        counts = []
        for axis, (*old, size) in enumerate(zip(*shapes, _known(targets))):
            new = [target[axis] for target in targets]
            counts.append(1)
            if old == new:
                continue
            if size != -1:
                counts[-1] = size // old[0]
            elif old == [1] * len(old):
                x = keras.ops.take(x, keras.ops.zeros_like(self._positions(new)), axis=axis)
            else:
                raise ValueError("Axes of several positions are repeated.")
        return x if set(counts) == {1} else self._keras["tile"](x, counts)

    def _targets(self, shape):
        """What a shape is, in each of the choices."""
        if isinstance(shape, keras.KerasTensor):
            return [list(map(int, each)) for each in self._values(shape)]
        shape = shape if isinstance(shape, (list, tuple)) else [shape]
        return list(map(list, zip(*map(self._numbers, shape))))

    def _numbers(self, number):
        if isinstance(number, keras.KerasTensor):
            return [int(value) for value in self._values(number)]
        return [int(number)] * len(CHOICES)

    def _values(self, tensor):
        """What a tensor that is made of sizes is, in each of the choices."""
        known = [number for number, *_ in self._axes.values()]
        starts = {id(start): start for start, _ in self._starts}
        nodes = private.nodes_between([*known, *starts.values()], [tensor])
        if any(id(x) in starts for node in nodes for x in node.arguments.keras_tensors):
            raise ValueError("A shape depends on what tensors hold.")
        results = []
        for choice in range(len(CHOICES)):
            values = {
                id(number): keras.ops.convert_to_tensor(self._shapes(of)[choice][axis], "int32")
                for number, of, axis in self._axes.values()
            }
            for node in nodes:
                args, kwargs = node.arguments.fill_in(values)
                outputs = keras.tree.flatten(node.operation(*args, **kwargs))
                values.update((id(x), value) for x, value in zip(node.outputs, outputs))
            results.append(keras.ops.convert_to_numpy(values[id(tensor)]))
        return results

    def _shapes(self, tensor):
        """The shape of a tensor in each of the choices."""
        if None not in tensor.shape:
            return [list(tensor.shape)] * len(CHOICES)
        starts = [start for start, _ in self._starts]
        nodes = private.nodes_between(starts, [tensor])
        return [self._shape(tensor, nodes, choice) for choice in CHOICES]

    def _shape(self, tensor, nodes, choice):
        # Samples are as many in all tensors.
        samples, *rest = choice
        numbers: dict[tuple[int, int], int] = {}
        values = {}
        for start, owner in self._starts:
            shape = []
            for axis, size in enumerate(start.shape):
                place = (id(owner), axis)
                if size is None and axis and place not in numbers:
                    numbers[place] = rest[len(numbers)]
                shape.append(size or (numbers[place] if axis else samples))
            values[id(start)] = keras.KerasTensor(shape, start.dtype)
        for node in nodes:
            args, kwargs = node.arguments.fill_in(values)
            outputs = node.operation.compute_output_spec(*args, **kwargs)
            outputs = keras.tree.flatten(outputs)
            values.update((id(x), value) for x, value in zip(node.outputs, outputs))
        return list(values[id(tensor)].shape)


def _is_symbolic(structure):
    leaves = keras.tree.flatten(structure)
    return any(isinstance(leaf, keras.KerasTensor) for leaf in leaves)


def _known(targets):
    """The sizes that are the same in each of the choices, -1 for others."""
    return [sizes[0] if len(set(sizes)) == 1 else -1 for sizes in zip(*targets)]


def _longer(sizes):
    return [size for size in sizes if size != 1]


def _ones_along(tensor, axis, dtype):
    along: list[Any] = [0] * len(tensor.shape)
    along[axis] = slice(None)
    return keras.ops.ones_like(tensor[tuple(along)], dtype=dtype)
