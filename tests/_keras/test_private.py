import keras
import pytest
from keras import layers

from keras_nladv._keras import private

pytestmark = pytest.mark.once


def test_a_name_that_has_moved_is_found(monkeypatch):
    """Of several places, the first that this version has counts."""
    for what in ("get_mask", "set_mask", "autocast"):
        place = private.PLACES[what][0]
        monkeypatch.setitem(private.PLACES, what, ("src.gone.entirely", place))
    tensor = keras.Input((3,))
    mask = keras.ops.ones((1, 3), "bool")
    assert private.mask_of(private.with_mask(tensor, mask)) is mask
    with private.without_autocast():
        pass


ATTENTION = layers.MultiHeadAttention(1, 2)
ATTENTION(*2 * [keras.Input((3, 4))])
OWNERS = {
    **dict.fromkeys(
        ("get_mask", "set_mask", "autocast", "get_global", "set_global", "Functional"), keras
    ),
    "array functions": keras,
    "graph": keras.Sequential([keras.Input((3,)), layers.Dense(2)]),
    "output_shape": layers.Lambda(abs),
    **dict.fromkeys(("operation", "call"), keras.Input((3,))),
    **dict.fromkeys(("query", "key", "value", "output"), ATTENTION),
}
INPUT = keras.Input((3,))
MODEL = keras.Model(INPUT, layers.Dense(2)(INPUT))


@pytest.mark.parametrize("what", private.PLACES)
def test_each_name_is_there_and_said_where_it_is_not(what, monkeypatch):
    owner = OWNERS.get(what, MODEL)
    private.read(owner, what)
    monkeypatch.setitem(private.PLACES, what, ("_gone", "_long_gone"))
    with pytest.raises(ImportError, match=r"_gone or _long_gone.*Keras 3\.10 to 3\.16"):
        private.read(owner, what)
