from collections import Counter

from keras_nladv._keras import private
from keras_nladv.graph import activations
from keras_nladv.regularizers import NonlinearitySparsity


def pressable(model):
    """Lists the layers whose slopes a `NonlinearitySparsity` presses, by name.

    Args:
        model: A Keras model.

    Returns:
        Dict from names to layers, in the order of the model. A name that several of them have is
        that in `nonlinearity_report` instead, with those of the models and layers around it.

    Raises:
        ValueError: If these are the same, too.
    """
    # Slopes of layers inside others are there only once the model has run.
    layers = {
        id(layer): layer
        for layer in private.sublayers(model)
        if layer.trainable
        and isinstance(getattr(layer, "alpha_regularizer", None), NonlinearitySparsity)
    }
    names = {key: layer.name for key, layer in layers.items()}
    twice = {name for name, number in Counter(names.values()).items() if number > 1}
    if twice:
        for activation in activations(model):
            if names.get(id(activation.layer)) in twice:
                names[id(activation.layer)] = activation.name
        twice = {name for name, number in Counter(names.values()).items() if number > 1}
    if twice:
        raise ValueError(
            f"Layers that are pressed must have names of their own. Received: model "
            f"'{model.name}' with several of name {', '.join(map(repr, sorted(twice)))}"
        )
    return {names[key]: layer for key, layer in layers.items()}
