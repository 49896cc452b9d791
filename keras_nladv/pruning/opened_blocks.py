import keras

from keras_nladv._copying.masks import masks_matter
from keras_nladv._copying.opener import Opener
from keras_nladv._keras import private
from keras_nladv.graph.rules import find_rule
from keras_nladv.pruning.kernel import KERNELS


class OpenedBlocks(Opener):
    """Copies a model with layers that are made of others, a wrapped subclassed model among them,
    opened where there are kernels to prune inside: masks of parts would not be saved with them."""

    opens_for = tuple(kind for kinds, _ in KERNELS for kind in kinds)

    def called(self, node, args, kwargs, prefix):
        layer = node.operation
        if private.is_functional(layer) and masks_matter(layer, args, kwargs):
            return self.inlined(node, args, kwargs, f"{prefix}{layer.name}_")
        opens = not private.is_functional(layer) and find_rule(layer) is None
        if opens and isinstance(layer, keras.Layer):
            return self.composite(node, args, kwargs, prefix)
        return self.repeated(node, args, kwargs, prefix)
