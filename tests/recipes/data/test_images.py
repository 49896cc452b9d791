import lzma
import os
import re
import zipfile

import keras
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from data.images import MIRRORED, load
from options.cifar import Config
from running.errors import RecipeError

pytestmark = pytest.mark.once


def test_the_digits_are_all_there_and_always_split_alike():
    digits, again = load("digits"), load("digits")
    assert digits.x_train.shape == (1437, 8, 8, 1)
    assert digits.x_test.shape == (360, 8, 8, 1)
    assert digits.classes == 10
    # Stratified: 34.8 to 36.7 test images of each digit.
    assert set(np.bincount(digits.y_test)) <= {34, 35, 36, 37}
    assert_array_equal(digits.x_test, again.x_test)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "int16"])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_a_file_with_images_of_any_kind(tmp_path, arrays, dtype, channels):
    arrays = dict(arrays)
    for key in ("x_train", "x_test"):
        x = arrays[key].astype(dtype)
        arrays[key] = x if channels is None else np.stack([x] * channels, axis=-1)
    # Labels as `keras.datasets.cifar10` gives them.
    arrays["y_train"] = arrays["y_train"][:, None].astype("uint8")
    np.savez_compressed(tmp_path / "data.npz", **arrays)
    data = load(str(tmp_path / "data.npz"))
    assert data.x_train.shape == (160, 8, 8, channels or 1)
    assert data.x_train.dtype == dtype
    assert_array_equal(data.x_test[..., 0], arrays["x_test"].reshape(48, 8, 8, -1)[..., 0])
    assert_array_equal(data.y_train, arrays["y_train"][:, 0])
    assert data.classes == 10


