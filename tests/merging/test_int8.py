"""What is collapsed and then quantized."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.datasets import load_digits

from keras_nladv import CollapsePlan, SparsePReLU, collapse, collapse_plan, sparsify
from keras_nladv.engines import LiteRT
from keras_nladv.merging.linear_map import LinearMap
from keras_nladv.merging.surgeon import Surgeon
from tests.cases import usable

LAST, RIDGE = 360, 0.1


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    return images.reshape(-1, 8, 8, 1).astype("float32") / 16, labels


@pytest.fixture(scope="module")
def pressed(digits):
    """A residual block and a feed-forward layer, three quarters linear; only its last layer fits
    the digits, by least squares with a ridge, which takes no time."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    x = shortcut = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(inputs)
    x = layers.Conv2D(96, 1, activation="relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(x)
    x = layers.Add(name="sum")([layers.Conv2D(16, 1, name="project")(x), shortcut])
    x = layers.Dense(512, activation="gelu", name="wide")(layers.Flatten()(x))
    x = layers.Dense(64, name="features")(x)
    model = sparsify(
        keras.Model(inputs, layers.Dense(10, name="scores")(x)), share_around_depthwise=True
    )
    for layer in model.layers:
        if isinstance(layer, SparsePReLU):
            layer.alpha.assign(np.arange(layer.alpha.shape[0]) % 4 > 0)
    images, labels = digits
    features = keras.Model(model.input, model.get_layer("features").output)
    known = np.pad(
        keras.ops.convert_to_numpy(features(images)), ((0, 0), (0, 1)), constant_values=1
    )
    known, targets = known[:-LAST], np.eye(10)[labels[:-LAST]]
    solved = np.linalg.solve(known.T @ known + RIDGE * np.eye(65), known.T @ targets)
    model.get_layer("scores").set_weights([solved[:-1], solved[-1]])
    return model


def outputs(model, images):
    return keras.ops.convert_to_numpy(model(images[-LAST:]))


def accuracy(received, labels):
    return np.mean(received.argmax(axis=1) == labels[-LAST:])


@pytest.mark.once
def test_quantized_by_keras(digits, pressed):
    images, labels = digits
    collapsed = collapse(pressed, cost="macs")
    before = outputs(collapsed, images)
    assert accuracy(before, labels) > 0.85
    with warnings.catch_warnings():
        # Of layers that Keras does not quantize.
        warnings.simplefilter("ignore")
        collapsed.quantize("int8")
    names = [x.name for x in collapsed.layers if getattr(x, "quantization_mode", None) == "int8"]
    assert names == ["wide", "features", "features_direct", "scores"]
    # Half a point is 1.8 of the images.
    assert accuracy(outputs(collapsed, images), labels) >= accuracy(before, labels) - 0.005


@pytest.mark.once
def test_a_shortcut_in_a_kernel_is_kept_apart(pressed):
    """Ones among small numbers: they take the range of the others."""

    def kernel_of(model):
        (layer,) = (x for x in model.layers if x.name in ("sum_direct", "project_direct"))
        return keras.ops.convert_to_numpy(layer.kernel)

    def lost(kernel):
        scale = np.abs(kernel).max(axis=(0, 1, 2)) / 127
        return np.linalg.norm(np.round(kernel / scale) * scale - kernel) / np.linalg.norm(kernel)

    kernels = []
    for for_int8 in (False, True):
        # It is asked for.
        options = {"for_int8": True} if for_int8 else {}
        plan = collapse_plan(pressed, cost="macs", verbose=False, **options)
        (reason,) = (row["reason"] for row in plan.rows if row["name"].endswith("project + sum"))
        assert reason.startswith("in int8 a kernel loses") == for_int8
        kernels.append(kernel_of(collapse(pressed, cost="macs", **options)))
        np.testing.assert_array_equal(kernel_of(collapse(pressed, plan)), kernels[-1])
    together, apart = map(lost, kernels)
    assert apart < 0.75 * together
    np.testing.assert_allclose(
        LinearMap.of(kernels[0][..., None, :, :], np.zeros(16)).lost_in_int8, together
    )


@pytest.mark.once
def test_nothing_is_not_more_than_nothing():
    """Kernels of which nothing is lost are merged to another."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(6)])
    model.add(SparsePReLU(alpha_initializer="ones"))
    model.add(layers.Dense(2))
    for layer in model.layers[::2]:
        layer.kernel.assign(np.full(layer.kernel.shape, 127.0))
    plan = collapse_plan(model, cost="macs", for_int8=True, verbose=False)
    assert [row["outcome"] for row in plan.rows] == ["taken"]


def test_dynamic_range_in_litert(digits, pressed, tmp_path):
    usable(LiteRT)
    images, labels = digits
    collapsed = collapse(pressed, cost="macs", for_int8=True)
    whole, small = (
        LiteRT(collapsed, batch_size=LAST, dynamic_range=each) for each in (False, True)
    )
    before, after = (network(images[-LAST:]) for network in (whole, small))
    assert 0 < np.abs(after - before).max() < 0.05 * np.abs(before).max()
    assert accuracy(after, labels) >= accuracy(before, labels) - 0.005
    small.save(tmp_path / "small.tflite")
    assert (tmp_path / "small.tflite").stat().st_size < 0.5 * len(whole.content)


def test_what_int8_cannot_hold_leaves_no_file_in_litert():
    """Of a network that was said to stay in float32."""
    usable(LiteRT)
    inputs = keras.Input((8, 8, 32))
    x = SparsePReLU(activation="relu6", name="units")(layers.Conv2D(64, 1)(inputs))
    model = keras.Model(inputs, layers.Conv2D(32, 1)(x))
    model.get_layer("units").alpha.assign(np.arange(64) % 2)
    setting = {"engine": "litert", "for_int8": False}
    stays = collapse(model, CollapsePlan([], Surgeon(model).fingerprint(), "time", setting))
    LiteRT(stays, batch_size=1)
    match = "something else in litert.*Nothing is kept.*`for_int8=True`"
    with pytest.raises(ValueError, match=match):
        LiteRT(stays, batch_size=1, dynamic_range=True)
