import keras

from keras_nladv._copying.opener import Opener
from keras_nladv._copying.pointwise import fuses_activation
from keras_nladv._keras import private
from keras_nladv._keras.pass_mask import PassMask
from keras_nladv.graph.rules import find_rule
from keras_nladv.layers.sparse_prelu import SparsePReLU


class Flattener(Opener):
    """Copies a model without nesting: nested models and composite layers are opened into their
    parts, and fused activations become layers of their own."""

    opens_for = (SparsePReLU,)

    def called(self, node, args, kwargs, prefix):
        operation = node.operation
        name = prefix + operation.name
        if private.is_functional(operation):
            return self.inlined(node, args, kwargs, name + "_")
        if isinstance(operation, PassMask):
            (tensor,) = args
            return private.with_mask(tensor, kwargs["mask"])
        if fuses_activation(operation) and operation.activation is not keras.activations.linear:
            outputs = self.detached(operation, prefix)(*args, **kwargs)
            activation = operation.activation
            if isinstance(activation, keras.Layer):
                return self.copied(activation, name + "_")(outputs)
            layer = keras.layers.Activation(
                activation, name=self.names.unique(name + "_activation")
            )
            return layer(outputs)
        if private.takes_masks_off(operation):
            kwargs = _masking_queries(operation, args, kwargs)
        if isinstance(operation, keras.Layer) and find_rule(operation) is None:
            return self.composite(node, args, kwargs, prefix)
        return self.repeated(node, args, kwargs, prefix)

    def behind(self, layer, results, prefix):
        """Nothing: what is made of the copy is not trained, and knows masks without."""
        return results


def _masking_queries(layer, args, kwargs):
    """The keyword arguments of a call of attention, the mask of the queries in `attention_mask`.

    Keras reads it off the tensor as the model runs, and not what is given as `query_mask`. Behind
    what was opened there is none on it.
    """
    given = private.arguments_of(layer, args, kwargs)
    mask, others = private.mask_of(given["query"]), given.get("attention_mask")
    if mask is None or len(given["query"].shape) != 3:
        return kwargs
    if others is None:
        of_values = given.get("value_mask")
        if of_values is None:
            of_values = keras.ops.ones_like(given["value"][..., 0], dtype="bool")
        others = keras.ops.expand_dims(of_values, 1)
    both = keras.ops.logical_and(keras.ops.expand_dims(mask, -1), others)
    return {**kwargs, "attention_mask": both}
