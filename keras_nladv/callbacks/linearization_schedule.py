import math
from collections.abc import Callable, Mapping

import keras
import numpy as np

from keras_nladv._common.arguments import flag, integer, number
from keras_nladv.callbacks.exact_target import ExactTarget, release
from keras_nladv.graph.path_graph import PathGraph
from keras_nladv.regularizers import NonlinearitySparsity
from keras_nladv.slopes.freezing_watch import FreezingWatch
from keras_nladv.slopes.pressable import pressable


class LinearizationSchedule(keras.callbacks.Callback):
    r"""Switches the pressure on nonlinear units on, ramps it up, and stops it at a target.

    At the beginning of each epoch it sets the strength $\omega$ of every `NonlinearitySparsity` in
    the model: 0 before `start_epoch`; then, for `ramp_epochs` epochs, a line that rises by the same
    step each epoch; `strength` from then on, and 0 again from `end_epoch` on. When a target is
    reached the strength is 0 from then to the end. That is looked for at the beginning of each
    epoch and, since most units may go within one, every few batches. A few units more become
    linear afterwards: the optimizer's momentum carries slopes on, unless `exact_target` holds them.
    Strengths that regularizers were
    constructed with are replaced; give them 0. Nothing is traced or compiled again.

    The schedule is a function of the epoch and the model, so training can be resumed with
    `initial_epoch`.

    The strength that an epoch began with is added to the logs as `omega`. Callbacks that
    shall see it, `PathLengthCallback(log_dir=...)` or `keras.callbacks.CSVLogger` say, stand
    after this one in the list; `History` always sees it.

    Args:
        strength: Finite float, at least 0. The strength $\omega$ after the ramp.
        start_epoch: Integer, at least 0. The first epoch with pressure, counted from 0.
        ramp_epochs: Integer, at least 0. The number of epochs with less than `strength`. With 4,
            these have 1/5, 2/5, 3/5 and 4/5 of it.
        target_path_length: `None`, or a float of at least 0. The pressure stops when
            `keras_nladv.path_length(model)` is not above it.
        target_nonlinear_units: `None`, or a float in [0, 1]. The pressure stops when the fraction
            of the model's units that are nonlinear is not above it.
        stop_when: `None`, or a function of the model, for another target: the pressure stops when
            it returns true. With `exact_target` it may return a number instead, by how much the
            model is above the target. Of several targets, the first to be reached counts.
        end_epoch: `None`, or an integer of at least 0. The first epoch without pressure again,
            whether or not a target is reached.
        check_every: Integer, at least 1. The number of batches after which targets are looked for
            again. With 1 the pressure stops at once; with more, training waits less often for
            that, above all on JAX, where the model's state is handed over each time.
        weights: `None`, or a dict from names of activation layers, or the layers themselves, to
            finite floats of at least 0. The strength of a layer is multiplied with that: of layers
            that are not in it with 1, of those with 0 nothing is pressed. Names are those in
            `keras_nladv.nonlinearity_report`; without the models and layers around them, where
            one layer alone has the name. `keras_nladv.pressure_weights` makes such a dict, which
            presses where it pays.
        exact_target: Boolean. Whether to meet `target_path_length`, `target_nonlinear_units` or the
            number that `stop_when` returns as closely as units allow, and to stay there: see below.

    **Exact targets.** Many units become linear in the same few steps where the pressure is strong,
    momentum carries others on, and where the learning rate falls a target may not be reached at
    all. With `exact_target=True` the schedule looks more often, down to after every batch, as the
    target comes near. Just before it is met, as many slopes as are missing are set to 1, those
    nearest to it, and are frozen like others; then the pressure stops, and until `fit` ends no
    further unit becomes linear. So models end within one unit of the target: the share of nonlinear
    units is the greatest that is not above it, other targets the first that is not above it as
    slopes are set to 1 in this order. What `stop_when` counts must not rise as units become linear:
    it is asked about the model with many choices of these. If the pressure ends before, at
    `end_epoch` or else where `fit` ends, the slopes that are missing then are set at once. Give
    `end_epoch` if the network shall be trained afterwards in any case, or if training shall be gone
    on with in another `fit`. Of `keras.layers.PReLU`, whose slopes nothing freezes, they are set
    anew after each batch, which takes time on JAX.

    Raises:
        ValueError: If an argument is out of range; when training begins, if the model has no
            `NonlinearitySparsity`, or has one on weights that are not slopes, if `weights` names a
            layer that is not pressed, or if layers of different weights share a regularizer; with
            `exact_target`, if the target is above what the model has already, or cannot be met
            with the units that are pressed.

    Example:

    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((8,)),
    ...         keras.layers.Dense(4),
    ...         SparsePReLU(alpha_regularizer=NonlinearitySparsity(0.0)),
    ...         keras.layers.Dense(1),
    ...     ]
    ... )
    >>> model.compile("sgd", "mse")
    >>> schedule = LinearizationSchedule(0.1, start_epoch=1, ramp_epochs=1)
    >>> history = model.fit(
    ...     np.ones((16, 8)), np.ones((16, 1)), epochs=4, callbacks=[schedule], verbose=0
    ... )
    >>> [round(omega, 4) for omega in history.history["omega"]]
    [0.0, 0.05, 0.1, 0.1]

    Source: *Nonlinear Advantage*, arXiv 2211.17180, which switches the pressure on early or
    late. The ramp and the targets are additions.
    """

    def __init__(
        self,
        strength: float,
        start_epoch: int = 0,
        ramp_epochs: int = 0,
        target_path_length: float | None = None,
        target_nonlinear_units: float | None = None,
        stop_when: Callable[[keras.Model], bool | float] | None = None,
        end_epoch: int | None = None,
        check_every: int = 10,
        weights: Mapping[str | keras.Layer, float] | None = None,
        exact_target: bool = False,
    ):
        super().__init__()
        self.strength = _number("strength", strength, math.inf)
        self.start_epoch = integer("start_epoch", start_epoch, least=0)
        self.ramp_epochs = integer("ramp_epochs", ramp_epochs, least=0)
        if target_path_length is not None:
            target_path_length = _number("target_path_length", target_path_length, math.inf)
        if target_nonlinear_units is not None:
            target_nonlinear_units = _number("target_nonlinear_units", target_nonlinear_units, 1)
        if stop_when is not None and not callable(stop_when):
            raise ValueError(
                f"`stop_when` must be `None` or a function. Received: stop_when={stop_when!r}"
            )
        self.target_path_length = target_path_length
        self.target_nonlinear_units = target_nonlinear_units
        self.stop_when = stop_when
        self.end_epoch = None if end_epoch is None else integer("end_epoch", end_epoch, least=0)
        self.check_every = integer("check_every", check_every, least=1)
        self.weights = _weights(weights)
        exact_target = flag("exact_target", exact_target)
        if exact_target and not self._has_target() and stop_when is None:
            raise ValueError(
                "`exact_target` must be False without a target that counts units. Received: "
                f"exact_target={exact_target!r}. Give `target_path_length`, "
                "`target_nonlinear_units`, or a `stop_when` that returns a number, too."
            )
        if exact_target and self.end_epoch is not None and self.end_epoch <= self.start_epoch:
            raise ValueError(
                "`end_epoch` must be greater than `start_epoch` with `exact_target`, or else units "
                f"would be linear that nothing has pressed. Received: end_epoch={self.end_epoch} "
                f"and start_epoch={self.start_epoch}"
            )
        self.exact_target = exact_target
        self._is_training = False
        self._watch = FreezingWatch()

    def on_train_begin(self, logs=None):
        self._is_training = True
        self._regularizers = {}
        self._reached = False
        self._exact = None
        # `stop_when`, if it counts for an exact target.
        self._count = None
        self._epoch = -1
        # Numbers of batches: all, those up to the last look at the model, those up to the next one.
        self._batches, self._looked, self._wait = 0, 0, 0
        release(self.model)
        self._watch.start(self.model)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._omega = 0.0
        self._first = self._batches
        self._press()

    # Not at the end of a batch: that would keep Keras from running callbacks beside the next one.
    def on_train_batch_begin(self, batch, logs=None):
        self._batches = self._first + batch
        if not self._regularizers and batch > 0:
            # With TensorFlow, weights may appear only while the first batch runs.
            self._press(must_find=True)
        elif self._omega > 0 and not self._reached:
            if self._batches - self._looked >= self._wait:
                self._reached = self._look()
                if self._reached:
                    self._set_strength(0.0)
        else:
            self._pin()

    def on_test_begin(self, logs=None):
        # The validation at the end of an epoch sees what the epoch ends with.
        if self._is_training:
            self._settle()

    def on_epoch_end(self, epoch, logs=None):
        self._batches += 1
        if not self._regularizers:
            self._press(must_find=True)
        self._settle()
        self._watch.look(self.model)
        if logs is not None:
            logs["omega"] = self._omega

    def on_train_end(self, logs=None):
        self._settle(last=True)
        release(self.model)
        self._is_training = False

    def _press(self, must_find=False):
        """Sets the strength of this epoch, if the regularizers are there."""
        model = self.model
        if not self._regularizers:
            self._regularizers = _find_regularizers(model, self.weights, must_find)
            if not self._regularizers:
                return
            if self.exact_target:
                pressed = {
                    id(variable)
                    for variable in model.trainable_variables
                    if self._regularizers.get(variable.regularizer)
                }
                self._count = self._counting()
                of_model = self._count is not None
                self._exact = ExactTarget(model, pressed, self._excess, of_model)
        self._reached = self._reached or self._look()
        if not self._reached and self.end_epoch is not None and self._epoch >= self.end_epoch:
            self._end()
        elif not self._reached:
            steps = self._epoch - self.start_epoch + 1
            self._omega = self.strength * min(max(steps / (self.ramp_epochs + 1), 0.0), 1.0)
        self._set_strength(self._omega)

    def _set_strength(self, omega):
        for regularizer, weight in self._regularizers.items():
            regularizer.strength = omega * weight

    def _look(self):
        """Whether a target is reached. Decides when to look again, too."""
        elapsed, self._looked = max(self._batches - self._looked, 1), self._batches
        if self._exact is None:
            self._wait = self.check_every
            if self._has_target():
                graph = PathGraph.of(self.model)
                if self._excess(graph, graph.activations()) <= 0:
                    return True
        else:
            left = self._exact.look(self.model, elapsed)
            if left == 0:
                return True
            if self._omega == 0:
                self._wait = 1
            elif left < 1:
                self._end()
            else:
                # What moves has to be seen moving first.
                self._wait = int(min(2 * self._wait, self.check_every, left))
        if self._reached or self.stop_when is None or self._count is not None:
            return self._reached
        return bool(self.stop_when(self.model))

    def _has_target(self):
        return self.target_path_length is not None or self.target_nonlinear_units is not None

    def _counting(self):
        """`stop_when` if it returns by how much a model is above the target, or `None`."""
        if self.stop_when is None:
            return None
        value = self.stop_when(self.model)
        if not isinstance(value, (bool, np.bool_)):
            return self.stop_when
        if not self._has_target():
            raise ValueError(
                "`stop_when` must return by how much the model is above the target, a number, if "
                f"`exact_target` is True. Received: {value!r} for model '{self.model.name}'"
            )
        return None

    def _excess(self, graph, activations):
        """By how much a model is above the target that is nearest to being met."""
        above = []
        if self.target_path_length is not None:
            above.append(graph.path_length(True, activations) - self.target_path_length)
        if self.target_nonlinear_units is not None:
            units = np.concatenate([each.nonlinear for each in activations])
            above.append(float(units.mean()) - self.target_nonlinear_units)
        if self._count is not None:
            above.append(float(self._count(self.model)))
        return min(above)

    def _settle(self, last=False):
        """Has units be linear, or not, as an exact target wants it at the end of an epoch."""
        # A loop of a user's own may not tell how many epochs it has.
        last = last or self._epoch + 1 == (self.params or {}).get("epochs")
        if last and self.end_epoch is None and self._epoch >= self.start_epoch:
            self._end()
        self._pin()

    def _end(self):
        """Ends the pressure before an exact target is met: makes units linear that are missing."""
        if self._exact is not None and not self._reached:
            self._exact.meet(self.model)
            self._reached = True
            self._set_strength(0.0)

    def _pin(self):
        if self._reached and self._exact is not None and self._exact.needs_pins:
            self._exact.pin(self.model)


