from keras import ops

from keras_nladv.tangent.structures.structure import Structure


class KernelStructure(Structure):
    """A layer that multiplies with a kernel, adds a bias, and applies an activation."""

    names = ("kernel", "bias")

    def patches(self, note):
        call, activation = self.layer.call, self.layer.activation
        operands = []

        def noting_call(inputs, *args, **kwargs):
            operands.append(inputs)
            return call(inputs, *args, **kwargs)

        def noting_activation(result):
            return activation(note(operands.pop(), result))

        return {"call": noting_call, "activation": noting_activation}

    def matrices(self, operand, gradients):
        rows = self.rows(gradients)
        columns = []
        if "kernel" in self.variables:
            columns.append(self.columns(operand, gradients.shape[2:]))
        if "bias" in self.variables:
            n, groups, *_, positions = ops.shape(rows)
            columns.append(ops.ones((n, groups, positions, 1), rows.dtype))
        return ops.concatenate(columns, axis=-1), rows

    def columns(self, operand, shape):
        """What the kernel is multiplied with, given the shape of an example's result."""
        raise NotImplementedError  # Each kind of layer has its own.

    def rows(self, gradients):
        """The gradients, as the rows of `matrices`."""
        raise NotImplementedError  # Each kind of layer has its own.
