import fnmatch
from collections.abc import Callable
from typing import Any

import keras

from keras_nladv._common.arguments import flag
from keras_nladv._copying.model_class import warn_of_lost_methods
from keras_nladv.conversion.sparsifier import Sparsifier
from keras_nladv.conversion.sparsify_report import SparsifyReport
from keras_nladv.graph.require_graph import require_graph
from keras_nladv.layers.sparse_prelu import SparsePReLU
from keras_nladv.regularizers.nonlinearity_sparsity import NonlinearitySparsity


def sparsify(
    model: keras.Model,
    select: str | Callable[[str, Any], bool] | None = None,
    *,
    granularity: str = "channel",
    linear_threshold: float = 0.01,
    alpha_regularizer: keras.Regularizer | str | None = None,
    share_around_depthwise: bool = False,
    return_report: bool = False,
) -> keras.Model | tuple[keras.Model, SparsifyReport]:
    """Makes the activations of a model linearizable, without changing what it computes.

    Every pointwise activation becomes a `SparsePReLU` of that activation with slopes of 0: layers
    such as `ReLU` and `Activation`, what is fused in `Dense` and convolutions as `activation=`, and
    operations such as `keras.activations.gelu(x)`. Stock `PReLU` keeps its slopes. Nested models
    are entered; layers that are made of others, like a Transformer encoder of keras-hub, are opened
    into their parts, so that their inner activations are layers of the new model. Where that is not
    possible the block is kept and gets `activation=SparsePReLU(...)`, if it takes that argument.

    The model given is left as it is. The new one has weights of its own, of the same values; what
    was frozen still is, slopes of activations included; adapters (`enable_lora`), quantization and
    the names of outputs are kept. Its class, with a `train_step` of its own for example, is kept if
    it can be called with `inputs` and `outputs`; a warning says which methods are lost else. It is
    not compiled: an optimizer's state belongs to the weights that it was made for, and there are
    new ones. Compile it before training, as you would any model.

    Args:
        model: A built Functional or Sequential model.
        select: Which activations to convert. A pattern for their names, such as `"block_3*"`; or a
            function of the name and of the layer or operation that returns whether to convert it.
            What is fused goes by the name of the layer that it is fused in; what is in a nested
            model has that model's name before its own, as in `"block/relu"`. Default: all.
        granularity: Granularity of the slopes, see `SparsePReLU`.
        linear_threshold: Threshold of the layers, see `SparsePReLU`.
        alpha_regularizer: Regularizer of the slopes; each layer gets a copy. Default:
            `NonlinearitySparsity(0.0)`, which does nothing until `LinearizationSchedule` changes
            its strength.
        share_around_depthwise: Whether the activations before and after a depthwise convolution
            share their slopes. What becomes linear then does so on both sides, where `collapse` can
            merge it. Only where both are the same function.
        return_report: Whether to return what was converted, and what was left and why, too.

    Returns:
        The new model, or the new model and a `SparsifyReport`.

    Raises:
        ValueError: If the model has no graph (see `path_length`), if a layer cannot be copied, or
            if there is nothing to convert.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8,)), keras.layers.Dense(4, activation="gelu"), keras.layers.Dense(2)
    ... ])
    >>> sparse, report = sparsify(model, return_report=True)
    >>> [type(layer).__name__ for layer in sparse.layers]
    ['Dense', 'SparsePReLU', 'Dense']
    >>> [(row["function"], row["outcome"]) for row in report.rows]
    [('gelu', 'converted')]
    """
    require_graph(model)
    if select is not None and not isinstance(select, str) and not callable(select):
        raise ValueError(
            "`select` must be a pattern for names, a function of name and layer, or `None`. "
            f"Received: select={select!r}"
        )

    share = flag("share_around_depthwise", share_around_depthwise)
    return_report = flag("return_report", return_report)

    def selected(name, operation):
        if isinstance(select, str):
            return fnmatch.fnmatchcase(name, select)
        return select is None or select(name, operation)

    options: dict[str, Any] = {"granularity": granularity, "linear_threshold": linear_threshold}
    SparsePReLU(**options)  # It says what is wrong with them.
    sparsifier = Sparsifier(
        selected,
        options,
        keras.regularizers.get(alpha_regularizer) or NonlinearitySparsity(0.0),
        share,
    )
    sparse = sparsifier.copied(model)
    report = SparsifyReport(sparsifier.rows)
    if not report.converted:
        raise ValueError(f"`sparsify` found nothing to convert in model '{model.name}'.\n{report}")
    sparsifier.copies.transfer_weights()
    sparsifier.warn_of_shared(sparse)
    warn_of_lost_methods(model, sparse)
    return (sparse, report) if return_report else sparse
