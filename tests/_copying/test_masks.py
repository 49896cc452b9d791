import keras
import pytest
from keras import layers

from keras_nladv._copying.masks import given_masks, masked_tensors, masks_matter
from keras_nladv._keras import private

pytestmark = pytest.mark.once


class Scaling(layers.Layer):
    """A block of a user, which passes masks on."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.dense = layers.Dense(4, activation="relu")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x, times=1.0, mask=None):
        return times * self.dense(x)


def masked(shape=(2, 5, 4)):
    return private.with_mask(keras.KerasTensor(shape), keras.KerasTensor(shape[:2], "bool"))


def test_masks_are_those_of_tensors():
    x = masked()
    assert given_masks(Scaling(), (x, 2.0), {}) == {"mask": private.mask_of(x)}
    assert given_masks(Scaling(), (keras.KerasTensor((2, 5, 4)), 2.0), {}) == {}
    y = masked()
    given = given_masks(layers.Attention(), ([x, y],), {})
    assert given == {"mask": [private.mask_of(x), private.mask_of(y)]}
    given = given_masks(layers.MultiHeadAttention(2, 2), (x, y), {})
    assert given == {"query_mask": private.mask_of(x), "value_mask": private.mask_of(y)}


def test_what_masks_are_masks_of():
    x, y, z = masked(), masked(), keras.KerasTensor((2, 5, 4))
    free = keras.KerasTensor((2, 5), "bool")

    def owner_of(mask, layer, /, *args, **kwargs):
        return masked_tensors(layer, args, kwargs).get(id(mask))

    assert owner_of(private.mask_of(x), Scaling(), x) is x
    assert owner_of(free, Scaling(), z, mask=free) is z
    assert owner_of(free, Scaling(), z, 2.0, free) is z
    attention = layers.MultiHeadAttention(2, 2)
    assert owner_of(free, attention, x, z, value_mask=free) is z
    assert owner_of(private.mask_of(y), attention, x, y) is y
    assert owner_of(free, attention, x, y, attention_mask=free) is None
    assert owner_of(free, layers.Attention(), [x, z], mask=[None, free]) is z
    assert owner_of(free, layers.Attention(), [x, z], mask=free) is None


def test_masks_matter_to_what_may_be_opened():
    plain = keras.Sequential([keras.Input((5, 4)), layers.Dense(4, activation="relu")])
    blocks = keras.Sequential([keras.Input((5, 4)), Scaling()])
    assert masks_matter(blocks, (masked(),), {})
    assert not masks_matter(blocks, (keras.KerasTensor((2, 5, 4)),), {})
    assert masks_matter(blocks, (keras.KerasTensor((2, 5, 4)),), {"mask": masked()})
    assert not masks_matter(plain, (masked(),), {})
