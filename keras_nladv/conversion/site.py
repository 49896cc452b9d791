from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class Site:
    """An activation where a model applies it.

    Attributes:
        node: The Keras node of the call that applies it.
        applied: The activation: the layer or operation that is called, or what is fused in it.
        function: The base activation of a `SparsePReLU` in its place, `None` if there is none.
        name: The name of the layer or operation that is called.
        key: What tells it from others.
        trainable: Whether the slopes are to be trained.
        granularity: The granularity of the slopes, `None` if there is none like it.
        axis: Their axis.
    """

    node: Any
    applied: Any
    function: Any
    name: str
    key: Any
    trainable: bool
    granularity: str | None
    axis: int

    def slopes_shape(self, shape):
        """The shape of the slopes for an input of a given shape, `None` where that is unknown."""
        if self.granularity == "channel":
            return (shape[self.axis],)
        return tuple(shape[1:]) if self.granularity == "element" else ()

    def computes_as(self, other):
        """Whether the base activation of another site is the same function."""
        one, two = self.function, other.function
        if one is two:
            return True
        if type(one) is not type(two) or not isinstance(one, keras.Operation):
            return False
        if getattr(one, "weights", []):
            return False
        return {**one.get_config(), "name": ""} == {**two.get_config(), "name": ""}
