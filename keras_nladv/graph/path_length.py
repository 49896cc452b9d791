import keras

from keras_nladv._common.arguments import flag
from keras_nladv.graph.activation import Activation
from keras_nladv.graph.path_graph import PathGraph


def activations(model: keras.Model) -> list[Activation]:
    """Lists the activations of a model, with their slopes and nonlinear units.

    Args:
        model: A built Functional or Sequential model.

    Returns:
        List of `keras_nladv.graph.Activation` in the order of the graph. An activation that several
        layers share, or that is called several times, is listed once.

    Raises:
        ValueError: As `path_length` does.
    """
    return PathGraph.of(model).activations()


def path_length(model: keras.Model, normalized: bool = True, weights: bool = False) -> float:
    """Computes the average path length of a model.

    It is the average number of nonlinear units on a path from input to output of the channel graph.
    Its nodes are channels, its edges go from every channel that feeds another; kernel taps and
    positions are not separate paths.

    The graph is read at the first call and kept; later calls only look at the slopes, and with
    `weights` at which weights are zero.

    Args:
        model: A built Functional or Sequential model. Nested models are entered, composite layers
            opened, and every call of a shared layer counts. Layers that the path rules do not know
            are never guessed; see `register_path_rule`.
        normalized: Whether to average over walks back from a uniformly drawn output channel, which
            draw an operand uniformly at a merge and an input channel uniformly at a mixing layer
            (the primary measure), or over paths, each of which counts once.
        weights: Whether to count only edges whose weights are not all zero, so that what is pruned
            shows as what is linear does. An edge of a convolution has a weight for each tap of the
            kernel; scales of normalization layers and constants that tensors are multiplied with
            are weights, too. Channels that no path reaches are not drawn.

    Returns:
        Float, in nonlinear units. 0, with a warning, if zeros among the weights cut every path.

    Raises:
        ValueError: If the model is not built or subclassed, or if it has a layer, operation or
            activation function that the path rules do not know, or if a flag is neither True nor
            False. The message says what to do.

    Example:

    >>> inputs = keras.Input((1,))
    >>> x = keras.layers.Dense(4, "relu")(inputs)
    >>> x = keras.layers.Dense(4, "relu")(x)
    >>> outputs = keras.layers.Add()([keras.layers.Dense(1)(x), inputs])
    >>> model = keras.Model(inputs, outputs)
    >>> path_length(model)
    1.0
    >>> round(path_length(model, normalized=False), 4)  # 16 paths of length 2 and one of length 0
    1.8824
    >>> _ = model.layers[1].kernel.assign([[1.0, 0.0, 0.0, 0.0]])
    >>> round(path_length(model, normalized=False, weights=True), 4)  # 4 of these 16 are left
    1.6

    Source: *Nonlinear Advantage*, arXiv 2211.17180; its first version,
    *Average Path Length: Sparsification of Nonlinearities Creates Surprisingly Shallow Networks*.
    """
    normalized, weights = flag("normalized", normalized), flag("weights", weights)
    return PathGraph.of(model, weights).path_length(normalized)
