import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from keras_nladv._keras.padding import same_pads


@dataclass(frozen=True, eq=False)
class LinearMap:
    """A convolution, or a `Dense` layer, in float64: an affine map of channels.

    The output at position q is `bias + sum over taps t of kernel[t] applied to the input at
    q * strides + t * dilation - pads[0]`, where the input is 0 outside its borders. A `Dense` layer
    has no spatial axes.

    What maps are composed to is known by its shape at once; its numbers are computed when somebody
    asks for them, so that what does not pay costs nothing.

    Attributes:
        shape: Shape of the kernel: (taps..., groups, input channels of a group, output channels of
            a group). A depthwise convolution has as many groups as it has input channels.
        is_biased: Whether there may be a bias that is not 0.
        strides: Tuple, one an axis.
        pads: Tuple of pairs, the zeros before and after each axis.
        dilation: Tuple, one an axis.
        compute: Function that returns the kernel and the bias, of shape (output channels,).
        takes_one: Whether the input has one more channel at its end, which is constantly 1 inside
            the borders. It carries what is constant inside and 0 outside.
    """

    shape: tuple[int, ...]
    is_biased: bool
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    compute: Callable[[], tuple[np.ndarray, np.ndarray]]
    takes_one: bool = False

    @classmethod
    def of(cls, kernel, bias, pads=None, strides=None, dilation=None):
        """The map of a kernel, shaped as `shape` says, and a bias."""
        rank = kernel.ndim - 3
        return cls(
            kernel.shape,
            bool(bias.any()),
            tuple(strides or (1,) * rank),
            tuple(pads or ((0, 0),) * rank),
            tuple(dilation or (1,) * rank),
            lambda: (kernel, bias),
        )

    @classmethod
    def diagonal(cls, scale, shift, rank, pads=None):
        """A factor and a summand for each channel, on `rank` spatial axes."""
        return cls.of(scale.reshape((1,) * rank + (len(scale), 1, 1)), shift, pads)

    @cached_property
    def _arrays(self):
        return self.compute()

    @property
    def kernel(self):
        """Array of shape `shape`."""
        return self._arrays[0]

    @property
    def bias(self):
        """Array of shape (output channels,)."""
        return self._arrays[1]

    @cached_property
    def lost_in_int8(self):
        """The part of the kernel's norm that is lost in int8, with a scale for each output."""
        kernel = (self.without_one()[0] if self.takes_one else self).kernel
        most = np.abs(kernel).max(axis=(*range(self.rank), -2), keepdims=True)
        scale = np.where(most > 0, most, 1.0) / 127
        lost = np.round(kernel / scale) * scale - kernel
        return float(np.linalg.norm(lost) / (np.linalg.norm(kernel) or 1.0))

    @property
    def rank(self):
        """Number of spatial axes."""
        return len(self.shape) - 3

    @property
    def taps(self):
        """Tuple of the kernel's sizes."""
        return self.shape[:-3]

    @property
    def groups(self):
        """Number of groups."""
        return self.shape[-3]

    @property
    def extent(self):
        """Tuple: how many positions the kernel reaches beyond the first, per axis."""
        return tuple(d * (k - 1) for k, d in zip(self.taps, self.dilation))

    @property
    def inputs(self):
        """Number of input channels, without the constant one."""
        return self.groups * self.shape[-2] - self.takes_one

    @property
    def outputs(self):
        """Number of output channels."""
        return self.groups * self.shape[-1]

    @property
    def is_depthwise(self):
        """Whether each output channel depends on one input channel only."""
        return self.shape[-2] == 1 and not self.takes_one

    @property
    def is_diagonal(self):
        """Whether each output channel depends on the input channel of its number only."""
        return self.is_depthwise and self.shape[-1] == 1

    @property
    def is_pointwise(self):
        """Whether each position of the output depends on one position of the input."""
        return all(k == 1 for k in self.taps)

    @property
    def is_matrix(self):
        """Whether each position of the output depends on that of the input alone, as in `Dense`."""
        plain = not self.is_padded and not self.takes_one and set(self.strides) <= {1}
        return self.is_pointwise and plain

    @property
    def is_scale(self):
        """Whether it is a factor and a summand for each channel."""
        return self.is_diagonal and self.is_matrix

    @property
    def is_padded(self):
        """Whether zeros are put around the input."""
        return any(map(any, self.pads))

    def sizes(self, sizes):
        """The output's sizes for an input's; `None` where they are not known."""
        return tuple(
            None if n is None else (n + sum(p) - e - 1) // s + 1
            for n, p, e, s in zip(sizes, self.pads, self.extent, self.strides)
        )

    def same_pads(self, sizes):
        """What Keras pads with `padding="same"`; `None` if it depends on a size not known."""
        return same_pads(sizes, self.extent, self.strides)

    def regrouped(self, groups):
        """The same map with fewer groups, a number that divides that of its own."""
        *taps, own, inputs, outputs = self.shape
        if groups == own:
            return self
        joined = own // groups

        def compute():
            kernel = np.zeros((*taps, groups, joined, inputs, joined, outputs))
            parts = self.kernel.reshape(*taps, groups, joined, inputs, outputs)
            for i in range(joined):
                kernel[..., i, :, i, :] = parts[..., i, :, :]
            return kernel.reshape(shape), self.bias

        shape = (*taps, groups, joined * inputs, joined * outputs)
        return replace(self, shape=shape, compute=compute)

    def restricted(self, inputs=None, outputs=None):
        """The map between some of the channels.

        Args:
            inputs: Bool array, which input channels; equally many of each group, or all and none of
                them in depthwise maps. The constant one stays.
            outputs: Bool array, which output channels; as many of each group that is left.
        """
        *taps, groups, rows, columns = self.shape
        left = np.ones(groups, bool)
        if inputs is None:
            inputs = np.ones(self.inputs, bool)
        if outputs is None:
            outputs = np.ones(self.outputs, bool)
        if self.is_depthwise:
            left = inputs
            inputs = np.ones((groups, 1), bool)
        if self.takes_one:
            inputs = np.append(inputs, True)
        inputs, outputs = inputs.reshape(groups, rows), outputs.reshape(groups, columns)
        places = np.flatnonzero(left)

        def compute():
            parts = [self.kernel[..., g, :, :][..., inputs[g], :][..., outputs[g]] for g in places]
            return np.stack(parts, axis=-3), self.bias[(outputs & left[:, None]).ravel()]

        first = places[0]
        shape = (*taps, len(places), int(inputs[first].sum()), int(outputs[first].sum()))
        return replace(self, shape=shape, compute=compute)

    def with_zeros(self, inputs=0, outputs=0, groups=0):
        """The map with more channels, the last ones, that nothing comes from.

        Args:
            inputs: How many more each group takes.
            outputs: How many more each group puts out.
            groups: How many more groups.
        """
        *taps, own, rows, columns = self.shape
        more = groups, inputs, outputs
        around = [(0, 0)] * len(taps) + [(0, number) for number in more]

        def compute():
            bias = np.pad(self.bias.reshape(own, columns), [(0, groups), (0, outputs)])
            return np.pad(self.kernel, around), bias.ravel()

        shape = (*taps, own + groups, rows + inputs, columns + outputs)
        return replace(self, shape=shape, compute=compute)

    def scaled(self, inputs=None, outputs=None):
        """The map with factors: arrays, of what it takes, and of what it puts out with its bias."""
        *_, groups, rows, columns = self.shape
        before = np.ones(self.inputs) if inputs is None else inputs
        after = np.ones(self.outputs) if outputs is None else outputs
        if self.takes_one:
            before = np.append(before, 1.0)

        def compute():
            kernel = before.reshape(groups, rows, 1) * self.kernel
            return kernel * after.reshape(groups, 1, columns), self.bias * after

        return replace(self, compute=compute)

    def without_bias(self):
        """The same map without its bias."""
        return replace(self, is_biased=False, compute=lambda: (self.kernel, np.zeros(self.outputs)))

    def without_one(self):
        """What the map makes of the input, and what of the constant channel; the bias is in the
        first of the two."""
        *taps, groups, inputs, outputs = self.shape
        main = replace(
            self,
            shape=(*taps, groups, inputs - 1, outputs),
            compute=lambda: (self.kernel[..., :-1, :], self.bias),
            takes_one=False,
        )
        one = replace(
            self,
            shape=(*taps, groups, 1, outputs),
            compute=lambda: (self.kernel[..., -1:, :], np.zeros(self.outputs)),
            is_biased=False,
            takes_one=False,
        )
        return main, one

    def border(self, sizes):
        """What a map of the constant channel alone makes of it.

        Args:
            sizes: Sizes of the input.

        Returns:
            Array of shape (sizes..., output channels).
        """
        inside = np.pad(np.ones(sizes), self.pads)
        shape = self.sizes(sizes)
        total = np.zeros((*shape, self.outputs))
        for tap in np.ndindex(*self.taps):
            window = tuple(
                slice(t * d, t * d + (n - 1) * s + 1, s)
                for t, d, n, s in zip(tap, self.dilation, shape, self.strides)
            )
            total += inside[window][..., None] * self.kernel[tap][0]
        return total

    def with_one(self):
        """The same map with its bias moved to the constant channel; for pointwise maps."""
        whole = self._taking_one()

        def compute():
            kernel = whole.kernel.copy()
            kernel[..., -1, :] += whole.bias
            return kernel, np.zeros(self.outputs)

        return replace(whole, is_biased=False, compute=compute)

    def _taking_one(self):
        """The same map beside a constant channel, which it does not use."""
        if self.takes_one:
            return self
        whole = self.regrouped(1)
        *taps, _, inputs, outputs = whole.shape

        def compute():
            row = np.zeros((*taps, 1, 1, outputs))
            return np.concatenate([whole.kernel, row], axis=-2), whole.bias

        shape = (*taps, 1, inputs + 1, outputs)
        return replace(whole, shape=shape, compute=compute, takes_one=True)

    def joins(self, after):
        """Why `after` cannot be merged into this map exactly, or `None` if it can.

        Where `after` puts zeros around its input, this map would go on beyond the border. That is
        the same only if it has one tap and no bias there.
        """
        if after.takes_one:
            return "what follows needs a constant channel"
        if not after.is_padded:
            return None
        if not self.is_pointwise:
            return (
                f"borders: the second kernel, of {_times(after.taps)} taps, sees zeros around what "
                f"the first, of {_times(self.taps)} taps, put out"
            )
        if self.is_biased and self.is_padded:
            return "borders: a bias behind padding, and padding again"
        return None

    def then(self, after):
        """This map followed by another, in one; `joins` has to allow it."""
        first = self.with_one() if after.is_padded and self.is_biased else self
        steps = [(d1, s1 * d2) for d1, s1, d2 in zip(first.dilation, first.strides, after.dilation)]
        sizes = list(zip(first.taps, after.taps))
        strides = tuple(a * b for a, b in zip(first.strides, after.strides))
        dilation = _grid(
            [[step for step, size in zip(*axis) if size > 1] for axis in zip(steps, sizes)],
            strides,
        )
        taps = tuple(
            ((size[0] - 1) * step[0] + (size[1] - 1) * step[1]) // fine + 1
            for step, size, fine in zip(steps, sizes, dilation)
        )
        groups = math.gcd(first.groups, after.groups)
        inputs = first.groups * first.shape[-2]
        shape = (*taps, groups, inputs // groups, after.outputs // groups)
        if not (first.is_diagonal or after.is_depthwise):
            first, after = first.regrouped(groups), after.regrouped(groups)

        def compute():
            kernel = np.zeros(shape)
            for t in itertools.product(*map(range, first.taps)):
                for u in itertools.product(*map(range, after.taps)):
                    place = tuple(
                        (i * step[0] + j * step[1]) // fine
                        for i, j, step, fine in zip(t, u, steps, dilation)
                    )
                    kernel[place] += _product(first.kernel[t], after.kernel[u])
            whole = after.kernel.sum(axis=tuple(range(after.rank)))
            carried = first.bias.reshape(after.groups, 1, -1) @ whole
            return kernel, after.bias + carried.ravel()

        return LinearMap(
            shape,
            first.is_biased or after.is_biased,
            strides,
            tuple(
                (p[0] + s * q[0], p[1] + s * q[1])
                for p, s, q in zip(first.pads, first.strides, after.pads)
            ),
            dilation,
            compute,
            first.takes_one,
        )

    def plus(self, other):
        """The sum of two maps of the same input, of equal strides, whose outputs are of one size.

        Raises:
            ValueError: If the strides differ.
        """
        if self.strides != other.strides:
            raise ValueError("the strides differ")
        one = self.takes_one or other.takes_one
        groups = math.gcd(self.groups, other.groups)
        maps = [x._taking_one() if one else x.regrouped(groups) for x in (self, other)]
        first, second = maps
        dilation = _grid(
            [
                [
                    *(x.dilation[a] for x in maps if x.taps[a] > 1),
                    first.pads[a][0] - second.pads[a][0],
                ]
                for a in range(self.rank)
            ],
            self.strides,
        )
        before = tuple(max(p[0], q[0]) for p, q in zip(first.pads, second.pads))
        reach = tuple(
            max(e1 - p[0], e2 - q[0])
            for e1, e2, p, q in zip(first.extent, second.extent, first.pads, second.pads)
        )
        taps = tuple((b + r) // d + 1 for b, r, d in zip(before, reach, dilation))
        shape = (*taps, *first.shape[-3:])

        def compute():
            kernel = np.zeros(shape)
            for each in maps:
                for t in itertools.product(*map(range, each.taps)):
                    place = tuple(
                        (i * d + b - p[0]) // fine
                        for i, d, b, p, fine in zip(t, each.dilation, before, each.pads, dilation)
                    )
                    kernel[place] += each.kernel[t]
            return kernel, first.bias + second.bias

        # The outputs are of one size, so the fewest zeros after are enough.
        after = [
            min(x.pads[a][1] - x.extent[a] + x.pads[a][0] for x in maps) + reach[a]
            for a in range(self.rank)
        ]
        return LinearMap(
            shape,
            first.is_biased or second.is_biased,
            self.strides,
            tuple(zip(before, after)),
            dilation,
            compute,
            one,
        )


def _product(first, second):
    """One kernel of one tap after another; shapes (groups, inputs, outputs)."""
    groups, inputs, outputs = first.shape
    others, rows, columns = second.shape
    if rows == 1:
        product = first[..., None] * second.reshape(groups, 1, outputs, columns)
        return product.reshape(groups, inputs, outputs * columns)
    if inputs == outputs == 1:
        return first.reshape(others, rows, 1) * second
    return first @ second


def _grid(steps, strides):
    """The widest dilation of a kernel with taps at these steps, per axis.

    Keras has no convolutions with strides and dilation.
    """
    if any(stride > 1 for stride in strides):
        return (1,) * len(strides)
    return tuple(int(np.gcd.reduce([0, *axis])) or 1 for axis in steps)


def _times(taps):
    return "x".join(map(str, taps))
