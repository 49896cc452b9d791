import math
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers, ops

from keras_nladv._keras import private
from keras_nladv.tangent import differentiation
from keras_nladv.tangent.structures import STRUCTURES, Structure
from keras_nladv.tangent.taps import Taps


@dataclass
class LayerPlan:
    """What is known of a layer whose structure is used.

    Attributes:
        structure: Its `Structure`.
        calls: List of the numbers of its calls among all calls that are noted.
        groups, positions, fan_in, filters: Integers, the sizes of the `matrices` of the structure.
            The positions of all calls are counted together.
    """

    structure: Structure
    calls: list[int]
    groups: int
    positions: int
    fan_in: int
    filters: int

    @property
    def size(self):
        """The number of elements of the layer's variables."""
        return self.groups * self.fan_in * self.filters

    def multiplications(self, k, trace):
        """What the layer's part of a kernel costs for a pair of examples.

        Args:
            k: Integer, the number of outputs.
            trace: Boolean.

        Returns:
            Tuple of two integers: with Jacobians that are written out, and with columns and rows.
        """
        entries = k if trace else k * k
        if self.groups > 1:
            products = math.inf
        elif self.positions == 1:
            products = self.fan_in + entries * self.filters
        else:
            products = self.positions**2 * (self.fan_in + k * self.filters)
            products += 0 if trace else entries * self.positions * self.filters
        return entries * self.size, products

    def is_product(self, k, trace):
        """Whether columns and rows are kept as they are, and no Jacobian is written out."""
        jacobians, products = self.multiplications(k, trace)
        return products < jacobians


class KernelPlan:
    """How the derivatives of a model are found, for inputs of given shapes.

    Args:
        stateless: A `Stateless` model.
        x: Inputs as tensors, of which only shapes and dtypes matter.
        structured: Boolean. Whether the structure of layers is used.

    Attributes:
        k: Integer, the number of outputs of an example.
        results: List of the shapes of an example's results in noted calls, and their dtypes.
        layers: List of `LayerPlan`s.
        rest: List of the indices of the variables that are in none of them and do matter.
    """

    @classmethod
    def of(cls, stateless, x, structured=True):
        """The one for a model and shapes, which may be known already."""
        flat = keras.tree.flatten(x)
        key = structured, *((tuple(each.shape[1:]), str(each.dtype)) for each in flat)
        if key not in stateless.plans:
            stateless.plans[key] = cls(stateless, x, structured)
        return stateless.plans[key]

    def __init__(self, stateless, x, structured):
        self._stateless, self._x = stateless, x
        structures = _structures(stateless) if structured else []
        try:
            structures = self._fitting(structures)
        except Exception:
            # From loops of a backend, say, nothing can be brought out. Other errors come again.
            structures = self._fitting([])
        known = {id(each) for own in structures for each in own.variables.values()}
        self.rest = [
            i
            for i, each in enumerate(stateless.variables)
            if id(each) not in known and i not in stateless.unconnected
        ]

    def multiplications(self, n1, n2, trace):
        """Estimates what the methods of `empirical_ntk` cost.

        Args:
            n1: Integer, number of inputs.
            n2: Integer, number of inputs on the other side, or 0 if they are the same.
            trace: Boolean.

        Returns:
            Dict from methods to numbers of multiplications.
        """
        k, sizes = self.k, [math.prod(each.shape) for each in self._stateless.variables]
        rest = sum(sizes[i] for i in self.rest)
        forward = rest + sum(each.positions * each.size for each in self.layers)
        examples, pairs = n1 + n2, n1 * (n2 or n1)
        entries = pairs * (k if trace else k * k)
        jacobian = 2 * examples * k * forward
        structured = examples * k * forward
        for layer in self.layers:
            structured += pairs * min(layer.multiplications(k, trace))
            if not layer.is_product(k, trace):
                structured += examples * k * layer.positions * layer.size
        if self.rest:
            structured += jacobian + entries * rest
        return {
            "structured": structured,
            "jacobian": jacobian + entries * sum(sizes),
            "ntk-vector": 3 * (n1 + 1) * (n2 or n1) * k * forward,
        }

    def numbers(self, method, trace):
        """Estimates how many numbers a method of `empirical_ntk` holds for an example."""
        k, sizes = self.k, [math.prod(each.shape) for each in self._stateless.variables]
        results = k + sum(math.prod(shape) for shape, _ in self.results)
        if method == "ntk-vector":
            return 2 * results
        if method == "jacobian":
            return k * sum(sizes)
        held = k * (results + sum(sizes[i] for i in self.rest))
        for layer in self.layers:
            if layer.is_product(k, trace):
                held += layer.positions * (layer.fan_in + k * layer.filters)
            else:
                held += k * layer.size
        return held

    def _fitting(self, structures):
        """Those of the structures that can be used, noted in `results` and `layers`."""
        unfit = {None}
        while unfit:
            # By chance, what a layer is called on may have two rows for two examples.
            unfit = self._run(structures, 2) | self._run(structures, 3)
            structures = [each for each in structures if each not in unfit]
        return structures

    def _run(self, structures, n):
        """Runs the model on `n` examples. Returns the set of the structures that cannot be used."""
        x = keras.tree.map_structure(lambda each: _blank(each, n), self._x)
        plans: dict[Structure, LayerPlan] = {}
        unfit = set(structures)

        def function(values, state, x):
            with Taps(structures) as taps:
                outputs = self._stateless.run(values, state, x, taps.scope)
            self.k = math.prod(outputs.shape[1:])
            self.results = [(tuple(each.shape[1:]), each.dtype) for _, _, each in taps.calls]
            unfit.difference_update(structure for structure, _, _ in taps.calls)
            for structure, operand, result in taps.calls:
                variables = map(id, structure.variables.values())
                if (operand.shape[0], result.shape[0]) != (n, n) or taps.strays & set(variables):
                    unfit.add(structure)
            matrices = []
            for number, (structure, operand, result) in enumerate(taps.calls):
                if structure not in unfit:
                    columns, rows = structure.matrices(operand, result[None])
                    _, groups, positions, fan_in = columns.shape
                    plan = LayerPlan(structure, [], groups, 0, fan_in, rows.shape[3])
                    plan = plans.setdefault(structure, plan)
                    plan.calls.append(number)
                    plan.positions += positions
                    matrices.append((columns, rows))
            return outputs, matrices

        differentiation.traced(function, self._stateless.values, self._stateless.state, x)
        self.layers = list(plans.values())
        return unfit


def _structures(stateless):
    """The structures of layers with chosen variables, if they are called as they are seen to be."""
    chosen = set(map(id, stateless.variables))
    found = private.sublayers(stateless.model)
    looped = {
        id(each)
        for layer in found
        if isinstance(layer, layers.RNN)
        for each in private.sublayers(layer)
    }
    structures = [
        STRUCTURES[type(each)](each, chosen)
        for each in found
        if type(each) in STRUCTURES
        and id(each) not in looped
        and not private.is_rematerialized(each)
    ]
    return [each for each in structures if each.variables]


def _blank(x, n):
    """Inputs of the shape and dtype of others, for `n` examples."""
    shape = (n, *x.shape[1:])
    if keras.backend.standardize_dtype(x.dtype) == "string":
        return ops.convert_to_tensor(np.full(shape, "", dtype=object))
    return ops.zeros(shape, x.dtype)
