import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from keras_nladv import NonlinearitySparsity, SparsePReLU
from tests.gradients import gradients


def value(tensor):
    return ops.convert_to_numpy(tensor)


@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=8),
    st.floats(0, 1e3),
    st.floats(0.0625, 1),
)
@settings(max_examples=40)
def test_equals_numpy(slopes, strength, power):
    # One size: JAX compiles each operation for each shape.
    slopes = np.resize(np.float32(slopes), (2, 4))
    penalty = NonlinearitySparsity(strength, power)(ops.convert_to_tensor(slopes))
    # The difference is rounded to float32.
    distance = np.abs(np.float32(1) - slopes).astype("float64")
    assert penalty.shape == ()
    np.testing.assert_allclose(
        value(penalty), strength * np.sum(distance**power), rtol=2e-6, atol=1e-30
    )


def test_is_a_sum_and_takes_variables_arrays_and_scalars():
    regularizer = NonlinearitySparsity(0.5)
    for slopes in (keras.Variable(np.zeros((2, 3))), np.zeros((2, 3)), np.zeros(6, "int32")):
        penalty = regularizer(slopes)
        assert value(penalty) == 3.0
    assert keras.backend.standardize_dtype(penalty.dtype) == "float32"  # of integers
    assert value(regularizer(np.float32(0))) == 0.5


@pytest.mark.parametrize("power", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_gradient(power, dtype):
    # The nearest neighbors of 1 too.
    epsilon = np.finfo(dtype).eps
    slopes = np.array([0, 0.5, 0.99, 1 - epsilon / 2, 1, 1 + epsilon, 1.5, -3], dtype)
    regularizer = NonlinearitySparsity(0.25, power)
    (gradient,) = gradients(lambda slopes: ops.cast(regularizer(slopes), dtype), slopes)
    distance = 1 - slopes.astype("float64")
    expected = np.zeros(8)
    pressed = distance != 0
    expected[pressed] = (
        -0.25 * power * np.sign(distance[pressed]) * np.abs(distance[pressed]) ** (power - 1)
    )
    assert gradient.dtype == dtype
    assert gradient[4] == 0
    np.testing.assert_allclose(gradient, expected, rtol=1e-5 if dtype == "float32" else 2e-3)


def test_bfloat16():
    slopes = ops.cast([0.0, 1 - 2**-8, 1.0, 1 + 2**-7], "bfloat16")
    regularizer = NonlinearitySparsity(1.0)
    penalty = regularizer(slopes)
    assert keras.backend.standardize_dtype(penalty.dtype) == "float32"
    np.testing.assert_allclose(value(penalty), 1 + 2**-4 + 2**-3.5, rtol=1e-6)


@pytest.mark.skipif(
    keras.backend.backend() == "jax",
    reason="JAX computes in float32 unless `jax_enable_x64` is set.",
)
def test_float64():
    slopes = np.array([0.1, 1 - 1e-12])
    penalty = NonlinearitySparsity(0.5)(slopes)
    assert keras.backend.standardize_dtype(penalty.dtype) == "float64"
    np.testing.assert_allclose(value(penalty), 0.5 * np.sum(np.sqrt(1 - slopes)), rtol=1e-12)


def test_strength_is_not_rounded_by_mixed_precision():
    regularizer = NonlinearitySparsity(0.001)

    class Penalty(layers.Layer):
        def __init__(self):
            super().__init__(dtype="mixed_float16")
            self.regularizer = regularizer

        def call(self, inputs):
            return self.regularizer(0 * ops.cast(inputs, "float32"))

    np.testing.assert_allclose(value(Penalty()(np.ones((1, 1)))), 0.001, rtol=1e-6)


def prelu(regularizer):
    return layers.PReLU(alpha_regularizer=regularizer)


def sparse_prelu(regularizer):
    return SparsePReLU(alpha_regularizer=regularizer)


both = pytest.mark.parametrize("activation", [prelu, sparse_prelu])


def build_model(*middle, learning_rate=0.0):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, kernel_initializer="ones")])
    for layer in middle:
        model.add(layer)
    model.add(layers.Dense(1, kernel_initializer="ones"))
    model.compile(keras.optimizers.SGD(learning_rate, momentum=0.9), "mse")
    return model


X, Y = np.ones((8, 3), "float32"), np.zeros((8, 1), "float32")
# Mean squared error of these with slopes of 0 or 1: outputs are 4 * 3.
ERROR = 144.0


