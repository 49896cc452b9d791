import math
import weakref
from typing import Any, ClassVar

import keras
from keras import ops

from keras_nladv._common.arguments import require_model
from keras_nladv._keras import private
from keras_nladv.tangent import differentiation
from keras_nladv.tangent.batches import dense, part


class Stateless:
    """A model as a function of some of its variables.

    It runs as it does in `predict`: no dropout, and normalization by moving statistics. Inputs of
    a batch do not influence each other.

    Args:
        model: A built Keras model with one output tensor.
        variables: List of variables of the model, or `None` for those that are trainable.

    Attributes:
        variables: List of the chosen variables.
        others: List of the other variables of the model.
        unconnected: Set of the indices of chosen variables without which outputs would have the
            same derivatives. It is known once `inputs` has been called.

    Raises:
        ValueError: If the model is not built, or has no such variables.
    """

    _known: ClassVar[weakref.WeakKeyDictionary[Any, Any]] = weakref.WeakKeyDictionary()

    @classmethod
    def of(cls, model, variables=None):
        """The one of a model and its variables, whose functions may be compiled already."""
        require_model(model)
        variables = model.trainable_variables if variables is None else list(variables)
        known = cls._known.setdefault(model, {})
        key = tuple(map(id, variables))
        if key not in known:
            known[key] = cls(model, variables)
        return known[key]

    def __init__(self, model, variables):
        if not model.built:
            raise ValueError(
                f"Model '{model.name}' must be built, so that its variables are there. Call it on "
                "some inputs, or `model.build(input_shape)`, first."
            )
        everything = {id(variable): variable for variable in model.variables}
        for each in variables:
            if id(each) not in everything:
                raise ValueError(
                    f"`variables` must be variables of model '{model.name}'. Received: {each!r}"
                )
            if not keras.backend.is_float_dtype(each.dtype):
                raise ValueError(
                    "`variables` must be floats, which have derivatives. Received: "
                    f"'{each.path}' of dtype {each.dtype}"
                )
        if not variables:
            raise ValueError(
                f"Model '{model.name}' has no trainable variables to differentiate with respect "
                "to. Give `variables`, or make layers trainable."
            )
        # The model does not live longer because its functions are known.
        self._model = weakref.ref(model)
        self._compiled = {}
        self.plans: dict[Any, Any] = {}
        self._checked = False
        fixed = {tensor.shape[0] for tensor in getattr(model, "inputs", None) or ()} - {None}
        self._batch = min(fixed) if fixed else differentiation.least_batch(private.sublayers(model))
        self._is_fixed = bool(fixed)
        self.variables = variables
        self.unconnected: set[int] = set()
        chosen = set(map(id, variables))
        self.others = [each for each in everything.values() if id(each) not in chosen]

    @property
    def dtype(self):
        """The dtype that kernels are summed up in."""
        exact = any(each.dtype == "float64" for each in self.variables)
        return "float64" if exact else "float32"

    @property
    def model(self):
        return self._model()

    @property
    def values(self):
        """Values of the chosen variables."""
        return [ops.stop_gradient(each.value) for each in self.variables]

    @property
    def state(self):
        """Values of the other variables."""
        return [ops.stop_gradient(each.value) for each in self.others]

    def __call__(self, values, state, x, filled=True):
        """Outputs for values of the chosen variables and of the others, as a matrix.

        Args:
            values: List of tensors.
            state: List of tensors.
            x: Inputs of the model, of `n` examples.
            filled: Boolean. Whether to add examples where gradients for weights need more.

        Returns:
            Tensor of shape `(n, k)`: what the model puts out, each example flattened.

        Raises:
            ValueError: If the model puts out something else than one tensor of floats, or if it
                draws random numbers or keeps statistics as it runs.
        """
        outputs = self.run(values, state, x, filled=filled)
        return ops.reshape(outputs, (-1, math.prod(outputs.shape[1:])))

    def run(self, values, state, x, scope=keras.StatelessScope, filled=True):
        """As `__call__`, but outputs keep their shape. Variables are read through `scope`."""
        pairs = [*zip(self.variables, values, strict=True), *zip(self.others, state, strict=True)]
        drawn = differentiation.unseeded()
        with scope(pairs) as scope:
            before = dict(scope.state_mapping)
            outputs = self._outputs(x, filled)
        changed = [key for key, each in scope.state_mapping.items() if before.get(key) is not each]
        if changed or drawn():
            raise self._not_steady(next((v.path for v, _ in pairs if id(v) in changed), None))
        if not hasattr(outputs, "shape"):
            raise ValueError(
                f"Model '{self.model.name}' must put out one tensor. Received: a "
                f"{type(outputs).__name__} of {len(keras.tree.flatten(outputs))}. Choose one: "
                "`keras.Model(model.inputs, model.outputs[0])`."
            )
        n = keras.tree.flatten(x)[0].shape[0]
        if outputs.shape and outputs.shape[0] is None and n is not None:
            # Of strings, TensorFlow forgets how many there are.
            outputs = ops.reshape(outputs, (n, *outputs.shape[1:]))
        if not outputs.shape or outputs.shape[0] != n:
            raise ValueError(
                f"Model '{self.model.name}' must put out something for each example. Received: "
                f"outputs of shape {tuple(outputs.shape)} for {n} examples"
            )
        if not keras.backend.is_float_dtype(outputs.dtype):
            raise ValueError(
                f"Model '{self.model.name}' must put out floats, which have derivatives. "
                f"Received: dtype={keras.backend.standardize_dtype(outputs.dtype)}"
            )
        return outputs

    def _outputs(self, x, filled):
        """What the model puts out for `x`, in as many runs as it takes, filled up with examples."""
        n = keras.tree.flatten(x)[0].shape[0]
        if n is None:
            # Where a training step is traced; batches are then what the model takes.
            return self.model(x, training=False)
        missing = -n % self._batch if self._is_fixed else filled * max(self._batch - n, 0)
        if missing:
            x = keras.tree.map_structure(
                lambda each: ops.concatenate([each, ops.repeat(each[:1], missing, axis=0)]), x
            )
        size = self._batch if self._is_fixed else n + missing
        runs = [
            self.model(part(x, start, size), training=False)
            for start in range(0, n + missing, size)
        ]
        if len(runs) > 1 and hasattr(runs[0], "shape"):
            return ops.concatenate(runs)[:n]
        return runs[0][:n] if missing and hasattr(runs[0], "shape") else runs[0]

    def _not_steady(self, path):
        changing = f"changes its variable '{path}' whenever it runs: it " if path else ""
        return ValueError(
            f"Model '{self.model.name}' {changing}draws random numbers or keeps statistics also "
            "with `training=False`. Make a model of its layers that does not."
        )

    def compiled(self, function, *constants):
        """Compiles a function, `function(stateless, *arguments, *constants)`, once."""
        key = function, *constants
        if key not in self._compiled:
            itself = weakref.ref(self)
            self._compiled[key] = differentiation.compiled(
                lambda *arguments: function(itself(), *arguments, *constants)
            )
        return self._compiled[key]

    def inputs(self, x, name="x"):
        """`x` as tensors.

        Raises:
            ValueError: If it is no input of this model, or if the model has no derivatives.
        """
        x = keras.tree.map_structure(dense, x)
        received = keras.tree.flatten(x)
        sizes = {each.shape[0] if len(each.shape) else None for each in received}
        if len(sizes) != 1 or None in sizes or 0 in sizes:
            raise ValueError(
                f"`{name}` must hold at least one example, and as many in each input. Received "
                f"shapes: {[tuple(each.shape) for each in received]}"
            )
        expected = self._expected(x)
        if expected is None:
            return self._with_derivatives(x)
        if len(expected) != len(received):
            raise ValueError(
                f"`{name}` must be the {len(expected)} inputs of model '{self.model.name}'. "
                f"Received: {len(received)}"
            )
        for tensor, each in zip(expected, received, strict=True):
            shape, wanted = tuple(each.shape[1:]), tuple(tensor.shape[1:])
            if len(shape) != len(wanted) or any(
                want not in (None, size) for want, size in zip(wanted, shape, strict=True)
            ):
                raise ValueError(
                    f"`{name}` must have examples of shape {wanted} for input '{tensor.name}'. "
                    f"Received: {shape}"
                )
        self.require_floats(x, name)
        return self._with_derivatives(x)

    def require_floats(self, x, name):
        """Raises an error if `x` holds integers where the model wants floats."""
        for tensor, each in zip(self._expected(x) or (), keras.tree.flatten(x)):
            floats = map(keras.backend.is_float_dtype, (tensor.dtype, each.dtype))
            if tuple(floats) == (True, False):
                raise ValueError(
                    f"`{name}` must be floats for input '{tensor.name}'. Received: "
                    f"dtype={keras.backend.standardize_dtype(each.dtype)}. Scale it as in training "
                    "and cast it."
                )

    def _expected(self, x):
        """The model's inputs in the order of the flattened `x`, or `None` if it has no graph."""
        expected = getattr(self.model, "inputs", None)
        named = {tensor.name: tensor for tensor in expected or ()}
        if isinstance(x, dict) and x.keys() == named.keys():
            expected = keras.tree.flatten(named)
        return expected

    def pair(self, x1, x2):
        """`x1` and `x2` as tensors. Where `x2` is `None` it is `x1`.

        Raises:
            ValueError: If they are no inputs of this model, or if their examples differ in shape.
        """
        x1 = self.inputs(x1, "x1")
        if x2 is None:
            return x1, x1
        x2 = self.inputs(x2, "x2")
        shapes = [[tuple(each.shape[1:]) for each in keras.tree.flatten(x)] for x in (x1, x2)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"`x2` must have examples of the shape of those of `x1`, {shapes[0]}. Received: "
                f"{shapes[1]}"
            )
        return x1, x2

    def _with_derivatives(self, x):
        """`x`, once it is known that each layer has a variable that outputs depend on.

        It need not be all of its variables: a layer may have some that it only compares with.
        """
        if self._checked:
            return x
        one = keras.tree.map_structure(lambda each: each[:1], x)
        state = self.state

        def function(values):
            return self.run(values, state, one)

        self.unconnected = differentiation.unconnected(function, self.values)
        if not differentiation.repeatable(function, self.values):
            raise self._not_steady(None)
        layers: dict[str, list[int]] = {}
        for index, variable in enumerate(self.variables):
            layers.setdefault(variable.path.rpartition("/")[0], []).append(index)
        for indices in layers.values():
            if self.unconnected.issuperset(indices):
                raise ValueError(
                    f"The outputs of model '{self.model.name}' have no derivative with respect to "
                    f"its variable '{self.variables[indices[0]].path}': what is between them "
                    "rounds, compares or stops gradients, or the variable is not used. If that is "
                    "meant, give `variables` without it."
                )
        self._checked = True
        return x
