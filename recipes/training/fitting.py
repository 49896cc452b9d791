"""How the networks of the recipes are trained."""

import math

import keras
import numpy as np

from keras_nladv import LinearizationSchedule
from running.errors import RecipeError


def compile_classifier(model, optimizer="sgd", from_logits=True):
    """Compiles a model that is to be trained on images and their classes.

    Args:
        model: A Keras model.
        optimizer: `"sgd"` (Nesterov momentum 0.9 and weight decay 5e-4), `"adam"` or `"adamw"`
            (weight decay 0.05).
        from_logits: Whether the model returns logits, or else probabilities.
    """
    if optimizer == "sgd":
        # Attention throws SGD off at the rates that other layers like, unless steps are limited.
        attends = any(isinstance(x, keras.layers.MultiHeadAttention) for x in model.layers)
        optimizer = keras.optimizers.SGD(
            momentum=0.9, nesterov=True, weight_decay=5e-4, clipnorm=1.0 if attends else None
        )
    elif optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(weight_decay=0.05)
    else:
        optimizer = keras.optimizers.Adam()
    # Kernels alone decay: not biases and BatchNorm, as usual, and not the weights of SparsePReLU,
    # whose slopes decay would pull back to ReLU.
    optimizer.exclude_from_weight_decay(
        [v for v in model.trainable_variables if v.name != "kernel"]
    )
    # On processors, XLA's convolutions take longer than TensorFlow's own: see
    # benchmarks/recipe_speed.py.
    slower = keras.backend.backend() == "tensorflow" and not keras.distribution.list_devices("gpu")
    model.compile(
        jit_compile=False if slower else "auto",
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits),
        metrics=[
            "accuracy",
            # The loss without the pressure.
            keras.metrics.SparseCategoricalCrossentropy(
                from_logits=from_logits, name="cross_entropy"
            ),
        ],
    )


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
        rng = np.random.default_rng([seed, epoch])
        # On torch, dropout draws from the global generator.
        keras.utils.set_random_seed(int(rng.integers(2**31)))
        for state in states:
            state.assign(rng.integers(2**31, size=2))

    return keras.callbacks.LambdaCallback(on_epoch_begin=start)


def cosine(progress):
    """A factor that falls from 1 to 0 while progress goes from 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def even_batch_size(number, devices=1):
    """Batches of one size, if possible, of at most 512: JAX compiles for each size.

    On several devices, whose number divides that of examples, it divides the size, too.
    """
    if devices == 1:
        return math.ceil(number / math.ceil(number / 512))
    share = number // devices
    return devices * max(d for d in range(1, max(512 // devices, 1) + 1) if share % d == 0)


def standardization(images):
    """Mean and variance of the channels of images, as arguments of `convnet`."""
    sample = images[:: len(images) // 10_000 + 1].astype("float64")
    return {"mean": sample.mean(axis=(0, 1, 2)), "variance": sample.var(axis=(0, 1, 2))}
