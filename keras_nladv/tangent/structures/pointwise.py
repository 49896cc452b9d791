import math

import keras
from keras import layers, ops

from keras_nladv._keras import private
from keras_nladv.layers import SparsePReLU
from keras_nladv.tangent import differentiation
from keras_nladv.tangent.structures.structure import Structure


class PointwiseStructure(Structure):
    """Layers of which each element of the result meets one element of each variable.

    The derivative with respect to it is what a derivative in the direction of ones is made of.
    Elements of a variable are groups, and the variables are the fan-in.
    """

    # The derivative with respect to `side` is 0.
    names = ("gamma", "beta", "scale", "alpha", "side")

    def __init__(self, layer, chosen):
        super().__init__(layer, chosen)
        if len(private.sublayers(layer)) > 1:
            # They would be noted inside of a derivative.
            self.variables = {}

    def patches(self, note):
        call = self.layer.call

        def noting_call(*args, **kwargs):
            derivatives = [
                self._derivative(variable, lambda: call(*args, **kwargs))
                for variable in self.variables.values()
            ]
            return note(ops.stack(derivatives, axis=-1), call(*args, **kwargs))

        return {"call": noting_call}

    def _derivative(self, variable, call):
        values = [(each, each.value) for each in self.layer.variables]

        def function(primals):
            with keras.StatelessScope([*values, (variable, primals[0])]):
                return call()

        value = ops.cast(variable.value, variable.dtype)
        return differentiation.jvp(function, [value], [ops.ones_like(value)])[1]

    def matrices(self, operand, gradients):
        rank = len(gradients.shape) - 1
        own = [axis for axis in range(1, rank) if axis in self._axes(rank)]
        shared = [axis for axis in range(1, rank) if axis not in own]
        groups, positions = (
            math.prod(operand.shape[axis] for axis in axes) for axes in (own, shared)
        )
        columns = ops.transpose(operand, (0, *own, *shared, rank))
        rows = ops.transpose(
            gradients, (1, *(axis + 1 for axis in own), 0, *(axis + 1 for axis in shared))
        )
        return (
            ops.reshape(columns, (-1, groups, positions, len(self.variables))),
            ops.reshape(rows, (-1, groups, gradients.shape[0], 1, positions)),
        )

    def _axes(self, rank):
        """The axes of a result along which the variables have elements of their own."""
        layer = self.layer
        if isinstance(layer, layers.PReLU):
            return [axis for axis, size in enumerate(layer.alpha.shape, 1) if size > 1]
        if isinstance(layer, SparsePReLU) and layer.granularity != "channel":
            return range(1, rank) if layer.granularity == "element" else []
        axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
        return [axis % rank for axis in axes]
