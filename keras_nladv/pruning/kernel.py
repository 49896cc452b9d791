import fnmatch
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from keras_nladv._keras import private
from keras_nladv.graph.require_graph import require_graph

# For layers of these classes, the kernels and the arguments with which their constraints are saved.
KERNELS: list[tuple[tuple[type, ...], dict[str, str]]] = [
    (
        (layers.SeparableConv1D, layers.SeparableConv2D),
        {"depthwise_kernel": "depthwise_constraint", "pointwise_kernel": "pointwise_constraint"},
    ),
    (
        (layers.DepthwiseConv1D, layers.DepthwiseConv2D),
        {"kernel": "depthwise_constraint"},
    ),
    (
        (
            *(layers.Dense, layers.EinsumDense),
            *(layers.Conv1D, layers.Conv2D, layers.Conv3D),
            *(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
        ),
        {"kernel": "kernel_constraint"},
    ),
]


@dataclass(frozen=True)
class Kernel:
    """A kernel that can be pruned.

    Attributes:
        name: Its name, after those of its layer and of the models that this is nested in.
        layer: The layer.
        variable: The weights.
        argument: The argument of the layer that is the constraint of the weights.
    """

    name: str
    layer: keras.Layer
    variable: keras.Variable
    argument: str


def prunable(
    model: keras.Model,
    select: str | Sequence[str] | Callable[[str, keras.Layer], bool] | None = None,
) -> list[Kernel]:
    """Lists the kernels of a model that can be pruned.

    They are those of `Dense`, `EinsumDense` and all convolutions, unless they are frozen. Nested
    models are entered, and so are wrappers such as `TimeDistributed`. Layers that are made of
    others, like attention, are left out: the masks of their parts would not be saved with them.
    `prune` and `masked` open such layers in their copies, which have more kernels then: those of
    `masked(model, {})` are all.

    Args:
        model: A built Functional or Sequential model.
        select: Which layers to take. A pattern for their names, such as `"block_3*"`, a list of
            patterns, or a function of the name and of the layer that returns whether to take it.
            What is in a nested model has that model's name before its own, as in `"block/conv"`.
            Default: all.

    Returns:
        List of `Kernel`.

    Raises:
        ValueError: If the model has no graph, if `select` is none of these, or if nothing is left.

    Example:

    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="hidden")])
    >>> [kernel.name for kernel in pruning.prunable(model)]
    ['hidden/kernel']
    """
    require_graph(model)
    patterns = [select] if isinstance(select, str) else select
    if not (
        patterns is None
        or callable(patterns)
        or (isinstance(patterns, (list, tuple)) and all(isinstance(x, str) for x in patterns))
    ):
        raise ValueError(
            "`select` must be a pattern for names or a list of them, a function of name and layer, "
            f"or `None`. Received: select={select!r}"
        )

    def selected(name, layer):
        if callable(patterns):
            return patterns(name, layer)
        return patterns is None or any(fnmatch.fnmatchcase(name, each) for each in patterns)

    found: dict[int, Kernel] = {}
    for name, layer in _layers(model, ""):
        arguments = next((names for classes, names in KERNELS if isinstance(layer, classes)), {})
        for attribute, argument in arguments.items():
            variable = getattr(layer, attribute, None)
            # Not what is quantized, or a sum with a low-rank matrix.
            if (
                isinstance(variable, keras.Variable)
                and variable.trainable
                and keras.backend.is_float_dtype(variable.dtype)
                and id(variable) not in found
                and selected(name, layer)
            ):
                kernel = Kernel(f"{name}/{attribute}", layer, variable, argument)
                found[id(variable)] = kernel
    if not found:
        raise ValueError(
            f"Model '{model.name}' has nothing to prune: no trainable kernel of Dense, EinsumDense "
            f"or convolutional layers{'' if select is None else f' that select={select!r} takes'}. "
            "Kernels inside layers that are made of others are pruned if these can be opened."
        )
    return list(found.values())


def _layers(model: Any, scope: str) -> Iterator[tuple[str, keras.Layer]]:
    for layer in model.layers:
        name = scope + layer.name
        while isinstance(layer, layers.Wrapper):
            layer = layer.layer
            name += f"/{layer.name}"
        if private.is_functional(layer):
            yield from _layers(layer, name + "/")
        else:
            yield name, layer
