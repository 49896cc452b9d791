"""How paths lead through recurrent layers.

An output channel of a recurrent layer is one nonlinear unit, which all input channels and all
channels of the initial states feed: the input and each state are operands of equal weight. Time
steps are positions, and make no paths of their own. Cells that are stacked follow each other.
"""

from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_nladv.graph.channels import Channels
from keras_nladv.graph.rules import fixed_activation, rules_for


def recurrent(call):
    layer = call.operation
    output, states = recurrence(call, layer, call.arguments.get("initial_state"))
    return [output, *states] if layer.return_state else output


def bidirectional(call):
    """Two recurrent layers, whose outputs are concatenated, merged or left as they are."""
    layer = call.operation
    given = keras.tree.flatten(call.arguments.get("initial_state"))
    half = len(given) // 2
    runs = [
        recurrence(call, layer.forward_layer, given[:half]),
        recurrence(call, layer.backward_layer, given[half:]),
    ]
    outputs = [output for output, _ in runs]
    if layer.merge_mode == "concat" and channels_axis(layer.forward_layer) == -1:
        outputs = [np.concatenate(outputs, axis=-1)]
    elif layer.merge_mode is not None:
        outputs = [call.merged(outputs)]
    states = [state for _, states in runs for state in states]
    return outputs + states if layer.return_state else outputs


def recurrence(call, layer, initial_state):
    """Labels of what a recurrent layer puts out, and of its states at the end.

    Args:
        call: The `Call`, of the layer or of one that it is in.
        layer: The recurrent layer.
        initial_state: Its states at the start, `Channels` and constants in a structure, or `None`.
    """
    sequence, axis = call.first, channels_axis(layer)
    x = Channels(call.contracted(sequence.labels, (1,)), sequence.shape[:1], sequence.dtype)
    given = iter(keras.tree.flatten(initial_state))
    # The shape that this layer has at a time step: `call` may be of two, side by side.
    shape = layer.compute_output_shape(sequence.shape)
    shape = shape[0] if layer.return_state else shape
    shape = [None, *shape[2 if layer.return_sequences else 1 :]]
    states = []
    for cell in getattr(layer.cell, "cells", [layer.cell]):
        # The cells of convolutions do not tell the sizes of their two states.
        convolves = hasattr(cell, "filters")
        sizes = [cell.filters] * 2 if convolves else keras.tree.flatten(cell.state_size)
        size = getattr(cell, "output_size", None) or sizes[0]
        shape[axis] = size
        step = replace(call, outputs=[keras.KerasTensor(shape, sequence.dtype)])
        from_input, from_state = connections(call, cell)
        operands = [step.mixed(x, axis, size, nonzero=from_input)]
        operands += [
            step.mixed(state, axis, size, nonzero=from_state)
            for _, state in zip(sizes, given)
            if isinstance(state, Channels)
        ]
        # An axis of time steps, at each of which the units are applied.
        labels = np.expand_dims(step.merged(operands), 1)
        steps = (None, sequence.shape[1], *shape[1:])
        unit = replace(step, operation=cell, outputs=[keras.KerasTensor(steps, sequence.dtype)])
        # A plain cell may have no nonlinear function.
        is_linear = getattr(cell, "activation", None) is keras.activations.linear
        slopes = np.ones(()) if is_linear and isinstance(cell, layers.SimpleRNNCell) else None
        labels = fixed_activation(
            unit,
            Channels(labels, steps, sequence.dtype),
            type(cell).__name__.lower(),
            slopes,
            axis=axis + 1 if axis > 0 else axis,
        ).squeeze(1)
        states += [labels] * len(sizes)
        x = Channels(labels, tuple(shape), sequence.dtype)
    return np.expand_dims(x.labels, 1) if layer.return_sequences else x.labels, states


def channels_axis(layer):
    """The axis of the channels at a time step."""
    return 1 if getattr(layer.cell, "data_format", None) == "channels_first" else -1


def connections(call, cell):
    """Which channels of the input, and which of the states, feed which units of a cell.

    What a unit is fed with reaches others at later time steps.

    Returns:
        Two bool arrays, or `None` twice if every edge counts.
    """
    if not call.reading.skips_zeros:
        return None, None
    kernel: Any = getattr(cell, "kernel", None)
    recurrent: Any = getattr(cell, "recurrent_kernel", None)
    bias = getattr(cell, "bias", None)  # Of a GRU, it has two axes.
    matrices = [x for x in cell.weights if len(x.shape) > 1 and x is not bias]
    kernels = {id(x): call.nonzero(x) for x in matrices}
    if kernels.keys() != {id(kernel), id(recurrent)}:
        if all(nonzero.all() for nonzero in kernels.values()):
            return None, None
        raise ValueError(
            f"Which channels feed which in '{call.name}', with a recurrent cell of class "
            f"{type(cell).__name__} some of whose weights are zero, is not known. Write a path "
            "rule for the layer, with `keras_nladv.register_path_rule`."
        )
    # A weight for each gate; those of a unit lie apart by the number of units.
    size = recurrent.shape[-2]
    taps = [
        kernels[id(x)].reshape(-1, x.shape[-2], x.shape[-1] // size, size).any(axis=(0, 2))
        for x in (kernel, recurrent)
    ]
    reaches = taps[1] | np.eye(size, dtype=bool)
    while (further := reaches @ reaches).sum() > reaches.sum():
        reaches = further
    return taps[0] @ reaches, reaches


rules_for(
    recurrent,
    *(layers.RNN, layers.SimpleRNN, layers.GRU, layers.LSTM),
    *(layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D),
)
rules_for(bidirectional, layers.Bidirectional)
