"""What linear units of each layer save, by closed forms and in an engine whose clock is told."""

import json

import keras
import numpy as np
import pytest
from keras import layers

from keras_nladv import (
    LinearizationSchedule,
    NonlinearitySparsity,
    SparsePReLU,
    collapse,
    pressure_weights,
    register_engine,
    sparsify,
)
from keras_nladv.engines import Engine
from keras_nladv.merging import PressureWeights
from keras_nladv.merging.part import Part

pytestmark = pytest.mark.once

SHARES = (0.5, 0.75, 0.9, 1.0)


def feed_forward(*widths, size=8, activation="gelu"):
    inputs = x = keras.Input((size,))
    for number, width in enumerate(widths):
        x = layers.Dense(width, activation=activation, name=f"wide_{number}")(x)
        x = layers.LayerNormalization()(layers.Dense(size, name=f"narrow_{number}")(x))
    return sparsify(keras.Model(inputs, x))


def cost(width, share, size=8):
    """Multiplications of a feed-forward block, with a direct layer if it has linear units."""
    linear = int(share * width)
    return 2 * size * (width - linear) + (size * size if linear else 0)


def mean_saved(width, size=8):
    saved = [max(cost(width, 0) - cost(width, share), 0) / (share * width) for share in SHARES]
    return np.mean(saved)


def units(model):
    return [layer for layer in model.layers if isinstance(layer, SparsePReLU)]


def test_operations_of_feed_forward_blocks():
    """By the closed form: a wide one, a narrow one, and one where nothing can be saved."""
    model = feed_forward(80, 20, 4)
    # It is asked for what could be, whatever is.
    model.layers[2].alpha.assign(np.ones(80))
    weights = pressure_weights(model, by="operations")
    saves = np.array([mean_saved(width) for width in (80, 20, 4)])
    assert saves[2] == 0 < saves[1] < saves[0]
    names = ["wide_0_activation", "wide_1_activation", "wide_2_activation"]
    assert list(weights) == names
    np.testing.assert_allclose([*weights.values()], saves / saves.mean())
    np.testing.assert_allclose([row["saves"] for row in weights.rows], saves)
    assert [row["units"] for row in weights.rows] == [80, 20, 4]
    assert [row["reason"] for row in weights.rows] == ["", "", "it does not pay"]
    assert weights.setting == {}
    assert json.loads(json.dumps(weights)) == dict(weights)
    title, _, *lines = str(weights).splitlines()
    assert "multiplications saved by a unit" in title
    assert [line.split()[0] for line in lines] == names
    LinearizationSchedule(0.1, weights=weights)


def test_what_is_predicted_is_what_collapsing_saves(tmp_path):
    model = feed_forward(80, 20)
    made = pressure_weights(model, by="operations")
    made.save(tmp_path / "weights.json")
    weights = PressureWeights.load(tmp_path / "weights.json")
    assert weights == made
    assert (weights.rows, weights.by, weights.setting) == (made.rows, made.by, made.setting)
    assert weights.saved(model) == 0

    def multiplications(model):
        return sum(np.prod(x.kernel.shape) for x in model.layers if isinstance(x, layers.Dense))

    for shares in ((0.5, 0.75), (0.9, 0.0), (1.0, 1.0)):
        for layer, share in zip(units(model), shares):
            number = layer.alpha.shape[0]
            linear = np.random.default_rng(0).permutation(number) < int(share * number)
            layer.alpha.assign(linear.astype("float32"))
        saved = 16 * 100 - multiplications(collapse(model, cost="macs"))
        assert weights.saved(model) == pytest.approx(saved)
    with pytest.raises(ValueError, match=r"without 'wide_1_activation'"):
        weights.saved(feed_forward(80))
    for content in ("{}", '{"version": 2}', "[", '{"version": 1, "parts": [1]}'):
        (tmp_path / "weights.json").write_text(content)
        with pytest.raises(ValueError, match=r"JSON file that `PressureWeights.save` wrote"):
            PressureWeights.load(tmp_path / "weights.json")


