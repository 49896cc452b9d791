import keras
from keras import ops

from keras_nladv._keras import private
from keras_nladv.tangent import differentiation
from keras_nladv.tangent.stateless import Stateless


@keras.saving.register_keras_serializable(package="keras_nladv")
class LinearizedModel(keras.Model):
    r"""A model that is linear in its weights, the tangent of another model at a point.

    With $f(x; \theta)$ the wrapped model, $s$ the point and $J(x; s)$ the derivative of its outputs
    with respect to the weights, it computes

    $$f_{\mathrm{lin}}(x; \theta) = f(x; s) + J(x; s)\,(\theta - s)$$

    $s$ is what the weights were when the model was wrapped. What training moves is $\theta$, the
    weights of `model` itself: afterwards `model` is the ordinary model with the weights $\theta$,
    which is another function, $f(x; \theta)$.

    It is a Keras model like others, for any loss, optimizer and metric, that is saved and loaded
    like others. A step computes one product of the Jacobian with a vector; the Jacobian itself is
    never held.

    **It runs as in `predict`,** in training too: dropout is off, and normalization uses the moving
    statistics, which stay what they are. Layers that were not trainable when the model was wrapped
    are constant.

    Args:
        model: A built Keras model with one output tensor.
        name: String, the name of the model. Defaults to one that is made from its class.

    Input shape:
        That of `model`.

    Output shape:
        That of `model`.

    Raises:
        ValueError: If `model` is not built or has nothing to train; when it is called, if it puts
            out something else than one tensor of floats, draws random numbers, keeps statistics or
            adds losses while it runs, or if it wants floats and gets integers.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, "exponential")])
    >>> linearized = tangent.LinearizedModel(model)
    >>> linearized.compile("sgd", "mse")
    >>> history = linearized.fit(np.ones((16, 2)), np.ones((16, 1)), verbose=0)
    >>> linearized.predict(np.ones((3, 2)), verbose=0).shape
    (3, 1)

    Source: Lee et al., *Wide Neural Networks of Any Depth Evolve as Linear Models Under Gradient
    Descent*, arXiv 1902.06720.
    """

    def __init__(self, model, name=None):
        stateless = Stateless.of(model)
        # The layers of the model cast; its policy is that of losses, which optimizers may scale.
        super().__init__(name=name, dtype=model.dtype_policy, autocast=False)
        self.supports_masking = True
        self.model = model
        self._stateless = stateless
        self._point = [
            self.add_weight(
                name=f"point_{variable.path.replace('/', '_')}",
                shape=variable.shape,
                dtype=variable.dtype,
                initializer="zeros",
                trainable=False,
                aggregation="only_first_replica",
            )
            for variable in stateless.variables
        ]
        self.built = True
        # Not that of a subclass, which may count.
        LinearizedModel.relinearize(self)

    def relinearize(self):
        """Moves the point to the weights as they are now. Outputs become those of `model`."""
        for point, variable in zip(self._point, self._stateless.variables, strict=True):
            # A copy: JAX trains in the memory of the arrays that it is given.
            point.assign(ops.copy(variable.value))

    def call(self, inputs, training=None):
        self._check(inputs)
        with private.without_autocast():
            weights = [variable.value for variable in self._stateless.variables]
            return self._outputs(inputs, weights, self._point_of(weights, training), training)

    def _point_of(self, weights, training):
        """The point of this call, as tensors."""
        return [variable.value for variable in self._point]

    def _outputs(self, inputs, weights, point, training):
        masks = []

        def function(values):
            outputs = self._run(values, inputs)
            masks.append(private.mask_of(outputs))
            return outputs

        direction = [weight - value for weight, value in zip(weights, point, strict=True)]
        outputs, change = differentiation.jvp(function, point, direction)
        return private.with_mask(outputs + change, masks[-1])

    def _run(self, values, inputs):
        """Outputs of the model with other weights."""
        scopes = []

        def collecting(pairs):
            scopes.append(keras.StatelessScope(pairs, collect_losses=True))
            return scopes[-1]

        outputs = self._stateless.run(values, self._stateless.state, inputs, collecting)
        if scopes[-1].losses:
            raise ValueError(
                f"Model '{self.model.name}' adds losses while it runs, by `add_loss` or an "
                "`activity_regularizer`, which are not linearized. Make a model of its layers that "
                "does not; regularizers of weights can stay."
            )
        return outputs

    def _check(self, inputs):
        """Raises an error for what would go wrong without one."""
        known = set(map(id, self._stateless.variables))
        for variable in self.model.trainable_variables:
            if id(variable) not in known:
                raise ValueError(
                    f"Variable '{variable.path}' was not trainable when model '{self.model.name}' "
                    f"was linearized. Make layers trainable first, then linearize it."
                )
        self._stateless.require_floats(inputs, "inputs")

    def compute_output_shape(self, input_shape):
        return self.model.compute_output_shape(input_shape)

    def compute_output_spec(self, inputs, training=None):
        return self.model.compute_output_spec(inputs, training=False)

    def compute_mask(self, inputs, previous_mask):
        # `call` has set the mask, if there is one.
        return None

    def get_config(self):
        return {"name": self.name, "model": keras.saving.serialize_keras_object(self.model)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        model = keras.saving.deserialize_keras_object(config["model"], custom_objects)
        return cls(**{**config, "model": model})
