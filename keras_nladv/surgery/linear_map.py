import itertools
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class LinearMap:
    """A convolution, or a `Dense` layer, in float64: an affine map of channels.

    The output at position q is `bias + sum over taps t of kernel[t] applied to the input at
    q * strides + t * dilation - pads[0]`, where the input is 0 outside its borders. A `Dense` layer
    has no spatial axes.

    Attributes:
        kernel: Array of shape (taps..., input channels of a group, output channels).
        bias: Array of shape (output channels,).
        groups: Number of groups. A depthwise convolution has as many as channels.
        strides: Tuple, one an axis.
        pads: Tuple of pairs, the zeros before and after each axis.
        dilation: Tuple, one an axis.
        takes_one: Whether the input has one more channel at its end, which is constantly 1 inside
            the borders. It carries what is constant inside and 0 outside.
    """

    kernel: np.ndarray
    bias: np.ndarray
    groups: int
    strides: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    takes_one: bool = False

    @classmethod
    def pointwise(cls, matrix, bias, rank):
        """A 1x1 convolution on `rank` spatial axes."""
        return cls(
            matrix.reshape((1,) * rank + matrix.shape),
            bias,
            1,
            (1,) * rank,
            ((0, 0),) * rank,
            (1,) * rank,
        )

    @classmethod
    def diagonal(cls, scale, shift, rank, pads=None):
        """A factor and a summand for each channel, on `rank` spatial axes."""
        kernel = scale.reshape((1,) * rank + (1, len(scale)))
        pads = ((0, 0),) * rank if pads is None else pads
        return cls(kernel, shift, len(scale), (1,) * rank, pads, (1,) * rank)

    @property
    def rank(self):
        """Number of spatial axes."""
        return self.kernel.ndim - 2

    @property
    def taps(self):
        """Tuple of the kernel's sizes."""
        return self.kernel.shape[:-2]

    @property
    def extent(self):
        """Tuple: how many positions the kernel reaches beyond the first, per axis."""
        return tuple(d * (k - 1) for k, d in zip(self.taps, self.dilation))

    @property
    def inputs(self):
        """Number of input channels, without the constant one."""
        return self.kernel.shape[-2] * self.groups - self.takes_one

    @property
    def outputs(self):
        """Number of output channels."""
        return self.kernel.shape[-1]

    @property
    def is_diagonal(self):
        """Whether each output channel depends on the input channel of its number only."""
        return self.groups == self.inputs == self.outputs and not self.takes_one

    @property
    def is_pointwise(self):
        """Whether each position of the output depends on one position of the input."""
        return all(k == 1 for k in self.taps)

    @property
    def is_matrix(self):
        """Whether each position of the output depends on that of the input alone, as in `Dense`."""
        return self.is_pointwise and not self.is_padded and set(self.strides) <= {1}

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

    def expanded(self):
        """The same map with one group."""
        if self.groups == 1:
            return self
        inputs, outputs = self.kernel.shape[-2:]
        share = outputs // self.groups
        kernel = np.zeros((*self.taps, inputs * self.groups, outputs))
        for group in range(self.groups):
            out = slice(group * share, (group + 1) * share)
            rows = slice(group * inputs, (group + 1) * inputs)
            kernel[..., rows, out] = self.kernel[..., out]
        return replace(self, kernel=kernel, groups=1)

    def restricted(self, inputs=None, outputs=None):
        """The map between some of the channels; bool arrays say which. Drops no constant one."""
        if self.is_diagonal and inputs is outputs:
            kernel, bias = self.kernel[..., outputs], self.bias[outputs]
            return replace(self, kernel=kernel, bias=bias, groups=len(bias))
        whole = self.expanded()
        if inputs is not None:
            rows = np.append(inputs, True) if self.takes_one else inputs
            whole = replace(whole, kernel=whole.kernel[..., rows, :])
        if outputs is not None:
            whole = replace(whole, kernel=whole.kernel[..., outputs], bias=whole.bias[outputs])
        return whole

    def with_one(self):
        """The same map with its bias moved to the constant channel; for pointwise maps."""
        whole = self.expanded()
        row = self.bias.reshape((1,) * self.rank + (1, -1))
        kernel = np.concatenate([whole.kernel, row], axis=-2)
        return replace(whole, kernel=kernel, bias=np.zeros_like(self.bias), takes_one=True)

    def _ignoring_one(self):
        row = np.zeros((*self.taps, 1, self.outputs))
        return replace(self, kernel=np.concatenate([self.kernel, row], axis=-2), takes_one=True)

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
        if self.bias.any() and self.is_padded:
            return "borders: a bias behind padding, and padding again"
        return None

    def then(self, after):
        """This map followed by another, in one; `joins` has to allow it."""
        first = self
        if after.is_padded and self.bias.any():
            first = self.with_one()
        if after.is_diagonal:
            second = after

            def product(a, b):
                return a * b[0]
        else:
            first_is_diagonal = first.is_diagonal
            second = after.expanded()
            first = first if first_is_diagonal else first.expanded()

            def product(a, b):
                return a[0][:, None] * b if first_is_diagonal else a @ b

        steps = [(d1, s1 * d2) for d1, s1, d2 in zip(first.dilation, first.strides, after.dilation)]
        sizes = list(zip(first.taps, second.taps))
        strides = tuple(a * b for a, b in zip(first.strides, after.strides))
        dilation = _grid(
            [[step for step, size in zip(*axis) if size > 1] for axis in zip(steps, sizes)],
            strides,
        )
        taps = tuple(
            ((size[0] - 1) * step[0] + (size[1] - 1) * step[1]) // fine + 1
            for step, size, fine in zip(steps, sizes, dilation)
        )
        sample = product(first.kernel[(0,) * first.rank], second.kernel[(0,) * first.rank])
        kernel = np.zeros((*taps, *sample.shape))
        for t in itertools.product(*map(range, first.taps)):
            for u in itertools.product(*map(range, second.taps)):
                place = tuple(
                    (i * step[0] + j * step[1]) // fine
                    for i, j, step, fine in zip(t, u, steps, dilation)
                )
                kernel[place] += product(first.kernel[t], second.kernel[u])
        whole = second.kernel.sum(axis=tuple(range(second.rank)))
        carried = first.bias * whole[0] if after.is_diagonal else first.bias @ whole
        return LinearMap(
            kernel,
            after.bias + carried,
            first.groups if after.is_diagonal else 1,
            strides,
            tuple(
                (p[0] + s * q[0], p[1] + s * q[1])
                for p, s, q in zip(first.pads, first.strides, after.pads)
            ),
            dilation,
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
        maps = [x.expanded() for x in (self, other)]
        if one:
            maps = [x if x.takes_one else x._ignoring_one() for x in maps]
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
        kernel = np.zeros((*taps, *first.kernel.shape[-2:]))
        for each in maps:
            for t in itertools.product(*map(range, each.taps)):
                place = tuple(
                    (i * d + b - p[0]) // fine
                    for i, d, b, p, fine in zip(t, each.dilation, before, each.pads, dilation)
                )
                kernel[place] += each.kernel[t]
        # The outputs are of one size, so the fewest zeros after are enough.
        after = [
            min(x.pads[a][1] - x.extent[a] + x.pads[a][0] for x in maps) + reach[a]
            for a in range(self.rank)
        ]
        pads = tuple(zip(before, after))
        return LinearMap(kernel, first.bias + second.bias, 1, self.strides, pads, dilation, one)


def same_pads(sizes, extent, strides):
    """Zeros before and after each axis that Keras means by `padding="same"`.

    `None` if they depend on a size that is not known.
    """
    pads = []
    for size, reach, stride in zip(sizes, extent, strides):
        if stride == 1:
            total = reach
        elif reach == 0:
            total = 0
        elif size is None:
            return None
        else:
            total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
        pads.append((total // 2, total - total // 2))
    return tuple(pads)


def _grid(steps, strides):
    """The widest dilation of a kernel with taps at these steps, per axis.

    Keras has no convolutions with strides and dilation.
    """
    if any(stride > 1 for stride in strides):
        return (1,) * len(strides)
    return tuple(int(np.gcd.reduce([0, *axis])) or 1 for axis in steps)


def _times(taps):
    return "x".join(map(str, taps))
