import keras
import pytest
from keras import layers, ops

from keras_nladv._copying.names import Names
from keras_nladv._keras import private

pytestmark = pytest.mark.once


def test_operations_get_another_name_than_layers_and_each_other():
    inputs, dense = keras.Input((3,)), layers.Dense(3, name="same")
    first = ops.abs(inputs)
    last = ops.tanh(dense(first))
    operations = [private.producer(first), private.producer(last)]
    for operation in operations:
        operation.name = "same"
    Names().tell_apart([inputs], [last])
    assert dense.name == "same"
    assert len({dense.name, *(operation.name for operation in operations)}) == 3


def test_an_output_that_is_put_out_twice_has_the_first_of_its_names():
    inputs, dense = keras.Input((3,)), layers.Dense(3)
    outputs = dense(inputs)
    Names().name_outputs(["first", "second"], [inputs], [outputs, outputs])
    assert dense.name == "first"
