"""What recipes do alike before networks are trained, and to train them."""

import keras

from data.batches import even_batch_size
from training.devices import share, spread, together


def set_up(config):
    """Sets the seed and the precision of Keras, and the devices of what is made from now on.

    Args:
        config: A `RunConfig`.

    Raises:
        RecipeError: If there are fewer devices.
    """
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    spread(config.devices)


def fit(model, batches, validation=None, devices=1, callbacks=(), **options):
    """Fits a compiled model to batches in their own order, on several devices as on one.

    Args:
        model: The model.
        batches: `SeededBatches`.
        validation: Such batches, or images and their labels.
        devices: Number of devices.
        callbacks: List of callbacks.
        **options: Other arguments of `fit`.

    Returns:
        What `fit` does. On torch, it returns in the first process alone.
    """
    if isinstance(validation, tuple):
        options["validation_batch_size"] = even_batch_size(len(validation[0]), devices)
    with together(model, devices):
        return model.fit(
            share(batches, devices),
            shuffle=False,  # The batches are shuffled.
            validation_data=share(validation, devices),
            verbose=0,
            callbacks=[batches.epochs(), *callbacks],
            **options,
        )
