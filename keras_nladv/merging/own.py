"""What is of this library in a model, which what `collapse` returns must not hold."""

from typing import Any

import keras

from keras_nladv._keras import private
from keras_nladv.constraints.fixed_mask import FixedMask
from keras_nladv.layers.sparse_prelu import SparsePReLU
from keras_nladv.regularizers.nonlinearity_sparsity import NonlinearitySparsity

ON_WEIGHTS = (NonlinearitySparsity, FixedMask)
OWN = (SparsePReLU, *ON_WEIGHTS)


def replaced(config, layer, replace_units):
    """A configuration without what is of this library: regularizers and constraints are left out.

    Args:
        config: A configuration, or a part of one.
        layer: The layer that it is of.
        replace_units: Function of a layer and the name of a `SparsePReLU` inside it that returns a
            plain layer.

    Returns:
        The configuration; the one given if there is nothing in it.
    """
    kind = type(config) if isinstance(config, OWN) else _class_of(config)
    if issubclass(kind, SparsePReLU):
        name = config.name if isinstance(config, SparsePReLU) else config["config"]["name"]
        plain = keras.saving.serialize_keras_object(replace_units(layer, name))
        # Where a model in it says how its layers are called.
        keys = {"name", "inbound_nodes"} & (config.keys() if isinstance(config, dict) else set())
        return {**plain, **{key: config[key] for key in keys}}
    if issubclass(kind, OWN):
        return None
    if isinstance(config, dict):
        if isinstance(config.get("config"), dict):
            # Names are unique in a layer inside, as in the two of `Bidirectional`, not in all.
            inside = private.sublayers(layer)[1:]
            named = [part for part in inside if part.name == config["config"].get("name")]
            layer = named[0] if len(named) == 1 else layer
        parts: Any = {key: replaced(value, layer, replace_units) for key, value in config.items()}
        return parts if any(parts[key] is not config[key] for key in config) else config
    if type(config) in (list, tuple):
        parts = [replaced(value, layer, replace_units) for value in config]
        same = all(part is value for part, value in zip(parts, config))
        return config if same else type(config)(parts)
    return config


def _class_of(config):
    """The class of what a serialized object is, `object` if it is none that is registered."""
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        return object
    found = keras.saving.get_registered_object(config.get("registered_name"))
    return found if isinstance(found, type) else object


def require_none(model):
    """Takes regularizers and constraints of this library off the weights of a model.

    Raises:
        ValueError: If a layer of this library is in it.
    """
    for weight in model.weights:
        if isinstance(weight.regularizer, ON_WEIGHTS):
            weight.regularizer = None
        if isinstance(weight.constraint, ON_WEIGHTS):
            weight.constraint = None
    for layer in model.layers:
        if any(isinstance(part, SparsePReLU) for part in private.sublayers(layer)):
            raise ValueError(
                f"Layer '{layer.name}' of class {type(layer).__name__} has a `SparsePReLU` inside "
                "that cannot be replaced: `collapse` can neither open the layer nor make it with "
                "another activation. Let the class take its activation as an argument, and list it "
                "in its `get_config`; one argument for each, where slopes differ."
            )
