import keras

from keras_nladv._keras import private
from keras_nladv.constraints.fixed_mask import FixedMask
from keras_nladv.layers.sparse_prelu import SparsePReLU


def freeze_linear_units(model: keras.Layer) -> None:
    """Freezes the units that a step of an optimizer has made linear.

    Optimizers of Keras do so themselves, by the constraints of the slopes. Those of `torch.optim`
    and optax know no constraints: slopes would run past 1 and never stay there. In a loop that uses
    one, call this after each step. It does for slopes what a Keras optimizer does, their
    `alpha_constraint` included. Weights that a `FixedMask` prunes are set to zero again. Others,
    and layers that are not trained, are left alone.

    Where weights are passed through functions, as in JAX, call it in a `keras.StatelessScope` that
    holds them, under `jax.jit` too.

    Args:
        model: The model, or layer, that is trained.

    Raises:
        ValueError: If `model` is no Keras model or layer.

    Example:

    >>> layer = SparsePReLU(alpha_initializer=keras.initializers.Constant(0.9))
    >>> model = keras.Sequential([keras.Input((3,)), layer])
    >>> freeze_linear_units(model)  # after the first step
    >>> _ = layer.alpha.assign([0.95, 0.995, 1.2])  # what the second step made of them
    >>> freeze_linear_units(model)
    >>> layer.nonlinear.tolist()
    [True, False, False]

    In JAX, with a step by optax::

        values = optax.apply_updates(values, updates)
        with keras.StatelessScope(zip(model.trainable_variables, values)) as scope:
            keras_nladv.freeze_linear_units(model)
        values = [scope.get_current_value(each) for each in model.trainable_variables]
    """
    if not isinstance(model, keras.Layer):
        raise ValueError(
            "`model` must be a Keras model or layer; of one that is wrapped, as by "
            "`DistributedDataParallel`, give what is inside (`model.module`). Received: "
            f"model={model!r}"
        )
    for layer in private.sublayers(model):
        if isinstance(layer, SparsePReLU) and layer.built and layer.alpha.trainable:
            # In the order of optimizers: the second looks at what the first has made.
            for variable in (layer.alpha, layer.side):
                variable.assign(variable.constraint(variable))
    for variable in model.trainable_variables:
        if isinstance(variable.constraint, FixedMask):
            variable.assign(variable.constraint(variable))
