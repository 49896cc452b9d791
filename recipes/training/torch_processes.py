"""Processes of torch that train one model, each on its share of every batch."""

import contextlib
import datetime
import sys
from unittest import mock

import keras
import torch
from keras import ops
from torch import distributed

from running import workers


def join(devices):
    """Lets the processes find each other. Each takes a device.

    Args:
        devices: Number of processes.
    """
    is_first = not workers.rank()
    # On any port that is free.
    port = 0 if is_first else int(workers.told())
    store = distributed.TCPStore("127.0.0.1", port, devices, is_first, wait_for_workers=False)
    if is_first:
        workers.tell(str(store.port))
    if torch.cuda.is_available():
        torch.cuda.set_device(workers.rank())
    else:
        torch.set_num_threads(max(torch.get_num_threads() // devices, 1))
    show = sys.excepthook
    distributed.init_process_group(
        "nccl" if torch.cuda.is_available() else "gloo",
        store=store,
        rank=workers.rank(),
        world_size=devices,
        # They wait for the first, which alone evaluates some things. One that has ended is noticed
        # in another way.
        timeout=datetime.timedelta(days=7),
    )
    # Torch would have each line begin with the rank.
    sys.excepthook = show


def summed(tensor):
    """The sum of a tensor over all processes, without a gradient."""
    total = tensor.detach().clone()
    try:
        distributed.all_reduce(total)
    except RuntimeError as error:
        # Of other errors Keras would tell in which layer they came up.
        said = str(error).split(". ")[0]
        sys.exit(1 if workers.rank() else f"Error: {workers.ENDED} ({said})")
    return total


def part(amount):
    """See `training.devices.part`."""
    # Keras finds out shapes with tensors that hold nothing; and in the end there is one process.
    if amount.device.type == "meta" or not distributed.is_initialized():
        return 1.0
    return amount * distributed.get_world_size() / summed(amount)


@contextlib.contextmanager
def together(model):
    """Lets `fit` take the same steps in all processes as one would on whole batches.

    At the end there is the first process alone.

    Args:
        model: A compiled model.
    """
    with contextlib.ExitStack() as stack:

        def replace(owner, name, made):
            new = made(owner, getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, new))

        replace(model.optimizer, "apply", _averaging)
        replace(model, "get_metrics_result", _over_all)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                replace(layer, "call", _synchronized)
        yield
    distributed.destroy_process_group()
    if workers.rank():
        sys.exit()


def _averaging(_, apply):
    """`optimizer.apply`, of gradients that are the mean of those of all processes."""

    def averaged(grads, trainable_variables=None):
        there = [each for each in grads if each is not None]
        flat = summed(torch.cat([each.reshape(-1) for each in there]))
        flat /= distributed.get_world_size()
        parts = iter(flat.split([each.numel() for each in there]))
        means = [each if each is None else next(parts).view_as(each) for each in grads]
        return apply(means, trainable_variables)

    return averaged


def _over_all(model, result):
    """`model.get_metrics_result`, of the sums that all processes have."""

    def of_all():
        variables = model.metrics_variables
        own = [each.value.detach().clone() for each in variables]
        totals = summed(torch.stack([each.double() for each in own]))
        for variable, total in zip(variables, totals):
            variable.assign(total)
        results = result()
        for variable, value in zip(variables, own):
            variable.assign(value)
        return results

    return of_all


def _synchronized(layer, call):
    """`layer.call` of a batch normalization, whose statistics in training are those of all."""

    def synchronized(inputs, training=None, mask=None):
        if not training or not layer.trainable:
            return call(inputs, training=training, mask=mask)
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        axes = [axis for axis in range(x.ndim) if axis != layer.axis % x.ndim]
        mean = _mean_of_all(ops.mean(x, axes))
        # Of deviations: squares of values would lose digits.
        shape = [-1 if axis == layer.axis % x.ndim else 1 for axis in range(x.ndim)]
        variance = _mean_of_all(ops.mean(ops.square(x - ops.reshape(mean, shape)), axes))
        for moving, now in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            moving.assign(layer.momentum * moving + (1 - layer.momentum) * now.detach())
        outputs = ops.batch_normalization(
            x, mean, variance, layer.axis, layer.beta, layer.gamma, layer.epsilon
        )
        return ops.cast(outputs, layer.compute_dtype)

    return synchronized


def _mean_of_all(tensor):
    return _Sum.apply(tensor) / distributed.get_world_size()


class _Sum(torch.autograd.Function):
    """The sum over all processes, whose gradient is that of the losses of all."""

    @staticmethod
    def forward(_, tensor):
        return summed(tensor)

    @staticmethod
    def backward(_, gradient):
        return summed(gradient)
