"""Which units become linear to meet a budget, other than by pressure alone."""

from collections import defaultdict

import keras
import numpy as np

from keras_nladv import SparsePReLU, tangent
from keras_nladv.graph import activations
from training.watching import watched


def linearize(model, order, measured, budget):
    """Makes as few units linear as it takes to meet a budget.

    Args:
        model: A model with `SparsePReLU` layers.
        order: List of pairs: one of these layers, and which of its units becomes linear, an index
            or `...` for all.
        measured: Function of the model, what the budget counts.
        budget: What that may be.
    """
    low, high = 0, len(order)
    while low <= high:
        # Bisection; at the end it is `low` that counts.
        middle = (low + high) // 2 if low < high else low
        slopes = {id(layer): np.zeros(layer.alpha.shape, "float32") for layer, _ in order}
        for layer, unit in order[:middle]:
            slopes[id(layer)][unit] = 1.0
        for layer, _ in order:
            layer.alpha.assign(slopes[id(layer)])
        if low == high:
            return
        if measured(model) <= budget:
            high = middle
        else:
            low = middle + 1


def linearize_all(model, weights):
    """Makes all units linear that can be pressed.

    Args:
        model: A model with `SparsePReLU` layers.
        weights: Dict from names of these to weights of the pressure, 1 for all others.
    """
    for each in activations(model):
        if isinstance(each.layer, SparsePReLU) and weights.get(each.name, 1.0) > 0:
            each.layer.alpha.assign(np.ones(each.layer.alpha.shape))


def random_channels(model, seed):
    """All units of a model in random order, for `linearize`."""
    units = [
        (layer, unit) for layer in _layers(model).values() for unit in range(layer.alpha.shape[0])
    ]
    return [units[i] for i in np.random.default_rng(seed).permutation(len(units))]


def ranked_by_entropy(model, images):
    """All layers of a model for `linearize`, first those whose units hardly switch.

    A unit is on where its input is positive. The entropy of a layer is the mean of the entropies of
    its units' states on the images.
    """
    layers = _layers(model)
    entropies = defaultdict(list)

    def note(layer, inputs, _):
        values = np.moveaxis(keras.ops.convert_to_numpy(inputs), layer.axis, -1)
        on = values.reshape(-1, values.shape[-1]) > 0
        share = np.clip(on.mean(axis=0), 1e-12, 1 - 1e-12)
        entropy = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
        entropies[id(layer)].append(entropy.mean())

    with watched(layers.values(), note):
        model(images, training=False)
    ranked = sorted(layers, key=lambda key: np.mean(entropies[key]))
    return [(layers[key], ...) for key in ranked]


def ranked_by_loss(model, images, labels, from_logits=True):
    """All units of a model for `linearize`, first those that matter least for the loss.

    That is |(1 - alpha) dL/dalpha|, to first order the change of the loss if the slope went to 1:
    what SNIP (Lee et al., arXiv 1810.02340) asks of weights.

    Args:
        model: A classifier with `SparsePReLU` layers.
        images: Array of images.
        labels: Their classes.
        from_logits: Whether it returns logits, or else probabilities.
    """
    layers = list(_layers(model).values())
    slopes = [layer.alpha for layer in layers]
    gradients = [np.zeros(slope.shape) for slope in slopes]
    for start in range(0, len(images), 256):
        x, y = images[start : start + 256], labels[start : start + 256]
        outputs = keras.ops.convert_to_numpy(model(x, training=False)).astype("float64")
        is_class = np.eye(outputs.shape[1])[y]
        if from_logits:
            outputs = np.exp(outputs - outputs.max(axis=1, keepdims=True))
            change = outputs / outputs.sum(axis=1, keepdims=True) - is_class
        else:
            change = -is_class / np.maximum(outputs, 1e-7)
        _, found = tangent.vjp(model, x, change.astype("float32"), slopes)
        for gradient, each in zip(gradients, found):
            gradient += keras.ops.convert_to_numpy(each)
    scores = [
        (abs((1 - keras.ops.convert_to_numpy(slope)) * gradient)[unit], layer, unit)
        for layer, slope, gradient in zip(layers, slopes, gradients)
        for unit in range(slope.shape[0])
    ]
    return [(layer, unit) for _, layer, unit in sorted(scores, key=lambda each: each[0])]


def _layers(model):
    """The layers whose units may become linear, in the order of the graph."""
    return {id(a.layer): a.layer for a in activations(model) if isinstance(a.layer, SparsePReLU)}
