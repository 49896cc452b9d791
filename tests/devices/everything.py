"""What has to come out alike on one device and on several, in a process of its own.

On JAX these are two distributions on four devices, on TensorFlow one on two, and on torch two
processes.
"""

import os

BACKEND = os.environ["KERAS_BACKEND"]
if BACKEND == "jax":
    flag = "--xla_force_host_platform_device_count=4"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
elif BACKEND == "tensorflow":
    import tensorflow as tf

    (CPU,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras
import numpy as np
from keras import ops

from keras_nladv import (
    LinearizationSchedule,
    NonlinearitySparsity,
    PathLengthCallback,
    SparsePReLU,
    collapse,
    path_length,
    prune,
    sparsify,
    tangent,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 8)).astype("float32")
Y = np.tanh(X @ RNG.normal(size=(8, 4))).astype("float32")
BATCH = 16


def fit(model, epochs, callbacks=()):
    model.fit(
        X, Y, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0, callbacks=[*callbacks]
    )


def weights(model):
    return np.concatenate([ops.convert_to_numpy(each).ravel() for each in model.weights])


def everything(train):
    """Runs all of it.

    Args:
        train: Function of a compiled model, a number of epochs and callbacks.

    Returns:
        Tuple of two dicts of arrays: those that are equal to rounding, and those that are equal.
    """
    keras.utils.set_random_seed(0)
    near, same = {}, {}

    def dense():
        return keras.Sequential(
            [
                keras.Input((8,)),
                keras.layers.Dense(12, "relu", name="first"),
                keras.layers.Dense(8, "gelu", name="second"),
                keras.layers.Dense(4, name="last"),
            ]
        )

    def compiled(model):
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
        return model

    # Pressed until some slopes are frozen, and on.
    start = dense()
    start.get_layer("first").kernel.assign(start.get_layer("first").kernel * 0.9)
    pressed = compiled(
        sparsify(start, alpha_regularizer=NonlinearitySparsity(0.0), linear_threshold=0.05)
    )
    slopes = [each for each in pressed.layers if hasattr(each, "alpha")]
    for layer in slopes:
        layer.alpha.assign(np.linspace(0, 0.97, layer.alpha.shape[0]))
    schedule = LinearizationSchedule(0.05, start_epoch=1, ramp_epochs=1, check_every=2)
    train(pressed, 5, [schedule, PathLengthCallback()])
    near["pressed"] = weights(pressed)
    near["logs"] = [path_length(pressed), path_length(pressed, normalized=False)]
    same["frozen"] = np.concatenate([layer.slopes == 1 for layer in slopes])
    assert 3 <= same["frozen"].sum() < len(same["frozen"])
    same["nonlinear"] = np.concatenate([layer.nonlinear for layer in slopes])
    np.testing.assert_array_equal(same["nonlinear"], ~same["frozen"])
    one = SparsePReLU(granularity="layer", alpha_initializer="ones", name="one")
    one.build((None, 3))
    same["one"] = [one.slopes, one.nonlinear]
    near["pressed outputs"] = ops.convert_to_numpy(pressed(X))
    near["collapsed"] = ops.convert_to_numpy(collapse(pressed, cost="macs")(X))
    np.testing.assert_allclose(near["collapsed"], near["pressed outputs"], atol=1e-5)

    pruned = compiled(prune(dense(), 0.25))
    train(pruned, 2, [PathLengthCallback(weights=True)])
    near["pruned"] = weights(pruned)
    kernels = [each.kernel for each in pruned.layers]
    same["zeros"] = np.concatenate([ops.convert_to_numpy(each).ravel() == 0 for each in kernels])
    assert same["zeros"].sum() == 0.75 * len(same["zeros"])

    model = dense()
    near["kernel"] = tangent.empirical_ntk(model, X[:6], X[6:10])

    linearized = compiled(tangent.LinearizedModel(model))
    train(linearized, 2)
    near["linearized"] = weights(linearized)

    iterative = compiled(tangent.IterativeLinearization(dense(), period=3))
    train(iterative, 2)
    near["iterative"] = weights(iterative)
    same["updates"] = iterative.feature_updates

    # Whoever wants these writes no loop.
    network = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6, "relu")])
    network.add(keras.layers.BatchNormalization())
    network.add(keras.layers.Dense(4))
    transfer = tangent.NeuralTangentTransfer(network, 0.5, mask_every=2)
    transfer.compile(keras.optimizers.SGD(0.01))  # Adam would not see a gradient twice as large.
    logs = transfer.fit(X, batch_size=BATCH, verbose=0).history
    near["transfer"] = [each[-1] for each in logs.values()]
    near["student"] = weights(transfer.student)
    same["masks"] = np.concatenate([each.ravel() for each in transfer.masks.values()])
    near["distances"] = [*transfer.distances(X[:16]).values()]
    return near, same


