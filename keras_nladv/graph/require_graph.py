import keras

from keras_nladv._common.arguments import require_model
from keras_nladv._keras import private


def require_graph(model):
    """Raises a `ValueError` that says what to do if `model` has no graph that could be read."""
    require_model(model)
    if private.is_functional(model):
        return
    if isinstance(model, keras.Sequential) and type(model).call is keras.Sequential.call:
        if not model.built:
            raise ValueError(
                f"`model` must be built, but Sequential model '{model.name}' does not know its "
                "input shape yet. Start it with `keras.Input(shape)`, call "
                "`model.build(input_shape)` or train it first."
            )
        raise ValueError(
            f"`model` must have a graph of layers that can be read, but Sequential model "
            f"'{model.name}' has none: it is built, yet one of its layers does not say of which "
            "shape its outputs are (a `TorchModuleWrapper`, for example). Put that layer into a "
            "`keras.layers.Layer` of your own, with `compute_output_shape(self, input_shape)`."
        )
    raise ValueError(
        "`model` must be a Functional or Sequential model, whose graph of layers can be read. "
        f"Received: '{model.name}' of class {type(model).__name__}, a subclassed model. Wrap "
        "it: `inputs = keras.Input(shape); model = keras.Model(inputs, subclassed(inputs))`."
    )
