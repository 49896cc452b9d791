import keras

from keras_nladv import private


def require_graph(model):
    """Raises a `ValueError` that says what to do if `model` has no graph that could be read."""
    if not isinstance(model, keras.Model) or not private.is_functional(model):
        raise ValueError(_not_a_graph(model))


def _not_a_graph(model):
    if isinstance(model, keras.Sequential):
        return (
            f"`model` must be built, but Sequential model '{model.name}' does not know its input "
            "shape yet. Start it with `keras.Input(shape)`, call `model.build(input_shape)` or "
            "train it first."
        )
    if isinstance(model, keras.Model):
        return (
            "`model` must be a Functional or Sequential model, whose graph of layers can be read. "
            f"Received: '{model.name}' of class {type(model).__name__}, a subclassed model. Wrap "
            "it: `inputs = keras.Input(shape); model = keras.Model(inputs, subclassed(inputs))`."
        )
    return f"`model` must be a Functional or Sequential Keras model. Received: {model!r}"
