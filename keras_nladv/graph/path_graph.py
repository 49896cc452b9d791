import warnings
import weakref
from dataclasses import replace

import keras
import numpy as np

from keras_nladv.graph.activation import Activation
from keras_nladv.graph.require_graph import require_graph
from keras_nladv.graph.rules import on_registration
from keras_nladv.graph.tracer import Tracer

_cache: weakref.WeakKeyDictionary[keras.Model, dict[bool, "PathGraph"]]
_cache = weakref.WeakKeyDictionary()
on_registration.append(_cache.clear)


class PathGraph:
    """A model's channel graph, read once: its activations, and how much each unit counts.

    Args:
        model: A built Functional or Sequential model.
        weights: Boolean. Whether edges whose weights are all zero do not count.
    """

    def __init__(self, model: keras.Model, weights: bool = False) -> None:
        self._name = model.name
        self._outputs = list(model.outputs)
        self._zeros = _zeros(model) if weights else []
        tracer = Tracer(skips_zeros=weights)
        self._ends = tracer.trace(model)
        if not self._ends.any():
            raise ValueError(
                f"No path leads from the inputs of model '{model.name}' to its outputs: by the "
                "path rules, they do not depend on the inputs."
            )
        self._graph = tracer.reading.graph
        self._shares: dict[bool, tuple[list[np.ndarray], float]] = {}
        self._activations = tracer.reading.activations

    @classmethod
    def of(cls, model: keras.Model, weights: bool = False) -> "PathGraph":
        """Returns the graph of a model, traced again only if what it was made of has changed."""
        require_graph(model)
        known = _cache.setdefault(model, {})
        if weights not in known or known[weights]._is_outdated(model):
            known[weights] = cls(model, weights)
        return known[weights]

    def activations(self) -> list[Activation]:
        """The activations, which will read the slopes anew."""
        return [replace(activation) for activation in self._activations]

    def reached_outputs(self) -> tuple[int, int]:
        """How many channels of the outputs some path reaches, and how many channels there are."""
        ends = self._ends[self._ends > 0]
        return int(self._graph.reached()[ends].sum()), len(ends)

    def path_length(self, normalized: bool, activations: list[Activation] | None = None) -> float:
        """The average path length, for the slopes as they are now or those of `activations`."""
        if normalized not in self._shares:
            self._shares[normalized] = self._graph.unit_weights(
                self._ends, [activation.units for activation in self._activations], normalized
            )
        shares, total = self._shares[normalized]
        if total == 0:
            warnings.warn(
                f"Weights that are zero cut every path from the inputs of model '{self._name}' to "
                "its outputs: they do not depend on the inputs. Its path length is 0.",
                stacklevel=3,
            )
            return 0.0
        counted = sum(
            np.dot(share, activation.nonlinear)
            for share, activation in zip(shares, activations or self.activations())
        )
        return float(counted / total)

    def _is_outdated(self, model):
        # Sequential models can grow and shrink: their outputs are new ones then.
        if any(a is not b for a, b in zip(self._outputs, model.outputs)):
            return True
        return bool(self._zeros) and not all(map(np.array_equal, self._zeros, _zeros(model)))


def _zeros(model):
    """Where the weights of a model are zero, as packed bits."""
    return [np.packbits(keras.ops.convert_to_numpy(each) == 0) for each in model.weights]
