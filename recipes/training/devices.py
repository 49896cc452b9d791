"""Several devices for one run."""

import contextlib

from running.errors import RecipeError

# The scope of TensorFlow that a run is in, up to its end.
_scope = contextlib.ExitStack()


def require_divisible(devices: int, backend: str | None, batch_size: int, test_images: int) -> None:
    """Raises a `RecipeError` if devices cannot share the work.

    Args:
        devices: Number of devices.
        backend: The backend.
        batch_size: That of all devices together.
        test_images: Number of images to test on.
    """
    if devices == 1:
        return
    if backend == "torch":
        raise RecipeError(
            "--devices needs the backend jax or tensorflow: in processes of torch, Keras' batch "
            f"normalization has statistics of its own in each. Received: --devices {devices} with "
            "--backend torch"
        )
    if batch_size % devices:
        raise RecipeError(
            "--batch-size, that of all devices together, must be a multiple of --devices. "
            f"Received: --batch-size {batch_size} with --devices {devices}"
        )
    if test_images % devices:
        raise RecipeError(
            f"--devices must divide {test_images}, the number of images to test on. Received: "
            f"{devices}"
        )


def spread(devices: int) -> None:
    """Lets all that is made from now on be on so many devices.

    Raises:
        RecipeError: If there are fewer.
    """
    import keras

    if devices == 1:
        return
    if keras.backend.backend() == "jax":
        found = keras.distribution.list_devices()
    else:
        import tensorflow as tf

        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        found = [each.name for each in tf.config.list_logical_devices(kind)]
    if len(found) < devices:
        raise RecipeError(
            f"--devices must be at most {len(found)}, the number of devices that "
            f"{keras.backend.backend()} finds here ({', '.join(found)}). Received: {devices}"
        )
    chosen = found[:devices]
    if keras.backend.backend() == "jax":
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(devices=chosen, auto_shard_dataset=False)
        )
    else:
        _scope.enter_context(tf.distribute.MirroredStrategy(chosen).scope())


def synchronize(model, devices: int) -> None:
    """Lets batch normalization take its statistics over all devices, as JAX does by itself."""
    import keras

    if devices == 1 or keras.backend.backend() == "jax":
        return
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
