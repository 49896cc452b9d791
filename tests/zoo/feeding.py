"""Which units feed which outputs: found by trying, and by the channel graph."""

import keras
import numpy as np

from keras_nladv import SparsePReLU
from keras_nladv._keras import private
from keras_nladv.graph.tracer import Tracer
from tests.graph.oracle import by_label


def tried_and_claimed(model, run):
    """Moves what units put out, and sees which channels of the outputs move.

    Args:
        model: A model with `SparsePReLU` layers whose slopes lie along a channel axis.
        run: Function that returns the outputs of the model on some data, as arrays.

    Returns:
        Two bool arrays of a unit and a channel of an output each: the first and the last unit of
        each layer.
    """
    tracer, recorded = Tracer(), []
    follow = tracer._run
    tracer._run = lambda *args, **kwargs: recorded.append(follow(*args, **kwargs)) or recorded[-1]
    tracer.trace(model)
    layers = [x for x in private.sublayers(model) if isinstance(x, SparsePReLU) and x.built]
    for layer in layers:
        layer.alpha.assign(np.full(layer.alpha.shape, 0.5))  # So that no unit is dead.
    before = run()
    labels = [
        np.broadcast_to(x.labels, (1, *y.shape[1:])) for x, y in zip(recorded[-1], before)
    ]  # The last to end is the model itself.
    true, said = [], []
    for layer in layers:
        for unit in {0, layer.alpha.shape[0] - 1}:
            nodes = [
                channels[units == unit]
                for channels, index, units, _ in tracer.reading.graph._visits
                if tracer.reading.activations[index].layer is layer
            ]
            with _moved(layer, unit):
                changes = [
                    ~np.isclose(x, y, rtol=1e-5, atol=1e-6).all(axis=0, keepdims=True)
                    for x, y in zip(run(), before)
                ]
            reached = _reached(tracer.reading.graph, np.concatenate(nodes))
            true.append([by_label(x[None], y)[0].ravel() for x, y in zip(changes, labels)])
            said.append([reached[each].ravel() for each in labels])
    for layer in layers:
        layer.alpha.assign(np.zeros(layer.alpha.shape))
    return (np.array([np.concatenate(each) for each in rows]) for rows in (true, said))


def _reached(graph, channels):
    reached = np.zeros(graph.size, bool)
    reached[channels] = True
    for numbers, sources, starts in graph._blocks:
        reached[numbers] |= np.logical_or.reduceat(reached[sources], starts)
    return reached


class _moved:
    """While it lasts, one unit of a layer puts out other numbers."""

    def __init__(self, layer, unit):
        self.layer, self.unit = layer, unit

    def __enter__(self):
        call, rng = self.layer.call, np.random.default_rng(0)

        def moved(inputs):
            outputs = call(inputs)
            at = np.zeros(
                outputs.shape, outputs.dtype if isinstance(outputs.dtype, str) else "float32"
            )
            at = np.moveaxis(at, self.layer.axis, -1)
            at[..., self.unit] = rng.normal(0, 20, at.shape[:-1])
            return outputs + keras.ops.convert_to_tensor(np.moveaxis(at, -1, self.layer.axis))

        self.layer.__dict__["call"] = moved

    def __exit__(self, *_):
        del self.layer.__dict__["call"]
