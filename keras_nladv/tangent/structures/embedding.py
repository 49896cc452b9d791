import math

from keras import ops

from keras_nladv.tangent.structures.structure import Structure


class EmbeddingStructure(Structure):
    """Embedding: the product of its table with one-hot vectors."""

    names = ("embeddings",)

    def patches(self, note):
        call = self.layer.call
        return {"call": lambda inputs: note(inputs, call(inputs))}

    def matrices(self, operand, gradients):
        positions = math.prod(operand.shape[1:])
        ids = ops.reshape(ops.cast(operand, "int32"), (-1, 1, positions))
        columns = ops.one_hot(ids, self.layer.input_dim, dtype=gradients.dtype)
        rows = ops.reshape(gradients, (gradients.shape[0], -1, 1, positions, gradients.shape[-1]))
        return columns, ops.transpose(rows, (1, 2, 0, 4, 3))
