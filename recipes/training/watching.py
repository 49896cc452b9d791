"""What goes through the layers of a model."""

import contextlib


def layers_of(model):
    """The layers of a model and of those nested in it."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from layers_of(layer)
        else:
            yield layer


@contextlib.contextmanager
def watched(layers, note):
    """Calls `note(layer, inputs, outputs)` whenever one of the layers has been called."""

    def watching(layer, call):
        def watch(inputs, *args, **kwargs):
            outputs = call(inputs, *args, **kwargs)
            note(layer, inputs, outputs)
            return outputs

        return watch

    for layer in layers:
        layer.call = watching(layer, layer.call)
    try:
        yield
    finally:
        for layer in layers:
            del layer.call
