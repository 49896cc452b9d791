"""`collapse` of random networks: whatever is merged, the function stays."""

import contextlib

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from keras_nladv import SparsePReLU, collapse, collapse_plan
from keras_nladv.merging.surgeon import Surgeon

from .test_collapse import difference, paying_everything, randomized

pytestmark = pytest.mark.once

# TensorFlow on a CPU has neither.
FIRST_AND_GROUPS = keras.backend.backend() != "tensorflow"
SIZE = 12


def drawn_network(draw):
    """Blocks of maps and activations of any geometry, with shortcuts where they fit."""
    rank = draw(st.integers(0, 3))
    first = FIRST_AND_GROUPS and rank > 0 and draw(st.booleans())
    axis = 1 if first else -1
    common = {"data_format": "channels_first" if first else "channels_last"}
    sizes = [draw(st.sampled_from([SIZE, None]))] * rank
    channels = draw(st.integers(1, 4))

    def convolved(x, size):
        strides = draw(st.sampled_from([1, 1, 2]))
        dilation = draw(st.sampled_from([1, 1, 2])) if strides == 1 else 1
        taps = draw(st.sampled_from([1, 1, 2, 3]))
        extent = dilation * (taps - 1)
        padding = draw(st.sampled_from(["same", "valid"])) if extent < size else "same"
        size = -(-(size if padding == "same" else size - extent) // strides)
        options = {
            **common,
            "strides": strides,
            "dilation_rate": dilation,
            "padding": padding,
            "use_bias": draw(st.booleans()),
        }
        if rank < 3 and draw(st.integers(0, 2)) == 0:
            options["depth_multiplier"] = draw(st.sampled_from([1, 1, 2]))
            if draw(st.booleans()):
                return getattr(layers, f"DepthwiseConv{rank}D")(taps, **options)(x), size
            filters = draw(st.integers(2, 8))
            return getattr(layers, f"SeparableConv{rank}D")(filters, taps, **options)(x), size
        grouped = FIRST_AND_GROUPS and x.shape[axis] % 2 == 0 and draw(st.booleans())
        options["groups"] = 2 if grouped else 1
        filters = draw(st.integers(1, 4)) * options["groups"]
        return getattr(layers, f"Conv{rank}D")(filters, taps, **options)(x), size

    def called(x, size):
        kind = draw(st.sampled_from(["map", "map", "pad", "norm", "units", "units"]))
        if kind == "units":
            activation = draw(st.sampled_from(["relu", "relu6", "gelu", "silu"]))
            return SparsePReLU(axis=axis, activation=activation)(x), size
        if kind == "norm":
            return layers.BatchNormalization(axis=axis)(x), size
        if rank == 0:
            activation = draw(st.sampled_from(["linear", "relu"]))
            return layers.Dense(draw(st.integers(1, 8)), activation=activation)(x), size
        if kind == "map":
            return convolved(x, size)
        padding = draw(st.integers(0, 2))
        return getattr(layers, f"ZeroPadding{rank}D")(padding, **common)(x), size + 2 * padding

    x = inputs = keras.Input((channels, *sizes) if first else (*sizes, channels))
    size = SIZE
    for _ in range(draw(st.integers(1, 3))):
        entry, entry_size = x, size
        for _ in range(draw(st.integers(1, 4))):
            x, size = called(x, size)
        if x.shape == entry.shape and size == entry_size and x is not entry:
            x = layers.Add()([x, entry])
    return keras.Model(inputs, x)


@settings(max_examples=15)
@given(st.data(), st.sampled_from([0.5, 0.9, 1.0]), st.integers(0, 1000), st.booleans())
def test_random_networks(data, share, seed, all_of_it):
    model = randomized(drawn_network(data.draw), share, seed, slopes=(0.0, 0.0, 0.25))
    with paying_everything() if all_of_it else contextlib.nullcontext():
        plan = collapse_plan(model, cost="macs", size=SIZE, verbose=False)
        plan.setting["engine"] = data.draw(st.sampled_from(["keras", "onnxruntime", "openvino"]))
        surgeon = Surgeon(model)
        surgeon.prefer_for(plan.setting["engine"])
        for names in plan.taken:
            surgeon.carry_out([each for each in surgeon.candidates() if each.name in names])
        forms = [each.name for each in surgeon.forms()]
        for name in data.draw(st.lists(st.sampled_from(forms), max_size=1)) if forms else ():
            round_ = len(plan.taken) + 1
            plan.rows.append({"round": round_, "name": name, "outcome": "taken"})
        collapsed = collapse(model, plan, size=SIZE)
    shape = [2, *(SIZE if n is None else n for n in model.input_shape[1:])]
    assert difference(model, collapsed, shape, seed) < 1e-4
    assert not any(isinstance(layer, SparsePReLU) for layer in collapsed.layers)