def _find_regularizers(model, weights, must_find):
    """Every `NonlinearitySparsity` of the model, with its weight."""
    pressed: dict[NonlinearitySparsity, list[keras.Variable]] = {}
    for variable in model.trainable_variables:
        if isinstance(variable.regularizer, NonlinearitySparsity):
            pressed.setdefault(variable.regularizer, []).append(variable)
    if must_find and not pressed:
        raise ValueError(
            "`LinearizationSchedule` needs a model with nonlinear units that can be pressed. "
            f"Received: model '{model.name}', which has no trainable weight with a "
            "`NonlinearitySparsity`. Give its activation layers "
            "`alpha_regularizer=NonlinearitySparsity(0.0)`."
        )
    for variables in pressed.values():
        if not any(variable.name == "alpha" for variable in variables):
            raise ValueError(
                "`NonlinearitySparsity` presses on the slopes `alpha` of activations. Received: "
                f"model '{model.name}', where one is the regularizer of "
                f"{', '.join(variable.path for variable in variables)}. Move it to the "
                "`alpha_regularizer` of `SparsePReLU` or `keras.layers.PReLU` layers."
            )
    return _weighted(model, pressed, weights)


def _weighted(model, regularizers, weights):
    """The weights of regularizers, by what the layers have that they press."""
    if not weights or not regularizers:
        return dict.fromkeys(regularizers, 1.0)
    layers = pressable(model)
    by_key = {**layers, **{id(layer): layer for layer in layers.values()}}
    by_layer = {}
    for key, weight in weights.items():
        layer = by_key.get(key if isinstance(key, str) else id(key))
        if layer is None or id(layer) in by_layer:
            raise ValueError(
                "`weights` must name layers that are pressed, or be by these layers, each once: "
                f"{', '.join(map(repr, layers))} in model '{model.name}'. Received: {key!r}"
            )
        by_layer[id(layer)] = weight
    found = {}
    for regularizer in regularizers:
        mine = {name: x for name, x in layers.items() if x.alpha_regularizer is regularizer}
        given = {by_layer.get(id(layer), 1.0) for layer in mine.values()} or {1.0}
        if len(given) > 1:
            raise ValueError(
                "`weights` must be the same for layers that share a regularizer. Received: "
                f"{sorted(given)} for {', '.join(map(repr, mine))}. Give each its own "
                "`NonlinearitySparsity(0.0)`."
            )
        (found[regularizer],) = given
    return found


def _weights(weights):
    if weights is None:
        return None
    if not isinstance(weights, Mapping) or not all(
        isinstance(key, (str, keras.Layer)) for key in weights
    ):
        raise ValueError(
            "`weights` must be `None` or a dict from names of layers, or layers, to numbers. "
            f"Received: weights={weights!r}"
        )
    return {key: _number(f"weights[{key!r}]", value, math.inf) for key, value in weights.items()}


def _number(name, value, most):
    wanted = "a finite number of at least 0" if most == math.inf else f"a number in [0, {most}]"
    return number(name, value, wanted, lambda given: 0 <= given <= most)
