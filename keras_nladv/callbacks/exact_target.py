import bisect
import contextlib
import math

import keras
import numpy as np
from keras import ops

from keras_nladv._keras import private
from keras_nladv.graph.activation import LINEAR_THRESHOLD
from keras_nladv.graph.path_graph import PathGraph
from keras_nladv.layers.sparse_prelu import FROZEN, HELD, NEAR_FROZEN, SparsePReLU, kept_nonlinear

# Slopes are expected to be so many times as fast as they were: they speed up as they near 1.
FASTER = 2.0


class ExactTarget:
    """Makes just as many units linear as it takes to meet a target, and holds the others.

    Units become linear under pressure by themselves; here it is foreseen, from how fast slopes move
    from one look to the next, when the target would be met. Just before, as many slopes as are
    missing are set to 1, those nearest to it. Should more have become linear between two looks,
    those that were farthest from 1 at the first of them get the slopes back that they had.

    Afterwards units of `SparsePReLU` stay as they are by their constraints, whatever momentum is
    left in the optimizer. Slopes of `keras.layers.PReLU` know nothing of that, and have to be put
    where they belong again and again, see `pin`.

    Args:
        model: The model.
        pressed: Collection of the ids of the variables that are pressed.
        excess: Function of a `PathGraph` and a list of its activations: by how much they are above
            the target that is nearest to being met.
        of_model: Boolean. Whether that also looks at the slopes of the model itself.

    Raises:
        ValueError: If the model is below the target already by more than a unit, or if it is not
            when all units that are pressed are linear.
    """

    def __init__(self, model, pressed, excess, of_model=False):
        self._pressed = pressed
        self._excess = excess
        self._of_model = of_model
        self._units = self._read(model)
        self._require_within_reach(model)
        # The layers without constraints that keep units as they are, and which of these are linear.
        self._loose: list[tuple[keras.layers.PReLU, np.ndarray]] = []

    @property
    def needs_pins(self):
        """Whether there are slopes that leave their place in every step."""
        return bool(self._loose)

    def _require_within_reach(self, model):
        nonlinear = self._units["nonlinear"]
        what = (
            "`exact_target` needs a target that the model is above when training begins, and that"
        )
        least = self._above(nonlinear & ~self._units["pressed"])
        if least > 0:
            raise ValueError(
                f"{what} it meets with all units linear that are pressed. Received: model "
                f"'{model.name}', which is then still above it by {least:.4g}"
            )
        excess = self._above(nonlinear)

        def is_met_with(unit):
            more = nonlinear.copy()
            more[unit] = True
            return self._above(more) <= 0

        # Training may go on where another one has met the target.
        if excess < -1e-6 and all(map(is_met_with, np.flatnonzero(~nonlinear))):
            raise ValueError(
                f"{what} takes units to meet. Received: model '{model.name}', which is below "
                f"it by {-excess:.4g} already"
            )

    def look(self, model, elapsed):
        """Compares slopes with those of the last look.

        Args:
            model: The model.
            elapsed: The number of batches since.

        Returns:
            Float, in how many batches the target may be met, as far as one can tell; 0 if it is,
            exactly.
        """
        before, self._units = self._units, self._read(model)
        now = dict(self._units)
        # Nothing freezes a slope that crosses 1 in its first step, or that is of another layer.
        now["nonlinear"] = now["nonlinear"] & ((1 - before["slope"]) * (1 - now["slope"]) >= 0)
        if self._above(now["nonlinear"]) <= 0:
            self._settle(before, now)
            return 0.0
        speed = FASTER * (before["distance"] - now["distance"]) / elapsed
        gap = now["distance"] - now["threshold"]
        moves = now["nonlinear"] & now["pressed"] & (speed > 0)
        batches = np.full(len(gap), np.inf)
        np.divide(gap, speed, out=batches, where=moves)
        order = np.argsort(batches, kind="stable")[: np.sum(moves)]
        needed = self._needed(now["nonlinear"], order)
        return float(batches[order[needed - 1]]) if needed <= len(order) else math.inf

    def meet(self, model):
        """Makes the units linear that are missing."""
        now = self._read(model)
        self._settle(now, now)

    def pin(self, model):
        """Puts slopes that move on where the target wants them.

        Args:
            model: The model; on JAX, asking a callback for it brings weights up to date.
        """
        for layer, linear in self._loose:
            slopes = ops.convert_to_tensor(layer.alpha)
            held = kept_nonlinear(slopes, LINEAR_THRESHOLD)
            layer.alpha.assign(ops.where(linear, ops.ones_like(slopes), held))

    def _read(self, model):
        """Arrays of all units of the model, one after the other, with their slopes as they are."""
        self._graph = PathGraph.of(model)
        self._activations = self._graph.activations()
        units = {
            "nonlinear": [each.nonlinear for each in self._activations],
            "slope": [
                np.zeros(each.units) if each.slopes is None else each.slopes.astype("float64")
                for each in self._activations
            ],
            "pressed": [
                np.full(each.units, id(getattr(each.layer, "alpha", None)) in self._pressed)
                for each in self._activations
            ],
            "threshold": [
                np.full(each.units, getattr(each.layer, "linear_threshold", LINEAR_THRESHOLD))
                for each in self._activations
            ],
        }
        found = {name: np.concatenate(values) for name, values in units.items()}
        return {**found, "distance": np.abs(1 - found["slope"])}

    def _by_activation(self, values):
        return np.split(values, np.cumsum([each.units for each in self._activations])[:-1])

    def _above(self, nonlinear):
        """By how much the model is above the target with these units nonlinear."""
        # Slopes are not read again from the device: this is asked for many choices of units.
        for activation, values in zip(self._activations, self._by_activation(nonlinear)):
            activation.nonlinear = values
        with self._written(nonlinear) if self._of_model else contextlib.nullcontext():
            return self._excess(self._graph, self._activations)

    @contextlib.contextmanager
    def _written(self, nonlinear):
        """Lets the slopes of the model be as if these units were nonlinear, and no others."""
        slopes = self._units["slope"]
        bent = np.where(self._units["distance"] < self._units["threshold"], 0.0, slopes)
        slopes = self._by_activation(np.where(nonlinear, bent, 1.0))
        before = []
        for activation, values in zip(self._activations, slopes):
            layer = activation.layer
            if isinstance(layer, (SparsePReLU, keras.layers.PReLU)):
                before.append((layer.alpha, ops.convert_to_numpy(layer.alpha)))
                layer.alpha.assign(values.reshape(layer.alpha.shape))
        try:
            yield
        finally:
            for alpha, values in reversed(before):
                alpha.assign(values)

    def _needed(self, nonlinear, order):
        """How many units it takes to meet the target; one more than there are if all do not."""

        def is_met(number):
            left = nonlinear.copy()
            left[order[:number]] = False
            return self._above(left) <= 0

        return bisect.bisect_left(range(len(order) + 1), True, key=is_met)

    def _settle(self, before, now):
        """Makes units linear that were not `before`: first those that are now, then the nearest."""
        crossed = before["nonlinear"] & ~now["nonlinear"]
        choice = np.flatnonzero(before["nonlinear"] & (before["pressed"] | crossed))
        order = choice[np.lexsort((before["distance"][choice], ~crossed[choice]))]
        nonlinear = before["nonlinear"].copy()
        nonlinear[order[: self._needed(nonlinear, order)]] = False
        slopes = np.where(crossed & nonlinear, before["slope"], now["slope"])
        slopes[~nonlinear] = 1.0
        self._loose = []
        for activation, kept, values in zip(
            self._activations, *map(self._by_activation, (nonlinear, slopes))
        ):
            layer = activation.layer
            if not isinstance(layer, (SparsePReLU, keras.layers.PReLU)) or not layer.trainable:
                continue
            shape = layer.alpha.shape
            layer.alpha.assign(values.reshape(shape))
            if isinstance(layer, SparsePReLU):
                layer.side.assign(np.where(kept, HELD, FROZEN).reshape(shape))
            else:
                self._loose.append((layer, ~kept.reshape(shape)))


def release(model):
    """Lets units become linear again that were held."""
    for layer in private.sublayers(model):
        if isinstance(layer, SparsePReLU) and layer.built:
            side = ops.convert_to_numpy(layer.side)
            if (side < -NEAR_FROZEN).any():
                layer.side.assign(np.where(side < -NEAR_FROZEN, np.sign(1 - layer.slopes), side))
