from keras_nladv.graph import activations


def core_image(model):
    """Draws the core of a model: which of its units are still nonlinear.

    The model's activations stand side by side in the order of the graph, their channels on top of
    each other. Nonlinear units are bright, linear ones dark. Where a pixel or, with
    `granularity="element"`, a channel (the last axis of the slopes) holds many units, it is the
    brighter the more of them are nonlinear. Up to 40 activations are labeled with their names and
    their numbers of nonlinear and of all units.

    Args:
        model: A model that `keras_nladv.path_length` can read.

    Returns:
        A `PIL.Image.Image`. Notebooks show it; `core_image(model).save("core.png")` makes a file.

    Raises:
        ImportError: If Pillow is missing.
        ValueError: If the model has no graph that can be read.

    Example:

    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), SparsePReLU()])
    >>> core_image(model).save("core.png")
    """
    from keras_nladv.callbacks.core_drawing import draw_core

    return draw_core(activations(model))