def test_a_file_with_lzma_and_class_names(tmp_path, npz):
    with (
        zipfile.ZipFile(npz) as source,
        zipfile.ZipFile(tmp_path / "data.npz", "w", zipfile.ZIP_LZMA) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
        with target.open("class_names.npy", "w") as file:
            np.save(file, np.array([f"class {i}" for i in range(12)]))
    assert load(str(tmp_path / "data.npz")).classes == 12


BAD = {
    "missing keys": ({"y_test": None}, "Missing: y_test"),
    "labels below 0": ({"y_train": lambda y: y - 1}, "labels from -1 to 8"),
    "test labels above": ({"y_test": lambda y: y + 1}, "labels from 1 to 10"),
    "a stray label": ({"y_train": lambda y: np.where(np.arange(160) == 7, 255, y)}, "up to 255"),
    "one class": ({"y_train": lambda y: 0 * y, "y_test": lambda y: 0 * y}, "labels of C classes"),
    "labels of type float": ({"y_train": lambda y: y / 2}, "one integer for each"),
    "one-hot labels": ({"y_train": lambda y: np.eye(10, dtype=int)[y]}, "one integer for each"),
    "too few labels": ({"y_train": lambda y: y[1:]}, "one integer for each of the 160"),
    "NaN": ({"x_train": lambda x: np.where(x == 3, np.nan, x)}, "x_train has values that are NaN"),
    "infinity": ({"x_test": lambda x: np.where(x == 3, np.inf, x)}, "x_test has values"),
    "flat images": ({"x_train": lambda x: x.reshape(160, 64)}, "must hold images"),
    "no images": ({"x_test": lambda x: x[:0], "y_test": lambda y: y[:0]}, "must hold images"),
    "sizes that differ": ({"x_test": lambda x: x[:, 1:]}, "the same shape"),
    "text": ({"x_train": lambda x: x.astype(str)}, "must hold numbers"),
    "objects": ({"x_train": lambda x: x.astype(object)}, "cannot be read as .npz"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays(tmp_path, arrays, case):
    changes, message = BAD[case]
    arrays = dict(arrays)
    for key, change in changes.items():
        if change is None:
            del arrays[key]
        else:
            arrays[key] = change(arrays[key])
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(RecipeError, match=re.escape(message)):
        load(str(tmp_path / "data.npz"))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_files_with_damage(tmp_path, npz, method):
    whole, damaged = tmp_path / "whole.npz", tmp_path / "damaged.npz"
    with zipfile.ZipFile(npz) as source, zipfile.ZipFile(whole, "w", method) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    data = whole.read_bytes()
    for size in (0, 10, len(data) // 3, len(data) - 30):
        damaged.write_bytes(data[:size])
        with pytest.raises(RecipeError, match="is it complete"):
            load(str(damaged))
    damaged.write_bytes(data[:300] + bytes(200) + data[500:])
    with pytest.raises(RecipeError, match="is it complete"):
        load(str(damaged))


def test_files_that_are_something_else(tmp_path):
    with pytest.raises(RecipeError, match="there is no file"):
        load(str(tmp_path / "missing.npz"))
    np.save(tmp_path / "array.npy", np.zeros(3))
    os.rename(tmp_path / "array.npy", tmp_path / "array.npz")
    (tmp_path / "text.npz").write_text("x_train, y_train\n")
    (tmp_path / "other.npz").write_bytes(lzma.compress(b"x_train"))
    for name in ("array.npz", "text.npz", "other.npz"):
        with pytest.raises(RecipeError, match=r"cannot be read as .npz"):
            load(str(tmp_path / name))
    with pytest.raises(RecipeError, match="must be auto, digits, cifar10"):
        load("imagenet")


@pytest.fixture
def no_network(monkeypatch):
    def load_data():
        raise OSError("Name or service not known")

    for name in ("cifar10", "cifar100", "mnist", "fashion_mnist"):
        monkeypatch.setattr(getattr(keras.datasets, name), "load_data", load_data)
    monkeypatch.setenv("KERAS_HOME", "/home/someone/keras")


def test_a_named_data_set_that_cannot_be_had(no_network):
    message = "mnist.npz in datasets of /home/someone/keras"
    with pytest.raises(RecipeError, match=message) as error:
        load("mnist")
    assert "Name or service not known" in str(error.value)
    with pytest.raises(RecipeError, match="datasets/cifar-10-batches-py-target_archive"):
        load("cifar10")


def test_auto_without_cifar10_says_so(no_network):
    data = load("auto")
    assert data.name == "digits"
    assert "not CIFAR-10" in data.note
    assert "Name or service not known" in data.note
    config = Config(dataset="auto")
    # The second time as when a run is gone on with.
    for _ in range(2):
        config.choose(load(config.dataset))
        assert (config.dataset, config.dataset_note) == ("digits", data.note)


def test_auto_with_cifar10(monkeypatch, arrays):
    pair = (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: pair)
    data = load("auto")
    assert (data.name, data.note) == ("cifar10", None)
    config = Config(dataset="auto", batch_size=1)
    config.choose(data)
    assert config.dataset in MIRRORED
    assert_array_equal(data.x_train[..., 0], arrays["x_train"])


def test_wrong_labels(tmp_path, arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    data = load(str(tmp_path / "data.npz"))
    few, more = (data.reduced(None, 1, share) for share in (0.25, 0.5))
    wrong = [images.y_train != arrays["y_train"] for images in (few, more)]
    assert [each.sum() for each in wrong] == [40, 80]
    assert_array_equal(wrong[0] & wrong[1], wrong[0])
    assert_array_equal(few.y_train[wrong[0]], more.y_train[wrong[0]])
    assert set(more.y_train[wrong[1]]) == set(range(10))
    assert_array_equal(more.y_test, data.y_test)
    assert_array_equal(data.reduced(None, 1, 1.0).y_train != data.y_train, True)
    assert_array_equal(data.y_train, arrays["y_train"])


def test_fewer_and_smaller_images(tmp_path, arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    data = load(str(tmp_path / "data.npz"))
    less = data.reduced(50, 3)
    # 8 pixels are two times 3, and 2 that are left out.
    assert (less.x_train.shape, less.x_test.shape) == ((50, 2, 2, 1), (48, 2, 2, 1))
    assert less.x_test[5, 1, 0, 0] == pytest.approx(data.x_test[5, 3:6, :3, 0].mean())
    # They are all different ones, with their labels, and always the same.
    chosen = data.reduced(50, 1)
    found = [
        np.flatnonzero((data.x_train == image).all(axis=(1, 2, 3)) & (data.y_train == label))
        for image, label in zip(chosen.x_train, chosen.y_train)
    ]
    assert all(len(each) for each in found)
    assert len({each[0] for each in found}) == 50
    assert_array_equal(chosen.x_train, data.reduced(50, 1).x_train)
    assert_array_equal(data.reduced(None, 1).x_train, data.x_train)
    for arguments, message in (
        ((161, 1), "--train-images must be 1 to 160"),
        ((0, 1), "--train-images must be 1 to 160"),
        ((None, 9), "--shrink must be 1 to 8"),
        ((None, 0), "--shrink must be 1 to 8"),
    ):
        with pytest.raises(RecipeError, match=message):
            data.reduced(*arguments)
