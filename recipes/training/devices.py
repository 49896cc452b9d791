"""Several devices for one run."""

import contextlib
from collections.abc import Iterator

from options.devices import require_devices
from running import workers

# The scope of TensorFlow that a run is in, up to its end.
_scope = contextlib.ExitStack()


def spread(devices: int) -> None:
    """Lets all that is made from now on be on so many devices.

    Raises:
        RecipeError: If there are fewer.
    """
    import keras

    if devices == 1:
        return
    backend = keras.backend.backend()
    if backend == "torch":
        from training import torch_processes

        torch_processes.join(devices)
        return
    if backend == "jax":
        found = keras.distribution.list_devices()
    else:
        import tensorflow as tf

        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        found = [each.name for each in tf.config.list_logical_devices(kind)]
    require_devices(devices, len(found), backend, ", ".join(found))
    chosen = found[:devices]
    if backend == "jax":
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(devices=chosen, auto_shard_dataset=False)
        )
    else:
        _scope.enter_context(tf.distribute.MirroredStrategy(chosen).scope())


def share(data, devices: int):
    """What this process trains or tests on: all of it, or its share if each device has a process.

    Args:
        data: A `PyDataset`, or arrays.
        devices: Number of devices.
    """
    import keras

    if devices == 1 or keras.backend.backend() != "torch":
        return data
    from training.share import Share

    if isinstance(data, keras.utils.PyDataset):
        return Share(data, workers.rank(), devices)
    return keras.tree.map_structure(lambda array: array[workers.rank() :: devices], data)


def by_first(*callbacks):
    """The callbacks where one process looks at what is the same for all, and writes; else none."""
    return [] if workers.rank() else callbacks


@contextlib.contextmanager
def together(model, devices: int) -> Iterator[None]:
    """Lets `fit` come to the same on several devices as on one.

    Batch normalization takes its statistics over all of them, which it does by itself on JAX.
    Where each device has a process, there is only the first afterwards.

    Args:
        model: A compiled model.
        devices: Number of devices.
    """
    import keras

    backend = keras.backend.backend()
    if devices > 1 and backend == "torch":
        from training import torch_processes

        with torch_processes.together(model):
            yield
        return
    if devices > 1 and backend == "tensorflow":
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True
    yield


def part(amount):
    """What share of an amount that is spread over devices is here, times their number.

    The mean of losses of all devices, each times this, is the loss of a whole batch.

    Args:
        amount: Scalar tensor, the sum of weights that is here.
    """
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        replica = tf.distribute.get_replica_context()
        if replica and replica.num_replicas_in_sync > 1:
            return amount * replica.num_replicas_in_sync / replica.all_reduce("SUM", amount)
    elif backend == "torch" and not workers.alone():
        from training import torch_processes

        return torch_processes.part(amount)
    # Arrays of JAX are those of all devices.
    return 1.0
