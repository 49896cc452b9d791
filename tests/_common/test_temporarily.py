from types import SimpleNamespace

import pytest

from keras_nladv._common.temporarily import temporarily

pytestmark = pytest.mark.once


def test_attributes_come_back_whatever_happens():
    one, two = SimpleNamespace(a=1, b=2), SimpleNamespace(a=3, b=4)

    def changed():
        with temporarily([one, two], a=5, b=None):
            assert vars(one) == vars(two) == {"a": 5, "b": None}
            raise KeyError

    with pytest.raises(KeyError):
        changed()
    assert (vars(one), vars(two)) == ({"a": 1, "b": 2}, {"a": 3, "b": 4})
