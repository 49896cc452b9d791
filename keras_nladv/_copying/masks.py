"""The masks that calls are given with their inputs."""

import inspect

import keras

from keras_nladv._keras import private
from keras_nladv.graph.rules import find_rule


def given_masks(layer, args, kwargs):
    """The masks that a layer is given with its inputs, as keyword arguments.

    Keras looks for them on tensors as the model runs, where it has not noted them before. What a
    block was opened into has lost them by then: they are known of symbolic tensors only.
    """
    parameters = inspect.signature(layer.call).parameters
    given = {
        name: value
        for name, value in private.arguments_of(layer, args, kwargs).items()
        if (leaves := keras.tree.flatten(value))
        and all(isinstance(leaf, keras.KerasTensor) for leaf in leaves)
    }
    masks = {
        "mask" if len(given) == 1 else f"{name}_mask": keras.tree.map_structure(
            private.mask_of, value
        )
        for name, value in given.items()
    }
    return {
        name: value
        for name, value in masks.items()
        if name in parameters and any(mask is not None for mask in keras.tree.flatten(value))
    }


def without_masks(nodes):
    """The `id`s of the tensors whose masks are gone as soon as some calls were made.

    Args:
        nodes: List of the Keras nodes of the calls.
    """
    gone: set[int] = set()
    for node in nodes:
        model, tensors = node.operation, node.arguments.keras_tensors
        if private.takes_masks_off(model):
            gone.update(map(id, tensors))
        elif private.is_functional(model):
            inside = without_masks(private.nodes_between(model.inputs, model.outputs))
            gone.update(id(x) for x, start in zip(tensors, model.inputs) if id(start) in inside)
    return gone


def masked_tensors(layer, args, kwargs):
    """What the masks that a layer is given are masks of, and so have the sizes of.

    A mask may be attached to its tensor, or given as the argument that Keras has for it: `mask` for
    the first argument, `x_mask` for argument `x`.

    Returns:
        Dict from the `id`s of masks to tensors.
    """
    given = private.arguments_of(layer, args, kwargs)
    first = next(iter(given.values()), None)
    masked = {id(private.mask_of(tensor)): tensor for tensor in keras.tree.flatten(given)}
    for name, masks in given.items():
        of = first if name == "mask" else given.get(name.removesuffix("_mask"))
        tensors, masks = keras.tree.flatten(of), keras.tree.flatten(masks)
        if len(tensors) == len(masks):
            masked.update((id(mask), tensor) for mask, tensor in zip(masks, tensors))
    return masked


def masks_matter(model, args, kwargs):
    """Whether layers that may be opened inside a model are given masks.

    Keras lets masks reach them as the model runs; the graph inside does not know of any.
    """
    given = [private.mask_of(leaf) for leaf in keras.tree.flatten((args, kwargs))]
    given += keras.tree.flatten(kwargs.get("mask"))
    return any(mask is not None for mask in given) and any(
        find_rule(part) is None
        and (part.supports_masking or "mask" in inspect.signature(part.call).parameters)
        for part in private.sublayers(model)
        if not private.is_functional(part) and not isinstance(part, keras.layers.InputLayer)
    )
