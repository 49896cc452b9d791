import itertools
import math
import re

from keras import layers, ops

from keras_nladv.tangent.structures.kernel import KernelStructure


class DenseStructure(KernelStructure):
    """Dense and EinsumDense: the letters of the equation tell which axis is what."""

    def __init__(self, layer, chosen):
        super().__init__(layer, chosen)
        equation = layer.equation if isinstance(layer, layers.EinsumDense) else "...a,ab->...b"
        self._operand, kernel, self._result = (
            re.findall(r"\.{3}|\w", part) for part in re.split(",|->", equation)
        )
        self._groups = [each for each in kernel if each in self._operand and each in self._result]
        self._fan_in = [each for each in kernel if each not in self._result]
        self._filters = [each for each in kernel if each not in self._operand]
        positions = [each for each in self._result if each not in kernel]
        explained = {*self._groups, *self._fan_in, *positions} == set(self._operand)
        explained &= {*self._groups, *self._filters, *positions} == set(self._result)
        # The batch comes first.
        if not explained or not self._operand[:1] == self._result[:1] == positions[:1]:
            self.variables = {}
        # A bias that is shared along an axis of the kernel is not multiplied with 1 alone.
        bias_axes = getattr(layer, "bias_axes", None)
        if bias_axes and set(bias_axes) != {*self._groups, *self._filters}:
            self.variables.pop("bias", None)

    def columns(self, operand, shape):
        names = _names(self._operand, len(operand.shape))
        positions = self._positions(_names(self._result, len(shape) + 1))
        return _arranged(operand, names, self._groups, positions, self._fan_in)

    def rows(self, gradients):
        names = _names(self._result, len(gradients.shape) - 1)
        parts = self._groups, ["k"], self._filters, self._positions(names)
        return _arranged(ops.moveaxis(gradients, 0, 1), [names[0], "k", *names[1:]], *parts)

    def _positions(self, names):
        """The axes of a result, but for the batch, that are none of the kernel."""
        return [each for each in names[1:] if each not in {*self._groups, *self._filters}]


def _names(letters, rank):
    """A name for each axis. Axes that an ellipsis stands for are numbered."""
    numbers = range(rank - len(letters) + 1)
    return [name for each in letters for name in (numbers if each == "..." else [each])]


def _arranged(tensor, names, *parts):
    """Transposed and reshaped: the batch stays first, and of each part's axes one is made."""
    axes = [[names.index(each) for each in part] for part in parts]
    sizes = [math.prod(tensor.shape[axis] for axis in part) for part in axes]
    return ops.reshape(ops.transpose(tensor, [0, *itertools.chain(*axes)]), (-1, *sizes))
