import inspect

import keras
from keras import ops

from keras_nladv._common.arguments import flag, integer
from keras_nladv._keras import private
from keras_nladv.tangent import optimizer_reset
from keras_nladv.tangent.feature_updates import FeatureUpdates
from keras_nladv.tangent.linearized_model import LinearizedModel


@keras.saving.register_keras_serializable(package="keras_nladv")
class IterativeLinearization(LinearizedModel):
    r"""A model that is linear in its weights, and is linearized anew every few steps.

    With $f(x; \theta)$ the wrapped model and $J$ the derivative of its outputs with respect to the
    weights, training is on

    $$f_{\mathrm{lin}}(x; \theta) = f(x; s) + J(x; s)\,(\theta - s)$$

    for `period` steps, with a constant point $s$; then $s$ becomes $\theta$, and so on. The first
    point is what $\theta$ is when training begins. Each new point is an update of the features,
    which are the columns of $J$. With `period=1` this is ordinary training, with `period=None` it
    is the training of a `LinearizedModel`, which never learns features. Optimizers keep their state
    over a new point.

    A step is a batch that the model is trained on. Where the point is due to move, outputs are
    those of the ordinary model: with a period of 1 those in `evaluate` and `predict` always are.

    `fit` adds `feature_updates` to the logs of each epoch: how often the point has moved. All
    callbacks see it. Nothing is traced or compiled again when it moves.

    Else, and in what is frozen, it is as `LinearizedModel`. `model`, with the weights $\theta$, is
    what remains after training.

    Args:
        model: A built Keras model with one output tensor.
        period: Integer of at least 1, the number of steps between two points, or `None`: the point
            stays.
        jacobian_only: Boolean. Whether only the Jacobian is that of the point: outputs are
            $f(x; \theta)$ and a loss $L$ has the gradient $J(x; s)^\top L'(f(x; \theta))$. The
            features that training moves along are constant for a period, but what it moves is the
            ordinary model.
        reset_optimizer: Boolean. Whether the optimizer forgets its state, momentum for example,
            when the point moves. Learning rates stay; a `LearningRateSchedule`, which counts the
            optimizer's steps, has to be replaced by `keras.callbacks.LearningRateScheduler`.
        name: String, the name of the model. Defaults to one that is made from its class.

    Input shape:
        That of `model`.

    Output shape:
        That of `model`.

    Raises:
        ValueError: If an argument is out of range, and as `LinearizedModel`; when training begins,
            if the optimizer is to be reset and cannot be.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, "exponential")])
    >>> iterative = tangent.IterativeLinearization(model, period=5)
    >>> iterative.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    >>> history = iterative.fit(
    ...     np.ones((48, 2)), np.ones((48, 1)), batch_size=4, epochs=2, verbose=0
    ... )
    >>> history.history["feature_updates"]
    [2, 4]

    Source: *Understanding Sparse Feature Updates in Deep Networks using Iterative Linearisation*,
    arXiv 2211.12345.
    """

    def __init__(
        self,
        model: keras.Model,
        period: int | None,
        jacobian_only: bool = False,
        reset_optimizer: bool = False,
        name: str | None = None,
    ):
        super().__init__(model, name=name)
        self.period = None if period is None else integer("period", period, least=1)
        self.jacobian_only = flag("jacobian_only", jacobian_only)
        self.reset_optimizer = flag("reset_optimizer", reset_optimizer)
        self._steps, self._linearizations = (
            self.add_weight(
                name=name,
                shape=(),
                dtype="int32",
                initializer="zeros",
                trainable=False,
                aggregation="only_first_replica",
            )
            for name in ("steps", "linearizations")
        )

    @property
    def feature_updates(self):
        """Integer, how often the point has moved since training began."""
        due = ops.cast(self._is_due(), "int32")
        return int(ops.convert_to_numpy(ops.add(self._linearizations, due))) - 1

    @property
    def steps_left(self):
        """Integer, the number of steps before the point moves, or `None`."""
        if self.period is None:
            return None
        return int(ops.convert_to_numpy(ops.subtract(self.period, self._steps)))

    def _is_due(self):
        due = ops.equal(self._linearizations, 0)
        if self.period is not None:
            due = ops.logical_or(due, ops.greater_equal(self._steps, self.period))
        return due

    def relinearize(self):
        """Moves the point to the weights now, and counts it as an update of the features."""
        super().relinearize()
        self._steps.assign(0)
        self._linearizations.assign_add(1)
        if self.reset_optimizer and self.optimizer is not None:
            optimizer_reset.reset(self)

    def _point_of(self, weights, training):
        due = self._is_due()
        point = [
            ops.stop_gradient(ops.where(due, weight, value))
            for weight, value in zip(weights, super()._point_of(weights, training), strict=True)
        ]
        if training:
            for variable, value in zip(self._point, point, strict=True):
                variable.assign(value)
            self._steps.assign(ops.where(due, 0, self._steps.value) + 1)
            self._linearizations.assign_add(ops.cast(due, "int32"))
        return point

    def _outputs(self, inputs, weights, point, training):
        if not self.jacobian_only:
            return super()._outputs(inputs, weights, point, training)
        constant = [ops.stop_gradient(weight) for weight in weights]
        outputs = self._run(constant, inputs)
        if not training:
            return outputs
        # Values of the point, with the gradient of the weights.
        values = [
            value + (weight - same)
            for value, weight, same in zip(point, weights, constant, strict=True)
        ]
        tied = self._run(values, inputs)
        return private.with_mask(
            ops.stop_gradient(outputs) + (tied - ops.stop_gradient(tied)), private.mask_of(outputs)
        )

    def fit(self, *args, **kwargs):
        call = inspect.signature(super().fit).bind(*args, **kwargs)
        callbacks = call.arguments.get("callbacks") or []
        # Others are to see its logs, and so it stands first.
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.callbacks.insert(0, FeatureUpdates())
            callbacks.set_model(self)
        else:
            call.arguments["callbacks"] = [FeatureUpdates(), *keras.tree.flatten(callbacks)]
        return super().fit(*call.args, **call.kwargs)

    def train_on_batch(self, *args, **kwargs):
        if self.reset_optimizer:
            optimizer_reset.require_resettable(self)
            if self.steps_left == 0:
                optimizer_reset.reset(self)
        return super().train_on_batch(*args, **kwargs)

    def get_config(self):
        return {
            **super().get_config(),
            "period": self.period,
            "jacobian_only": self.jacobian_only,
            "reset_optimizer": self.reset_optimizer,
        }
