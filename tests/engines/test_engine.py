"""What engines ask for, and what they write."""

import sys

import keras
import numpy as np
import pytest
from keras import layers

from keras_nladv import engines, register_engine
from keras_nladv.engines import find_engine

from ..precision import watched

pytestmark = pytest.mark.once


class Hand(engines.Engine):
    """An engine whose networks are the Keras models, and whose files hold two words."""

    name = "hand"
    packages = dict.fromkeys(("jax", "torch", "tensorflow"), ("keras",))
    suffix = ".hand"
    others = (".more",)

    def convert(self, model):
        self.model = model

    def run(self, arrays):
        outputs = keras.tree.flatten(self.model(*arrays))
        return [keras.ops.convert_to_numpy(x) for x in outputs]

    def write(self, path):
        path.write_text("whole")
        path.with_suffix(".more").write_text("too")


def model(dtype=None):
    return keras.Sequential([keras.Input((4,), dtype=dtype), layers.Dense(3)])


def test_factors_are_not_rounded():
    """A card does that, where an engine on a processor does not."""
    with watched() as (watch, seen):
        model = keras.Sequential([keras.Input((4,)), watch, layers.Dense(3)])
        seen.clear()
        Hand(model, verify=True)
        assert seen
        assert not any(seen)


def test_unknown_engines():
    with pytest.raises(ValueError, match=r"'keras', 'onnxruntime', 'litert', 'openvino'.*'tpu'"):
        find_engine("tpu")
    for name, engine in (("", Hand), (3, Hand), ("hand", Hand(model())), ("hand", str)):
        with pytest.raises(ValueError, match="must be a s"):
            register_engine(name, engine)


def test_a_missing_package_names_its_extra(monkeypatch):
    for name, package in (("onnxruntime", "onnxruntime"), ("openvino", "openvino")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ImportError, match=rf"needs {package}.*'keras-nladv\[{name}\]'"):
            find_engine(name)
    monkeypatch.setattr(Hand, "packages", {keras.backend.backend(): ("not_there", "keras")})
    with pytest.raises(ImportError, match=r"needs not-there with .*`pip install not-there`"):
        Hand(model())


def test_other_backends(monkeypatch):
    monkeypatch.setattr(Hand, "packages", {"one": ("keras",), "two": ("keras",)})
    with pytest.raises(ValueError, match="from the backend one or two"):
        Hand(model())


@pytest.mark.parametrize("argument", ["batch_size", "size", "threads"])
def test_numbers_below_one(argument):
    with pytest.raises(ValueError, match=f"`{argument}` must be an integer of at least 1"):
        Hand(model(), **{argument: 0})


def test_models_that_no_engine_takes():
    with pytest.raises(ValueError, match="a subclassed model"):
        Hand(type("Net", (keras.Model,), {})())
    inputs = keras.Input((1,), dtype="string", name="word")
    strings = keras.Model(inputs, keras.layers.Identity()(inputs))
    with pytest.raises(ValueError, match=r"takes no strings.*input 'word' of dtype string"):
        Hand(strings)


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    network = Hand(model())
    with pytest.raises(ValueError, match=r"must end in '.hand' .* Received: path='.*x.onnx'"):
        network.save(tmp_path / "x.onnx")
    with pytest.raises(OSError, match="there is no folder"):
        network.save(tmp_path / "no" / "x.hand")
    (tmp_path / "folder.hand").mkdir()
    with pytest.raises(OSError, match="it is a folder"):
        network.save(tmp_path / "folder.hand")
    (tmp_path / "folder.hand").rmdir()
    network.save(tmp_path / "x.hand")
    files = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert files == {"x.hand": "whole", "x.more": "too"}

    def half(self, path):
        path.write_text("ha")
        raise OSError("the disk is full")

    monkeypatch.setattr(Hand, "write", half)
    for name in ("x.hand", "y.hand"):
        with pytest.raises(OSError, match="the disk is full"):
            network.save(tmp_path / name)
    assert files == {path.name: path.read_text() for path in tmp_path.iterdir()}


def test_keras_is_an_engine(tmp_path):
    small = model()
    network = engines.Keras(small, threads=1)
    x = np.ones((2, 4), "float32")
    np.testing.assert_allclose(network(x), keras.ops.convert_to_numpy(small(x)), rtol=1e-6)
    network.save(tmp_path / "small.keras")
    assert keras.models.load_model(tmp_path / "small.keras").count_params() == 15


def test_a_size_that_the_model_does_not_accept():
    inputs = keras.Input((None, 2))
    picky = keras.Model(inputs, layers.Reshape((-1, 7))(inputs))
    with pytest.raises(ValueError, match=r"could not be run on random inputs.*give a `size`"):
        Hand(picky, size=3)
    Hand(picky, size=14)