def inverted_residual(share_around_depthwise):
    inputs = keras.Input((6, 6, 4))
    x = layers.Conv2D(48, 1, activation="relu6")(inputs)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu6")(x)
    x = layers.Add()([layers.Conv2D(4, 1)(x), inputs])
    return sparsify(keras.Model(inputs, x), share_around_depthwise=share_around_depthwise)


def test_units_on_both_sides_of_a_depthwise_convolution():
    """One slope for both sides saves what two save together."""
    (one,) = pressure_weights(inverted_residual(True), by="operations").rows
    apart = inverted_residual(False)
    weights = pressure_weights(apart, by="operations")
    assert [row["saves"] for row in weights.rows] == [pytest.approx(one["saves"] / 2)] * 2
    # 48 channels at 36 positions: 4 + 9 + 4 multiplications each, or 16 * 9 for all of them.
    expected = [
        36 * max(48 * 17 - (48 - linear) * 17 - 16 * 9, 0) / (share * 48)
        for share, linear in zip(SHARES, (24, 36, 43, 48))
    ]
    # With the constant that the bias comes to at borders, computed for one channel more.
    assert one["saves"] == pytest.approx(np.mean(expected), rel=0.3)
    first, second = units(apart)
    first.alpha.assign(np.ones(48))
    assert weights.saved(apart) == 0
    second.alpha.assign(np.arange(48) % 4 > 0)
    assert weights.saved(apart) > 0


def test_what_cannot_be_merged_has_a_reason_and_no_weight():
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(inputs)
    x = layers.Conv2D(64, 3, padding="same", activation="relu", name="second")(x)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1, name="third")(x))
    model = sparsify(keras.Model(inputs, x))
    first, second = pressure_weights(model, by="operations").rows
    assert (first["weight"], second["weight"]) == (0, 2)
    assert first["reason"].startswith("borders")
    model = sparsify(keras.Sequential([inputs, model.get_layer("first"), layers.ReLU(name="end")]))
    with pytest.raises(ValueError, match=r"save no multiplications, .* end: it is an output"):
        pressure_weights(model, by="operations")


def test_one_slope_for_a_layer():
    inputs = keras.Input((8,))
    whole = SparsePReLU(alpha_regularizer=NonlinearitySparsity(0.0), granularity="layer")
    x = layers.Dense(8)(whole(layers.Dense(80)(inputs)))
    other = layers.PReLU(alpha_regularizer=NonlinearitySparsity(0.0), name="other")
    x = layers.Dense(8)(other(layers.Dense(40)(layers.LayerNormalization()(x))))
    model = keras.Model(inputs, x)
    weights = pressure_weights(model, by="operations")
    assert weights.rows[0]["saves"] == cost(80, 0) - 64
    assert weights.rows[1]["saves"] == pytest.approx(mean_saved(40))
    whole.alpha.assign(1.0)
    assert weights.saved(model) == cost(80, 0) - 64


def test_what_is_not_pressed_saves_nothing():
    """Linear layers in a row are merged by `collapse`, however many units are linear."""
    inputs = keras.Input((8,))
    x = layers.Dense(8)(layers.Dense(80)(inputs))
    x = layers.Dense(8)(layers.ReLU()(layers.Dense(40)(layers.LayerNormalization()(x))))
    units = SparsePReLU(alpha_regularizer=NonlinearitySparsity(0.0))
    x = layers.Dense(8)(units(layers.Dense(20)(layers.LayerNormalization()(x))))
    model = keras.Model(inputs, x)
    weights = pressure_weights(model, by="operations")
    assert weights.rows[0]["saves"] == pytest.approx(mean_saved(20))
    assert weights.saved(model) == 0
    units.alpha.assign(np.ones(20))
    assert weights.saved(model) == cost(20, 0) - 64


