import math
from collections.abc import Callable, Mapping

import keras

from keras_nladv._common.arguments import integer, number
from keras_nladv.graph import nonlinearity_report, path_length
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
    linear afterwards: the optimizer's momentum carries slopes on. Strengths that regularizers were
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
            it returns true. Of several targets, the first to be reached counts.
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

    Raises:
        ValueError: If an argument is out of range; when training begins, if the model has no
            `NonlinearitySparsity`, or has one on weights that are not slopes, if `weights` names a
            layer that is not pressed, or if layers of different weights share a regularizer.

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
        stop_when: Callable[[keras.Model], bool] | None = None,
        end_epoch: int | None = None,
        check_every: int = 10,
        weights: Mapping[str | keras.Layer, float] | None = None,
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
        self._watch = FreezingWatch()

    def on_train_begin(self, logs=None):
        self._regularizers = {}
        self._reached = False
        self._watch.start(self.model)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._omega = 0.0
        self._checked = 0
        self._press()

    # Not at the end of a batch: that would keep Keras from running callbacks beside the next one.
    def on_train_batch_begin(self, batch, logs=None):
        if not self._regularizers and batch > 0:
            # With TensorFlow, weights may appear only while the first batch runs.
            self._press(must_find=True)
        elif self._omega > 0 and not self._reached and batch - self._checked >= self.check_every:
            self._checked = batch
            self._reached = self._at_target(self.model)
            if self._reached:
                self._set_strength(0.0)

    def on_epoch_end(self, epoch, logs=None):
        if not self._regularizers:
            self._press(must_find=True)
        self._watch.look(self.model)
        if logs is not None:
            logs["omega"] = self._omega

    def _press(self, must_find=False):
        """Sets the strength of this epoch, if the regularizers are there."""
        model = self.model
        self._regularizers = self._regularizers or _find_regularizers(
            model, self.weights, must_find
        )
        if not self._regularizers:
            return
        self._reached = self._reached or self._at_target(model)
        ended = self.end_epoch is not None and self._epoch >= self.end_epoch
        if not self._reached and not ended:
            steps = self._epoch - self.start_epoch + 1
            self._omega = self.strength * min(max(steps / (self.ramp_epochs + 1), 0.0), 1.0)
        self._set_strength(self._omega)

    def _set_strength(self, omega):
        for regularizer, weight in self._regularizers.items():
            regularizer.strength = omega * weight

    def _at_target(self, model):
        if self.target_path_length is not None and path_length(model) <= self.target_path_length:
            return True
        if self.target_nonlinear_units is not None:
            units = nonlinearity_report(model).nonlinear_units
            if units <= self.target_nonlinear_units:
                return True
        return self.stop_when is not None and bool(self.stop_when(model))


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
