def require_resettable(model):
    """Checks that `reset` can do what it says for the optimizer of a compiled model.

    Raises:
        ValueError: If it cannot.
    """
    config = _inner(model.optimizer).get_config()
    if not isinstance(config["learning_rate"], float):
        raise ValueError(
            "`reset_optimizer=True` makes the optimizer count its steps anew, which would start "
            "its learning rate schedule again. Give the optimizer a number and `fit` the callback "
            f"`keras.callbacks.LearningRateScheduler`. Received: learning_rate="
            f"{config['learning_rate']!r}"
        )
    if model.steps_per_execution != 1:
        raise ValueError(
            "`reset_optimizer=True` needs to come between two steps. Compile with "
            f"`steps_per_execution=1`. Received: steps_per_execution={model.steps_per_execution}"
        )


def reset(model):
    """Makes a model's optimizer what it was before its first step; its learning rate stays."""
    optimizer = _inner(model.optimizer)
    if optimizer.built:
        fresh = type(optimizer).from_config(optimizer.get_config())
        fresh.build(model.trainable_variables)
        for variable, first in zip(optimizer.variables, fresh.variables, strict=True):
            variable.assign(first)


def _inner(optimizer):
    """The optimizer that one for mixed precision may wrap, whose scale of the loss stays."""
    return getattr(optimizer, "inner_optimizer", optimizer)