def test_channels_in_blocks_are_those_of_the_engine(monkeypatch, clock):
    """Where it is time that counts: 18 of 24 that are not linear are 20 there."""
    monkeypatch.setattr(Engine, "__call__", lambda self, inputs: self.run([inputs]))
    monkeypatch.setattr(Clocked, "clock", clock, raising=False)
    monkeypatch.setattr(Clocked, "multiple", 20)
    register_engine("clocked", Clocked)
    inputs = keras.Input((1, 1, 4))
    x = layers.Conv2D(24, 1, activation="relu")(inputs)
    model = sparsify(keras.Model(inputs, layers.Conv2D(4, 1)(x)))

    def saves(**options):
        (row,) = pressure_weights(model, **options).rows
        return row["saves"]

    def mean(blocks):
        left = [24 - int(share * 24) for share in SHARES]
        left = [min(-(-each // blocks) * blocks, 24) for each in left]
        saved = [8 * 24 - 8 * each - 16 for each in left]
        return np.mean([max(each, 0) / (share * 24) for each, share in zip(saved, SHARES)])

    assert saves(by="operations", engine="clocked") == pytest.approx(mean(1))
    assert saves(engine="clocked") == pytest.approx(1e-3 * mean(20))


def test_slopes_of_other_granularity():
    """Of a model with layers of the same names: one slope is that of all channels."""
    part = Part((("units", 2), ("others", 1)), {0.5: 3.0, 1.0: 5.0})
    units, others = SparsePReLU(granularity="layer"), SparsePReLU()
    for layer in (units, others):
        layer.build((None, 4))
    known = {"units": units, "others": others}
    assert part.saved_now(known) == 0.0
    units.alpha.assign(1.0)
    for linear, saved in ((0, 0.0), (1, 1.5), (2, 3.0), (3, 4.0), (4, 5.0)):
        others.alpha.assign(np.arange(4) < linear)
        assert part.saved_now(known) == saved


class Clocked(Engine):
    """Takes a microsecond for each multiplication, and a thousand for each call, on its clock."""

    name = "clocked"
    packages = dict.fromkeys(("jax", "torch", "tensorflow"), ("keras",))
    threads_seen: set = set()  # noqa: RUF012

    def convert(self, model):
        self.threads_seen.add((self.threads, self.batch_size))
        kernels = [np.prod(x.kernel.shape) for x in model.layers if hasattr(x, "kernel")]
        self.seconds = 1e-3 + 1e-6 * sum(kernels)

    def run(self, arrays):
        self.clock.now += self.seconds
        return []


def test_time_in_an_engine(monkeypatch, clock):
    monkeypatch.setattr(Engine, "__call__", lambda self, inputs: self.run([inputs]))
    monkeypatch.setattr(Clocked, "clock", clock, raising=False)
    register_engine("clocked", Clocked)
    Clocked.threads_seen.clear()
    model = feed_forward(80, 20, 4)
    weights = pressure_weights(model, engine="clocked", threads=2, batch_size=3)
    saves = np.array([mean_saved(width) for width in (80, 20, 4)])
    np.testing.assert_allclose([*weights.values()], saves / saves.mean(), rtol=1e-6)
    # In milliseconds.
    np.testing.assert_allclose([row["saves"] for row in weights.rows], 1e-3 * saves, rtol=1e-6)
    assert Clocked.threads_seen == {(2, 3)}
    assert (weights.by, weights.setting["engine"]) == ("time", "clocked")
    assert "ms saved by a unit" in str(weights)


def test_bad_arguments():
    model = feed_forward(20)
    for wrong, message in (
        ({"by": "macs"}, '`by` must be "time" or "operations"'),
        ({"engine": "tpu"}, "`engine` must be one of"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1"),
        ({"threads": 0}, "`threads` must be an integer of at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            pressure_weights(model, **wrong)
    plain = keras.Sequential([keras.Input((8,)), layers.Dense(4, "relu"), layers.Dense(4)])
    with pytest.raises(ValueError, match=r"`model` must have units that are pressed.*`sparsify`"):
        pressure_weights(plain)
