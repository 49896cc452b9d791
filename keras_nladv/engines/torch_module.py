import keras

from keras_nladv._keras import private
from keras_nladv.engines.unrolled import unrolled


def torch_module(model, specs):
    """A model as a module of torch that takes and returns tensors in a row.

    Args:
        model: A model with a graph, on the backend torch.
        specs: List of `KerasTensor`s, what its inputs are.

    Returns:
        The module, and a tuple of tensors that it takes.
    """
    import torch
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    structure, _ = private.structures(model)

    def squeezed(x, dim=None):
        # An axis of another size stays, which a converter does not see to.
        if isinstance(dim, int) and x.shape[dim] != 1:
            return x
        return torch.squeeze(x) if dim is None else torch.squeeze(x, dim)

    def split(own, x, indices_or_sections, axis=0):
        # At a tensor of indices, as Keras does, converters do not know the sizes.
        if isinstance(indices_or_sections, int):
            return own(x, indices_or_sections, axis)
        return list(torch.tensor_split(x, tuple(map(int, indices_or_sections)), axis))

    # What converters do not know, or not the types of, by what they do.
    names = {f"arc{name}": f"a{name}" for name in ("cos", "cosh", "sin", "sinh", "tan", "tanh")}
    names |= {
        "absolute": "abs",
        "negative": "neg",
        "clip": "clamp",
        "fix": "trunc",
        "concat": "cat",
        "concatenate": "cat",
        "moveaxis": "movedim",
        "ravel": "flatten",
        "subtract": "sub",
        "multiply": "mul",
        "divide": "div",
        "true_divide": "div",
        "greater": "gt",
        "greater_equal": "ge",
        "less": "lt",
        "less_equal": "le",
        "not_equal": "ne",
    }
    known = {
        getattr(place, other): getattr(torch, name)
        for other, name in names.items()
        for place in (torch, torch.Tensor)
        if hasattr(place, other)
    }
    for place in (torch, torch.Tensor):
        # Its arguments have other names.
        known[place.swapaxes] = lambda x, axis0, axis1: torch.transpose(x, axis0, axis1)
        known[place.squeeze] = squeezed
    known[functional.hardshrink] = lambda x, lambd=0.5: x * (abs(x) > lambd)
    known[functional.softshrink] = lambda x, lambd=0.5: x - torch.clamp(x, -lambd, lambd)

    class Known(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            return known.get(function, function)(*args, **(kwargs or {}))

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, *inputs):
            inputs = keras.tree.pack_sequence_as(structure, inputs)
            with Known(), private.array_functions(split=split), unrolled(model, specs):
                return tuple(keras.tree.flatten(self.model(inputs, training=False)))

    # Two samples, where their number is free: what runs on one need not run on more.
    samples = [
        keras.ops.ones([2 if i == 0 and n is None else n or 32 for i, n in enumerate(x.shape)])
        for x in specs
    ]
    return Module().eval(), tuple(keras.ops.cast(x, y.dtype) for x, y in zip(samples, specs))
