import itertools
import math

from keras import layers, ops

from keras_nladv._keras.padding import pads
from keras_nladv.tangent.structures.kernel import KernelStructure

DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)


class ConvolutionStructure(KernelStructure):
    """Convolutions, also those whose groups are single channels."""

    def columns(self, operand, shape):
        layer = self.layer
        x = self._channels_last(operand, 1)
        sizes = shape[1:] if layer.data_format == "channels_first" else shape[:-1]
        axes = list(zip(layer.strides, layer.dilation_rate, sizes, strict=True))
        around = pads(layer, x.shape[1:-1])
        if any(map(any, around)):
            x = ops.pad(x, [(0, 0), *around, (0, 0)])
        taps = []
        for offsets in itertools.product(*map(range, layer.kernel_size)):
            window = [
                slice(offset * dilation, offset * dilation + (size - 1) * stride + 1, stride)
                for offset, (stride, dilation, size) in zip(offsets, axes, strict=True)
            ]
            taps.append(x[(slice(None), *window)])
        groups = self._groups(x.shape[-1])
        x = ops.stack(taps, axis=-2)
        x = ops.reshape(x, (-1, math.prod(sizes), len(taps), groups, x.shape[-1] // groups))
        x = ops.transpose(x, (0, 3, 1, 2, 4))
        return ops.reshape(x, (-1, groups, math.prod(sizes), len(taps) * x.shape[-1]))

    def rows(self, gradients):
        gradients = self._channels_last(gradients, 2)
        k, _, *sizes, filters = gradients.shape
        groups = self._groups(self.layer.kernel.shape[-2])
        shape = (k, -1, math.prod(sizes), groups, filters // groups)
        return ops.transpose(ops.reshape(gradients, shape), (1, 3, 0, 4, 2))

    def _channels_last(self, tensor, axis):
        first = self.layer.data_format == "channels_first"
        return ops.moveaxis(tensor, axis, -1) if first else tensor

    def _groups(self, channels):
        return channels if isinstance(self.layer, DEPTHWISE) else self.layer.groups