def compare(found, expected):
    for name, value in expected[0].items():
        np.testing.assert_allclose(found[0][name], value, rtol=1e-3, atol=1e-4, err_msg=name)
    for name, value in expected[1].items():
        np.testing.assert_array_equal(found[1][name], value, err_msg=name)


def distributions():
    """The distributions of JAX, on the devices that there are."""
    yield keras.distribution.DataParallel()
    mesh = keras.distribution.DeviceMesh((2, 2), ("batch", "model"))
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*kernel"] = (None, "model")
    layout["^(?!one/).*(alpha|side)"] = ("model",)
    yield keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")


def process(rank, port, results):
    """One of two processes of torch, in which gradients are averaged over both."""
    import torch

    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )

    def train(model, epochs, callbacks=()):
        parallel = torch.nn.parallel.DistributedDataParallel(model)
        callbacks = keras.callbacks.CallbackList([*callbacks], model=model)
        half = BATCH // 2
        callbacks.on_train_begin()
        for epoch in range(epochs):
            callbacks.on_epoch_begin(epoch)
            for step, start in enumerate(range(rank * half, len(X), BATCH)):
                callbacks.on_train_batch_begin(step)
                model.zero_grad()
                outputs = parallel(torch.tensor(X[start : start + half]), training=True)
                targets = torch.tensor(Y[start : start + half])
                loss = torch.mean((outputs - targets) ** 2) + sum(model.losses)
                loss.backward()
                variables = model.trainable_variables
                gradients = [each.value.grad for each in variables]
                with torch.no_grad():
                    model.optimizer.apply(gradients, variables)
                callbacks.on_train_batch_end(step)
            callbacks.on_epoch_end(epoch, {})
        callbacks.on_train_end()

    found = everything(train)
    everywhere = [None, None]
    torch.distributed.all_gather_object(everywhere, found)
    if rank == 0:
        # Alike on both, to the last bit.
        for one, other in zip(*everywhere):
            for name in one:
                np.testing.assert_array_equal(one[name], other[name], err_msg=name)
        results.put(found)
    torch.distributed.destroy_process_group()


def main():
    if BACKEND == "torch":
        import socket

        import torch.multiprocessing

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        results = torch.multiprocessing.get_context("fork").SimpleQueue()
        # Nothing has been computed yet, and what is imported need not be imported again.
        running = torch.multiprocessing.start_processes(
            process, (port, results), nprocs=2, join=False, start_method="fork"
        )
        expected = everything(fit)
        while not running.join():
            pass
        compare(results.get(), expected)
        return
    expected = everything(fit)
    if BACKEND == "jax":
        for distribution in distributions():
            keras.distribution.set_distribution(distribution)
            compare(everything(fit), expected)
    else:
        devices = ["CPU:0", "CPU:1"]
        reduction = tf.distribute.ReductionToOneDevice()
        with tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction).scope():
            compare(everything(fit), expected)


if __name__ == "__main__":
    main()
