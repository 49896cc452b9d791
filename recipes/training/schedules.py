"""What changes from epoch to epoch."""

import math

import keras
import numpy as np

from keras_nladv import LinearizationSchedule
from running import workers
from running.errors import RecipeError


def linearization(config, before):
    """The `LinearizationSchedule` of a configuration.

    Args:
        config: A `LinearizationConfig` that is complete.
        before: The `Nonlinearity` of the network before it is trained.

    Raises:
        RecipeError: If a target that is to be met exactly is above what the network has.
    """
    exact = config.reach_within is not None
    target = config.target_path_length
    if exact and target is not None and target > before.path_length:
        raise RecipeError(
            f"--target-path-length must be at most {before.path_length:.6g}, that of the network, "
            f"to be met exactly. Received: {target}"
        )
    end = config.start_epoch + (config.reach_within or 0)
    return LinearizationSchedule(
        config.strength,
        start_epoch=config.start_epoch,
        ramp_epochs=config.ramp_epochs,
        target_path_length=config.target_path_length,
        target_nonlinear_units=config.target_nonlinear_units,
        # Without an end it is met where training ends.
        end_epoch=end if exact and end < config.epochs else None,
        exact_target=exact,
    )


def seeded_epochs(model, seed):
    """A callback that lets the seed and the epoch decide what dropout draws.

    Weights files do not hold the state of random generators: without this, a run that is resumed
    would draw what the first epoch drew.
    """
    states = [variable for variable in model.variables if "seed_generator" in variable.path]

    def start(epoch, logs=None):
        # Each process has a share of its own of what would be drawn.
        rng = np.random.default_rng([seed, epoch] + [workers.rank()] * (workers.rank() > 0))
        # On torch, dropout draws from the global generator.
        keras.utils.set_random_seed(int(rng.integers(2**31)))
        for state in states:
            state.assign(rng.integers(2**31, size=2))

    return keras.callbacks.LambdaCallback(on_epoch_begin=start)


def phases(config):
    """The learning rate of each epoch: a cosine for each phase, so that each ends with a network
    that has settled, or one.

    Args:
        config: A `LinearizationConfig` that is complete, with a `learning_rate`.
    """

    def learning_rate(epoch, _):
        first, end = 0, config.start_epoch
        if config.schedule == "one":
            end = config.epochs
        elif epoch >= config.start_epoch:
            first, end = config.start_epoch, config.epochs
        return config.learning_rate * cosine((epoch - first) / (end - first))

    return learning_rate


def cosine(progress):
    """A factor that falls from 1 to 0 while progress goes from 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))
