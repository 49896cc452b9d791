from typing import Any, ClassVar

import keras


class Structure:
    """What a layer multiplies its variables with.

    The derivative of a layer's result with respect to its variables is a sum of outer products,
    over positions and in groups that share no weights: of *columns*, what the kernel is multiplied
    with, and *rows*, the gradients that come back to the result.

    Args:
        layer: A layer.
        chosen: Set of the ids of the variables that derivatives are taken with respect to.

    Attributes:
        variables: Dict from names to those of the chosen variables that the structure explains.
    """

    names: ClassVar[tuple[str, ...]]

    def __init__(self, layer, chosen):
        self.layer = layer
        # With LoRA or quantization, what has the name may be something else.
        self.variables = {
            name: variable
            for name in self.names
            if isinstance(variable := getattr(layer, name, None), keras.Variable)
            and id(variable) in chosen
        }

    def patches(self, note: Any) -> dict[str, Any]:
        """What attributes of the layer have to be for its calls to be noted.

        Args:
            note: Function of the operand and the result of a call, which returns the result that
                the call goes on with.
        """
        raise NotImplementedError  # Each kind of layer has its own.

    def matrices(self, operand: Any, gradients: Any) -> tuple[Any, Any]:
        """Columns and rows of a call.

        Args:
            operand: Tensor that was noted.
            gradients: Tensor of shape `(k, n, ...)`, those of the noted result.

        Returns:
            Tuple of tensors, columns of shape `(n, groups, positions, fan-in)` and rows of shape
            `(n, groups, k, filters, positions)`. In which order groups, positions, fan-in and
            filters are is up to the structure.
        """
        raise NotImplementedError  # Each kind of layer has its own.
