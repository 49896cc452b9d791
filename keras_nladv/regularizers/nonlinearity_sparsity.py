import keras
import numpy as np
from keras import ops

from keras_nladv._common.arguments import number

PACKAGE = "keras_nladv"
# The strength is computed with in float32.
LARGEST = float(np.finfo("float32").max)


@keras.saving.register_keras_serializable(package=PACKAGE)
class NonlinearitySparsity(keras.layers.Layer, keras.regularizers.Regularizer):
    r"""Presses slopes to 1, where the activation is linear.

    The penalty on slopes $\alpha_c$ is

    $$\omega \sum_c |1 - \alpha_c|^p$$

    with strength $\omega$ and power $p$. It is a sum and not a mean: the pressure on one unit does
    not depend on how many units there are. With $p < 1$ the pressure grows as a slope nears 1, so
    units become exactly linear one by one instead of all of them a little.

    The gradient of the naive power is NaN at $\alpha = 1$; here it is 0 there, and finite
    everywhere, also in half precision (the penalty is computed in float32 at least).

    The strength can be changed between epochs of one `fit` and takes effect without tracing or
    compiling the training step again. For that it has to be a variable that the model knows. This
    is why the regularizer is also a layer: every layer that takes it as an argument,
    `keras.layers.PReLU` included, tracks its strength like the state of any sublayer. It can be
    changed between batches too, by a callback that reaches the regularizer through `self.model`;
    on JAX, Keras would forget any other change within an epoch.

    The strength is configuration and no learned weight: it is saved with the model's configuration
    and left out of weight files. One regularizer can be shared by many layers. When such a model is
    loaded or cloned, each layer has a regularizer of its own, with the strength of that moment.

    Args:
        strength: Finite float, at least 0. The factor $\omega$. With 0 nothing is pressed.
        power: Float in (0, 1]. The exponent $p$. The default is 0.5.

    Raises:
        ValueError: If `strength` or `power` is not finite or out of range.

    Example:

    >>> regularizer = NonlinearitySparsity(strength=0.1)
    >>> round(float(regularizer(np.array([0.0, 0.75, 1.0]))), 4)
    0.15

    Source: *Nonlinear Advantage*, arXiv 2211.17180.
    """

    def __init__(self, strength: float, power: float = 0.5):
        super().__init__(dtype="float32")
        wanted = "a finite number, greater than 0 and at most 1"
        self.power = number("power", power, wanted, lambda given: 0 < given <= 1)
        self._exact_strength = _nonnegative(strength)
        self._strength = self.add_weight(
            name="strength",
            initializer=keras.initializers.Constant(self._exact_strength),
            trainable=False,
            autocast=False,
        )
        self.built = True

    @property
    def strength(self) -> float:
        """The factor of the penalty, a float. It can be assigned to, see above."""
        # Not read from the weight, which has rounded it to float32.
        return self._exact_strength

    @strength.setter
    def strength(self, value: float) -> None:
        self._exact_strength = _nonnegative(value)
        self._strength.assign(self._exact_strength)

    @property
    def weights(self):
        """Empty: the strength is none of the weights of a model that are counted, got and set."""
        return []

    def __call__(self, slopes):
        """Computes the penalty.

        Args:
            slopes: Tensor or variable of any shape, the slopes.

        Returns:
            A scalar tensor in float32, or in float64 if `slopes` is.
        """
        slopes = ops.convert_to_tensor(slopes)
        dtype = (
            "float64" if keras.backend.standardize_dtype(slopes.dtype) == "float64" else "float32"
        )
        distance = ops.abs(1.0 - ops.cast(slopes, dtype))
        # The inner `where` keeps the power's infinite derivative at 0 out of the backward pass: the
        # outer one alone would multiply it by 0 and yield NaN.
        pressed = distance > 0
        penalty = ops.where(pressed, ops.power(ops.where(pressed, distance, 1.0), self.power), 0.0)
        return ops.cast(self._strength, dtype) * ops.sum(penalty)

    def save_own_variables(self, store):
        """Stores nothing: the strength belongs to the configuration."""

    def load_own_variables(self, store):
        """Loads nothing: the strength belongs to the configuration."""

    def get_config(self):
        return {"strength": self.strength, "power": self.power}


def _nonnegative(strength):
    wanted = "a finite number, at least 0, in float32, too"
    return number("strength", strength, wanted, lambda given: 0 <= given <= LARGEST)
