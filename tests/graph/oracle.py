"""What feeds what, found by trying: an oracle for the path rules of every layer and operation."""

import keras
import numpy as np
from keras import ops

from keras_nladv.graph.channels import compress
from keras_nladv.graph.tracer import Tracer


def tried(function, inputs, sources, draws, batched):
    """Which sources change which elements of the outputs.

    Args:
        function: A function of tensors.
        inputs: List of functions that draw an array for each input.
        sources: List of integer arrays, one an input: the source of each element, 0 for none.
        draws: Number of random inputs.
        batched: Whether the function treats samples one by one, so that all can be tried at once.

    Yields:
        After each of them, what is known by then: a list of bool arrays, one an output, with an
        axis of sources before the others.
    """

    def run(samples):
        tensors = [ops.convert_to_tensor(np.concatenate(arrays)) for arrays in zip(*samples)]
        outputs = keras.tree.flatten(function(*tensors))
        return [ops.convert_to_numpy(x) for x in outputs]

    count = max(each.max() for each in sources)
    changes = 0
    for _ in range(draws):
        base, other = ([draw() for draw in inputs] for _ in range(2))
        samples = [
            [np.where(each == source, y, x) for each, x, y in zip(sources, base, other)]
            for source in range(count + 1)
        ]
        samples[0] = base
        if batched:
            outputs = [x[:, None] for x in run(samples)]
        else:
            outputs = [np.stack(x) for x in zip(*(run([sample]) for sample in samples))]
        # The same sample may be rounded in other ways at another place of a batch.
        changed = [~np.isclose(x[1:], x[:1], rtol=1e-4, atol=1e-6) for x in outputs]
        changes = changed if changes == 0 else [a | b for a, b in zip(changes, changed)]
        yield changes


def traced(model, sources, shapes):
    """What the channel graph says of the same.

    Args:
        model: The function as a model.
        sources: As for `tried`.
        shapes: Shapes of the outputs.

    Returns:
        Bool arrays as `tried` does, arrays of the labels of the outputs' elements, and the number
        of nonlinear units.
    """
    tracer = Tracer()
    count = max(each.max() for each in sources)
    numbers = np.concatenate([[0], tracer.reading.graph.add_sources(count)])
    inputs = [
        tracer._channels(compress(numbers[each]), tensor)
        for each, tensor in zip(sources, model.inputs)
    ]
    outputs = tracer.apply(model, tuple(inputs), {}, model.outputs, "model")
    labels = [np.broadcast_to(x.labels, shape) for x, shape in zip(outputs, shapes, strict=True)]
    feeds = np.zeros((count, tracer.reading.graph.size), bool)
    for source in range(count):
        tracer.reading.graph._sources = [numbers[source + 1 : source + 2]]
        feeds[source] = tracer.reading.graph.reached()
    units = sum(activation.units for activation in tracer.reading.activations)
    return [feeds[:, each] for each in labels], labels, units


def by_label(changes, labels):
    """The changes of all elements that are one channel: positions are not told apart."""
    merged = changes.copy()
    for label in np.unique(labels):
        merged[:, labels == label] = changes[:, labels == label].any(axis=1, keepdims=True)
    return merged
