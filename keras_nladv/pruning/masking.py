"""What makes the masks of a model."""

import warnings

import numpy as np
from keras import ops

from keras_nladv._copying.model_class import warn_of_lost_methods
from keras_nladv.constraints.fixed_mask import FixedMask
from keras_nladv.graph.path_graph import PathGraph
from keras_nladv.graph.require_graph import require_graph
from keras_nladv.pruning.opened_blocks import OpenedBlocks


def copied(model):
    """A copy of a model with weights of its own, of the same values. Its blocks are opened."""
    require_graph(model)
    opened = OpenedBlocks()
    copy = opened.copied(model)
    opened.copies.transfer_weights()
    opened.warn_of_shared(copy)
    warn_of_lost_methods(model, copy)
    return copy


def constrain(kernel, mask):
    """Sets what a mask leaves out of a `Kernel` to zero, to stay so. What was pruned stays so."""
    constraint = FixedMask(mask, kernel.variable.constraint)
    if isinstance(constraint.constraint, FixedMask):
        earlier = constraint.constraint
        constraint = FixedMask(constraint.mask & earlier.mask, earlier.constraint)
    # The layer's is saved, the weight's applied.
    setattr(kernel.layer, kernel.argument, constraint)
    kernel.variable.constraint = constraint
    weights = ops.convert_to_numpy(kernel.variable)
    kernel.variable.assign(np.where(constraint.mask, weights, 0))


def warn_if_cut(model):
    """Warns if outputs of a model do not depend on its inputs any more."""
    try:
        graph = PathGraph.of(model, weights=True)
    except ValueError:
        return  # There are layers that the path rules do not know.
    reached, outputs = graph.reached_outputs()
    if reached < outputs:
        warnings.warn(
            f"The masks cut every path to {outputs - reached} of {outputs} output channels of "
            f"model '{model.name}': these do not depend on the inputs any more.",
            stacklevel=3,
        )