@keras.saving.register_keras_serializable(package="tests")
class Traces(layers.Layer):
    """Counts how often Python runs its `call`."""

    count = 0

    def call(self, inputs):
        self.count += 1
        return inputs


class SetStrength(keras.callbacks.Callback):
    def __init__(self, find, strengths, at):
        super().__init__()
        self.find = find
        self.strengths = strengths
        if at == "begin":
            self.on_epoch_begin = self.assign
        else:
            self.on_epoch_end = self.assign

    def assign(self, epoch, logs=None):
        if epoch < len(self.strengths):
            self.find(self.model).strength = self.strengths[epoch]


@both
def test_strength_changes_between_epochs(activation):
    traces = Traces()
    model = build_model(activation(NonlinearitySparsity(0.5)), traces)
    counts = []

    def find(model):
        return model.layers[1].alpha_regularizer

    callbacks = [
        SetStrength(find, [0.5, 0.25, 0, 2], "begin"),
        keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: counts.append(traces.count)
        ),
    ]
    history = model.fit(X, Y, batch_size=4, epochs=4, callbacks=callbacks, verbose=0)
    assert history.history["loss"] == [ERROR + 4 * omega for omega in [0.5, 0.25, 0, 2]]
    # At the end of an epoch as well, and between calls of `fit`.
    callbacks[0] = SetStrength(find, [4, 8], "end")
    history = model.fit(X, Y, batch_size=4, epochs=3, callbacks=callbacks, verbose=0)
    assert history.history["loss"] == [ERROR + 4 * omega for omega in [2, 4, 8]]
    find(model).strength = 1
    assert model.evaluate(X, Y, batch_size=4, verbose=0) == ERROR + 4

    if keras.backend.backend() != "torch":  # where nothing is traced: Python runs every step
        assert len(set(counts)) == 1
        # The counter does count.
        model.compile(keras.optimizers.SGD(0.0), "mse")
        model.fit(X, Y, batch_size=4, callbacks=callbacks[1:], verbose=0)
        assert counts[-1] > counts[0]


@both
def test_strength_changes_within_an_epoch(activation):
    """When the callback reaches the regularizer through `self.model`."""
    model = build_model(activation(NonlinearitySparsity(0.0)))

    class EveryBatch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.layers[1].alpha_regularizer.strength = float(batch)

    history = model.fit(X, Y, batch_size=2, callbacks=[EveryBatch()], verbose=0)
    assert history.history["loss"] == [ERROR + 4 * np.mean([0, 1, 2, 3])]
    assert model.layers[1].alpha_regularizer.strength == 3


@both
def test_presses_slopes_to_1(activation):
    model = build_model(activation(NonlinearitySparsity(0.0)), learning_rate=0.05)
    # Positive inputs: nothing else moves the slopes.
    model.layers[0].trainable = model.layers[2].trainable = False
    model.compile(keras.optimizers.SGD(0.05), "mse")
    alpha = model.layers[1].alpha
    model.fit(X, Y, epochs=3, verbose=0)
    np.testing.assert_array_equal(value(alpha.value), np.zeros(alpha.shape))
    model.layers[1].alpha_regularizer.strength = 1.0
    model.fit(X, Y, epochs=3, verbose=0)
    slopes = 0.0
    for _ in range(3):
        slopes += 0.05 * 0.5 / math.sqrt(1 - slopes)
    np.testing.assert_allclose(value(alpha.value), np.full(alpha.shape, slopes), rtol=1e-5)


@pytest.mark.once
def test_shared_between_layers():
    regularizer = NonlinearitySparsity(0.5)
    model = build_model(prelu(regularizer), sparse_prelu(regularizer), sparse_prelu(regularizer))
    history = model.fit(X, Y, epochs=1, verbose=0)
    regularizer.strength = 1.0
    history = [history, model.fit(X, Y, epochs=1, verbose=0)]
    assert [h.history["loss"] for h in history] == [[ERROR + 6], [ERROR + 12]]
    strengths = [v for v in model.non_trainable_variables if v.name == "strength"]
    assert len(strengths) == 1


@both
def test_is_no_weight(activation):
    bare, regularized = (
        build_model(activation(None)),
        build_model(activation(NonlinearitySparsity(0.5))),
    )
    assert regularized.count_params() == bare.count_params()
    assert len(regularized.get_weights()) == len(bare.get_weights())
    regularized.set_weights(bare.get_weights())
    bare.set_weights(regularized.get_weights())
    assert regularized.non_trainable_weights == []
    assert NonlinearitySparsity(0.5).weights == []


