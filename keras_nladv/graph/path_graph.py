import weakref
from dataclasses import replace

import keras
import numpy as np

from keras_nladv.graph.activation import Activation
from keras_nladv.graph.require_graph import require_graph
from keras_nladv.graph.rules import on_registration
from keras_nladv.graph.tracer import Tracer

_cache: weakref.WeakKeyDictionary[keras.Model, "PathGraph"] = weakref.WeakKeyDictionary()
on_registration.append(_cache.clear)


class PathGraph:
    """A model's channel graph, read once: its activations, and how much each unit counts.

    Args:
        model: A built Functional or Sequential model.
    """

    def __init__(self, model: keras.Model) -> None:
        self._outputs = list(model.outputs)
        tracer = Tracer()
        self._graph = tracer.graph
        self._ends = tracer.trace(model)
        if not self._ends.any():
            raise ValueError(
                f"No path leads from the inputs of model '{model.name}' to its outputs: by the "
                "path rules, they do not depend on the inputs."
            )
        self._weights: dict[bool, tuple[list[np.ndarray], float]] = {}
        self._activations = tracer.activations

    @classmethod
    def of(cls, model: keras.Model) -> "PathGraph":
        """Returns the graph of a model, traced the first time only."""
        require_graph(model)
        graph = _cache.get(model)
        # Sequential models can grow and shrink: their outputs are new ones then.
        if graph is None or any(a is not b for a, b in zip(graph._outputs, model.outputs)):
            _cache[model] = graph = cls(model)
        return graph

    def activations(self) -> list[Activation]:
        """The activations, which will read the slopes anew."""
        return [replace(activation) for activation in self._activations]

    def path_length(self, normalized: bool, activations: list[Activation] | None = None) -> float:
        """The average path length, for the slopes as they are now or those of `activations`."""
        if normalized not in self._weights:
            self._weights[normalized] = self._graph.unit_weights(
                self._ends, [activation.units for activation in self._activations], normalized
            )
        weights, total = self._weights[normalized]
        counted = sum(
            np.dot(weight, activation.nonlinear)
            for weight, activation in zip(weights, activations or self.activations())
        )
        return float(counted / total)
