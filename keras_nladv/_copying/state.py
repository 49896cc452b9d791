import tempfile
from collections import defaultdict
from typing import Any

import keras

from keras_nladv._copying.attributes import transfer_attributes
from keras_nladv._copying.pointwise import fuses_activation
from keras_nladv._keras import private


def transfer_state(original, copy, unmatched=()):
    """Gives a copy of a layer the state of its original, and that of all layers inside.

    State is: what is trainable, quantization and adapters, the values of weights with what
    constrains and regularizes them, vocabularies, and what was set on a layer, or on one inside,
    that its configuration does not say.

    Args:
        original: A layer.
        copy: Another layer, of the same configuration.
        unmatched: The `id`s of layers inside of them that have no counterpart in the other.

    Returns:
        List of pairs, the layers that are the same in both.
    """
    old_parts, new_parts = (
        [part for part in private.sublayers(layer) if id(part) not in unmatched]
        for layer in (original, copy)
    )
    pairs = list(zip(old_parts, new_parts))
    if len(old_parts) != len(new_parts) or any(map(_are_others, old_parts, new_parts)):
        raise ValueError(
            f"Layer '{original.name}' of class {type(original).__name__} cannot be copied: "
            "what `from_config(layer.get_config())` makes has other layers inside."
        )
    for old, new in pairs:
        new.trainable = old.trainable
        if old.built:
            if not new.built:
                # In wrappers and cells a symbolic call asks for sizes only.
                new.build_from_config(old.get_build_config())
            _adapt(old, new)
            _transfer_values(old, new)
        if hasattr(old, "save_assets"):  # Vocabularies.
            with tempfile.TemporaryDirectory() as folder:
                old.save_assets(folder)
                new.load_assets(folder)
        if old is not original:
            _transfer_policy(old, new)
        if not private.is_functional(old):
            # What is applied behind a layer may be one of its own in the copy.
            is_apart = old is original and fuses_activation(old)
            transfer_attributes(old, new, {"activation"} if is_apart else ())
    return pairs


def _are_others(old, new):
    """Whether two layers are of different classes. Models may become plain ones."""
    return type(old) is not type(new) and not private.is_functional(old)


def _transfer_policy(old, new):
    """Lets a layer inside another compute in the type that it was given there."""
    policies = old.dtype_policy, new.dtype_policy
    is_plain = all(type(each) is keras.DTypePolicy for each in policies)
    if is_plain and policies[0].name != policies[1].name:
        new.dtype_policy = policies[0]


def _adapt(old, new):
    """Quantizes a layer and gives it adapters, as the other was after it had been built."""
    mode = old.quantization_mode
    if mode != new.quantization_mode:
        # Older versions of Keras have none, and take none.
        config = getattr(old, "quantization_config", None)
        new.quantize(mode, type_check=False, **({} if config is None else {"config": config}))
    if getattr(old, "lora_enabled", False):
        if not new.lora_enabled:
            new.enable_lora(old.lora_rank)
        new.lora_alpha = old.lora_alpha  # Layers do not read it from their configuration.


def _transfer_values(old, new):
    if type(old).load_own_variables is not keras.Layer.load_own_variables:
        # What the layer notes beside its weights. With an adapter, Keras would add that to the
        # kernel: the values of each are set below.
        store: dict[str, Any] = {}
        old.save_own_variables(store)
        # By NumPy: on JAX, variables that shared an array would be deleted together.
        new.load_own_variables(
            {key: keras.ops.convert_to_numpy(value) for key, value in store.items()}
        )
    for source, target in _pairs(old, new):
        target.assign(keras.ops.convert_to_numpy(source))
        target.trainable = source.trainable
        for attribute in ("regularizer", "constraint"):
            ours, theirs = getattr(target, attribute), getattr(source, attribute)
            if _differ(ours, theirs):
                setattr(target, attribute, theirs)


def _pairs(old, new):
    """The weights of two layers that belong together, those of layers inside left out."""
    groups = []
    for layer in (old, new):
        inside = {id(weight) for part in private.sublayers(layer)[1:] for weight in part.weights}
        groups.append([weight for weight in layer.weights if id(weight) not in inside])
    named: list[dict[str, list[Any]]] = [defaultdict(list) for _ in groups]
    for group, names in zip(groups, named):
        for weight in group:
            names[weight.name].append(weight)
    # Quantization changes the order. Weights without a name of their own have numbers in it.
    counts = [{name: len(each) for name, each in names.items()} for names in named]
    if counts[0] == counts[1]:
        pairs = [pair for name in named[0] for pair in zip(*(names[name] for names in named))]
    else:
        pairs = list(zip(*groups))
    shapes = [[tuple(weight.shape) for weight in group] for group in groups]
    if len(shapes[0]) != len(shapes[1]) or any(one.shape != two.shape for one, two in pairs):
        raise ValueError(
            f"Layer '{old.name}' of class {type(old).__name__} cannot be copied: it has weights of "
            f"shapes {shapes[0]}, but what `from_config(layer.get_config())` makes has weights of "
            f"shapes {shapes[1]}."
        )
    return pairs


def _differ(ours, theirs):
    """Whether a weight was given another regularizer or constraint than its layer says."""
    if type(ours) is not type(theirs):
        return True
    # What is a method of the layer is another one in each.
    if not isinstance(ours, (keras.Regularizer, keras.constraints.Constraint)):
        return False
    return ours.get_config() != theirs.get_config()