@both
@pytest.mark.parametrize("regularized_first", [True, False])
def test_weight_files_do_not_depend_on_it(activation, regularized_first, tmp_path):
    regularizers = [NonlinearitySparsity(0.5), None][:: 1 if regularized_first else -1]
    models = [build_model(activation(regularizer)) for regularizer in regularizers]
    alpha = models[0].layers[1].alpha
    alpha.assign(np.arange(4.0))
    for extension in ("weights.h5", "keras"):
        file = str(tmp_path / f"model.{extension}")
        models[0].save(file) if extension == "keras" else models[0].save_weights(file)
        models[1].layers[1].alpha.assign(np.zeros(4))
        models[1].load_weights(file)
        np.testing.assert_array_equal(value(models[1].layers[1].alpha.value), np.arange(4.0))
    for model, regularizer in zip(models, regularizers, strict=True):
        assert regularizer is None or model.layers[1].alpha_regularizer.strength == 0.5


@both
def test_saved_models_and_clones_have_the_strength_of_the_moment(activation, tmp_path):
    model = build_model(activation(NonlinearitySparsity(0.1, power=0.25)))
    model.layers[1].alpha_regularizer.strength = 0.3
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    clone = keras.models.clone_model(model)
    for other in (loaded, clone):
        regularizer = other.layers[1].alpha_regularizer
        assert regularizer is not model.layers[1].alpha_regularizer
        assert (regularizer.strength, regularizer.power) == (0.3, 0.25)
        np.testing.assert_allclose(value(other.losses[0]), 1.2, rtol=1e-6)
        regularizer.strength = 0.0
        assert value(other.losses[0]) == 0
    assert model.layers[1].alpha_regularizer.strength == 0.3


def test_config():
    regularizer = NonlinearitySparsity(0.1, power=0.25)
    config = keras.regularizers.serialize(regularizer)
    assert config["config"] == {"strength": 0.1, "power": 0.25}
    for other in (
        keras.regularizers.get(config),
        keras.regularizers.deserialize(config),
        NonlinearitySparsity.from_config(regularizer.get_config()),
    ):
        assert type(other) is NonlinearitySparsity
        assert other is not regularizer
        assert other.get_config() == {"strength": 0.1, "power": 0.25}
    assert keras.regularizers.get(regularizer) is regularizer
    assert NonlinearitySparsity(1).get_config() == {"strength": 1.0, "power": 0.5}


def test_numpy_numbers():
    regularizer = NonlinearitySparsity(np.float32(0.25), power=np.float64(0.5))
    regularizer.strength = np.int64(2)
    assert regularizer.get_config() == {"strength": 2.0, "power": 0.5}
    assert all(type(number) is float for number in regularizer.get_config().values())


@pytest.mark.parametrize(
    "strength", [math.nan, math.inf, -math.inf, -0.1, None, "0.1", True, [1.0]]
)
def test_bad_strength(strength):
    message = r"`strength` must be a finite number, at least 0, in float32, too. Received: stren"
    with pytest.raises(ValueError, match=message):
        NonlinearitySparsity(strength)
    regularizer = NonlinearitySparsity(0.5)
    with pytest.raises(ValueError, match=message):
        regularizer.strength = strength
    assert regularizer.strength == 0.5
    assert value(regularizer(np.zeros(1))) == 0.5


@pytest.mark.parametrize("power", [math.nan, math.inf, 0, -0.5, 1.01, 2, None, "0.5", True])
def test_bad_power(power):
    message = r"`power` must be a finite number, greater than 0 and at most 1. Received: power="
    with pytest.raises(ValueError, match=message):
        NonlinearitySparsity(0.5, power=power)


def test_strength_is_required():
    with pytest.raises(TypeError, match="strength"):
        NonlinearitySparsity()


def test_distances_of_half_precision_are_not_rounded_to_it():
    """Near 1 the numbers of bfloat16 are 1/256 apart: the difference to 0.0123 is none of them."""
    slope = ops.convert_to_tensor(np.float32([0.0123]), dtype="bfloat16")
    held = float(value(ops.cast(slope, "float32"))[0])
    penalty = float(value(NonlinearitySparsity(1.0, power=1.0)(slope)))
    assert penalty == pytest.approx(1.0 - held, rel=1e-6)
