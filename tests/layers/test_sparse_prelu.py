import copy
import math
import pickle

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_nladv import NonlinearitySparsity, SparsePReLU
from tests.gradients import gradients

to_numpy = ops.convert_to_numpy
erf = np.vectorize(math.erf)

# Base activations, written down independently of Keras.
REFERENCES = {
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x < 0, 0.2 * x, x),
    "elu": lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x),
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "softplus": lambda x: np.log1p(np.exp(x)),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
}


def constant(value):
    return keras.initializers.Constant(value)


def with_slopes(layer, input_shape, slopes):
    layer.build(input_shape)
    layer.alpha.assign(slopes)
    return layer


def arrays(draw, shape, bound):
    """Numbers of three decimals: their products are no subnormals, which XLA rounds to 0."""
    number = math.prod(shape)
    integers = st.integers(-1000 * bound, 1000 * bound)
    integers = draw(st.lists(integers, min_size=number, max_size=number))
    return (np.reshape(integers, shape) / 1000).astype("float32")


@st.composite
def cases(draw):
    """An input, the arguments that say what has a slope, and slopes that broadcast to the input."""
    shape = tuple(draw(st.lists(st.integers(1, 3), min_size=2, max_size=5)))
    granularity = draw(st.sampled_from(["channel", "layer", "element"]))
    axis = draw(st.integers(1, len(shape) - 1)) - draw(st.sampled_from([0, len(shape)]))
    if granularity == "channel":
        size = [1] * len(shape)
        size[axis] = shape[axis]
    else:
        size = [1] * len(shape) if granularity == "layer" else [1, *shape[1:]]
    arguments = {"axis": axis, "granularity": granularity}
    return arrays(draw, shape, 20), arguments, arrays(draw, size, 3)


@given(cases(), st.sampled_from(["relu", "relu", *sorted(REFERENCES)]))
@settings(max_examples=40)
def test_equals_numpy(case, activation):
    x, arguments, slopes = case
    layer = SparsePReLU(activation=activation, **arguments)
    layer.build(x.shape)
    layer.alpha.assign(np.reshape(slopes, layer.alpha.shape))
    y = to_numpy(layer(x))
    if activation == "relu":
        np.testing.assert_array_equal(y, np.where(x >= 0, x, slopes * x))
    else:
        expected = slopes * x + (1 - slopes) * REFERENCES[activation](x.astype("float64"))
        np.testing.assert_allclose(y, expected, rtol=2e-5, atol=2e-5)
    slopes = np.reshape(slopes, layer.alpha.shape)
    np.testing.assert_array_equal(layer.slopes, slopes)
    np.testing.assert_array_equal(layer.nonlinear, np.abs(1 - slopes) >= np.float32(0.01))


@pytest.mark.parametrize("activation", ["relu", *sorted(REFERENCES)])
def test_slopes_of_0_change_nothing_and_slopes_of_1_are_the_identity(activation):
    x = np.concatenate([[0.0, -0.0], np.linspace(-9, 9, 62)]).astype("float32").reshape(8, 8)
    function = keras.activations.get(activation)
    layer = SparsePReLU(activation=activation)
    np.testing.assert_array_equal(to_numpy(layer(x)), to_numpy(function(ops.convert_to_tensor(x))))
    layer.alpha.assign(np.ones(8))
    np.testing.assert_array_equal(to_numpy(layer(x)), x)


def loss_gradients(layer, x, weights, slopes):
    """Gradients of sum(weights * layer(x)) for x, the slopes and the sides."""

    def loss(x, alpha, side):
        outputs, _ = layer.stateless_call([alpha, side], [], x)
        return ops.sum(ops.multiply(weights, outputs))

    slopes = np.asarray(slopes, "float32")
    return gradients(loss, x, slopes, np.zeros_like(slopes))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "relu6", "gelu", "silu", "tanh"])
def test_gradient_with_slopes_of_0_is_that_of_the_activation(activation):
    x = np.array([[0.0, -0.0, 1.0, -1.0, 3.0, -7.5, 8.0]], "float32")
    weights = np.arange(1.0, 8.0, dtype="float32")
    function = keras.activations.get(activation)
    layer = with_slopes(SparsePReLU(activation=activation), x.shape, np.zeros(7))
    (expected,) = gradients(lambda x: ops.sum(ops.multiply(weights, function(x))), x)
    np.testing.assert_array_equal(loss_gradients(layer, x, weights, np.zeros(7))[0], expected)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "relu6", "gelu", "silu", "tanh"])
def test_gradient_with_slopes_of_1_is_1(activation):
    x = np.array([[0.0, -0.0, 1.0, -1.0, 3.0, -7.5, 8.0]], "float32")
    layer = with_slopes(SparsePReLU(activation=activation), x.shape, np.ones(7))
    np.testing.assert_array_equal(loss_gradients(layer, x, 1.0, np.ones(7))[0], np.ones_like(x))


@pytest.mark.parametrize("granularity", ["channel", "layer", "element"])
def test_gradients(granularity):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 3, 4)).astype("float32")
    weights = rng.normal(size=x.shape).astype("float32")
    layer = SparsePReLU(granularity=granularity)
    layer.build(x.shape)
    slopes = rng.uniform(-1, 0.9, layer.alpha.shape)
    by_input, by_alpha, by_side = loss_gradients(layer, x, weights, slopes)
    np.testing.assert_allclose(by_input, weights * np.where(x > 0, 1, slopes), rtol=1e-6)
    axes = {"channel": (0, 1), "layer": None, "element": 0}[granularity]
    expected = np.sum(weights * np.minimum(x, 0), axis=axes)
    np.testing.assert_allclose(by_alpha, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(by_side, np.zeros(layer.side.shape))


def test_gradients_of_slopes_with_another_activation():
    x = np.linspace(-3, 3, 24, dtype="float32").reshape(6, 4)
    layer = with_slopes(SparsePReLU(activation="tanh"), x.shape, np.zeros(4))
    slopes = np.array([-0.5, 0.0, 0.5, 2.0])
    by_input, by_alpha, _ = loss_gradients(layer, x, 1.0, slopes)
    expected = slopes + (1 - slopes) * (1 - np.tanh(x) ** 2)
    np.testing.assert_allclose(by_input, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(by_alpha, np.sum(x - np.tanh(x), axis=0), rtol=1e-5, atol=1e-6)


def test_slopes_that_are_linear_have_no_gradient():
    # Else units that are linear before training would leave 1 in the first step.
    x = -np.ones((2, 5), "float32")
    layer = with_slopes(SparsePReLU(linear_threshold=0.125), x.shape, np.zeros(5))
    slopes = [1.0, 0.95, 1.05, 0.875, 1.125]
    by_input, by_alpha, _ = loss_gradients(layer, x, 1.0, slopes)
    np.testing.assert_array_equal(by_alpha, [0, 0, 0, -2, -2])
    np.testing.assert_allclose(by_input[0], slopes)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [(0.0, [1, 1, 0, 1, 1]), (0.01, [1, 1, 0, 0, 1]), (0.5, [1, 0, 0, 0, 1])],
)
def test_nonlinear(threshold, expected):
    layer = SparsePReLU(linear_threshold=threshold)
    with_slopes(layer, (None, 5), [0.0, 0.6, 1.0, 1.005, 1.5])
    assert layer.nonlinear.tolist() == [bool(unit) for unit in expected]


def test_nonlinear_needs_a_built_layer():
    layer = SparsePReLU(name="unbuilt")
    for name in ("nonlinear", "slopes"):
        with pytest.raises(
            ValueError, match=r"'unbuilt' are not known before it is built. Call it"
        ):
            getattr(layer, name)


@pytest.mark.parametrize("axis", [-1, 1, 3])
def test_unknown_batch_and_spatial_sizes(axis):
    shape = [None, None, None]
    shape[axis % 4 - 1] = 3
    inputs = keras.Input(shape)
    layer = SparsePReLU(axis=axis, alpha_initializer=constant(0.5))
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == (None, *shape)
    for batch, size in ((2, 4), (3, 5)):
        x = np.random.default_rng(0).normal(size=(batch, size, size, size)).astype("float32")
        x = np.take(x, [0, 1, 2], axis=axis)
        np.testing.assert_allclose(model.predict(x, verbose=0), np.where(x >= 0, x, 0.5 * x))


def test_channels_first_and_last_agree():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
    slopes = [0.0, 0.5, 1.0, 1.5, -1.0]
    last = with_slopes(SparsePReLU(), x.shape, slopes)(x)
    moved = np.moveaxis(x, -1, 1)
    first = with_slopes(SparsePReLU(axis=1), moved.shape, slopes)(moved)
    np.testing.assert_array_equal(np.moveaxis(to_numpy(first), 1, -1), to_numpy(last))


def test_one_layer_takes_inputs_of_several_ranks():
    layer = SparsePReLU(alpha_initializer=constant(0.5))
    for shape in ((2, 3), (2, 4, 3), (2, 4, 5, 3)):
        np.testing.assert_array_equal(to_numpy(layer(-np.ones(shape))), -0.5 * np.ones(shape))
    assert len(layer.weights) == 2


@pytest.mark.parametrize(
    "policy", ["float16", "bfloat16", "float32", "float64", "mixed_float16", "mixed_bfloat16"]
)
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_dtype_policies(policy, activation):
    if policy == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX computes in float32 unless `jax_enable_x64` is set.")
    policy = keras.DTypePolicy(policy)
    x = np.linspace(-3, 3, 24).reshape(6, 4)
    layer = SparsePReLU(
        activation=activation,
        alpha_initializer=constant(0.75),
        alpha_regularizer=NonlinearitySparsity(1.0),
        dtype=policy,
    )
    y = layer(x)
    assert keras.backend.standardize_dtype(y.dtype) == policy.compute_dtype
    assert keras.backend.standardize_dtype(layer.alpha.value.dtype) == policy.variable_dtype
    assert layer.alpha.dtype == layer.side.dtype
    phi = np.maximum(x, 0) if activation == "relu" else x / (1 + np.exp(-x))
    tolerance = {"float16": 4e-3, "bfloat16": 3e-2, "float32": 1e-6, "float64": 1e-12}
    tolerance = tolerance[policy.compute_dtype]
    y = to_numpy(ops.cast(y, "float32" if "16" in policy.compute_dtype else policy.compute_dtype))
    np.testing.assert_allclose(y, 0.75 * x + 0.25 * phi, atol=tolerance)
    np.testing.assert_allclose(to_numpy(layer.losses[0]), 4 * 0.5, rtol=1e-6)
    assert layer.nonlinear.all()
    layer.alpha.assign(np.ones(4))
    assert not layer.nonlinear.any()


def test_float64_is_exact():
    if keras.backend.backend() == "jax":
        pytest.skip("JAX computes in float32 unless `jax_enable_x64` is set.")
    x = np.random.default_rng(0).normal(size=(7, 3))
    slopes = np.array([1 / 3, 0.9, -0.7])
    layer = with_slopes(SparsePReLU(dtype="float64"), x.shape, slopes)
    np.testing.assert_array_equal(to_numpy(layer(x)), np.where(x >= 0, x, slopes * x))


def test_config_round_trip():
    layer = SparsePReLU(
        axis=1,
        granularity="element",
        linear_threshold=0.125,
        alpha_initializer=keras.initializers.RandomUniform(-0.5, 0.5, seed=1),
        alpha_regularizer=NonlinearitySparsity(0.1, power=0.25),
        alpha_constraint=keras.constraints.NonNeg(),
        activation="gelu",
        name="slopes",
        dtype="mixed_bfloat16",
    )
    config = keras.saving.serialize_keras_object(layer)
    clone = keras.saving.deserialize_keras_object(config)
    assert type(clone) is SparsePReLU
    assert clone.get_config() == layer.get_config()
    assert clone.activation is keras.activations.gelu
    assert clone.alpha_regularizer.get_config() == {"strength": 0.1, "power": 0.25}
    assert isinstance(clone.alpha_constraint, keras.constraints.NonNeg)
    assert (clone.axis, clone.granularity, clone.linear_threshold) == (1, "element", 0.125)
    assert (clone.name, clone.dtype_policy.name) == ("slopes", "mixed_bfloat16")


def test_default_config_matches_the_signature():
    assert SparsePReLU.from_config(SparsePReLU(name="a").get_config()).get_config() == {
        **SparsePReLU(name="a").get_config(),
        "axis": -1,
        "granularity": "channel",
        "linear_threshold": 0.01,
        "alpha_regularizer": None,
        "alpha_constraint": None,
        "activation": "relu",
    }


@keras.saving.register_keras_serializable(package="tests")
def square_relu(x):
    return ops.square(ops.relu(x))


def test_activation_of_the_user():
    x = np.array([[-2.0, 3.0]], "float32")
    layer = SparsePReLU(activation=square_relu, alpha_initializer=constant(0.5))
    clone = SparsePReLU.from_config(layer.get_config())
    for each in (layer, clone):
        np.testing.assert_array_equal(to_numpy(each(x)), [[-1.0, 0.5 * 3 + 0.5 * 9]])


def test_a_layer_as_activation():
    x = np.array([[-2.0, 3.0]], "float32")
    layer = SparsePReLU(
        activation=keras.layers.ReLU(max_value=2.0), alpha_initializer=constant(0.5)
    )
    clone = SparsePReLU.from_config(layer.get_config())
    for each in (layer, clone):
        np.testing.assert_array_equal(to_numpy(each(x)), [[-1.0, 2.5]])


class OtherInTraining(keras.layers.Layer):
    def call(self, inputs, training=None):
        return ops.maximum(inputs, (0.5 if training else 0.25) * inputs)


class Leaky(keras.layers.Layer):
    """Has no configuration, and an argument that it does not use."""

    def __init__(self, slope):
        super().__init__()
        self.slope = slope

    def call(self, inputs, training=None):
        return ops.maximum(inputs, self.slope * inputs)


@pytest.mark.parametrize(
    "activation",
    [
        keras.layers.LeakyReLU(0.25),
        keras.layers.PReLU(constant(0.25)),
        Leaky(0.25),
        keras.layers.Lambda(lambda x: ops.maximum(x, 0.25 * x)),
        keras.Sequential([keras.layers.LeakyReLU(0.5), keras.layers.LeakyReLU(0.5)]),
        lambda x: ops.maximum(x, 0.25 * x),
    ],
)
def test_what_computes_each_element_by_itself(activation):
    layer = SparsePReLU(activation=activation, alpha_initializer=constant(0.5))
    np.testing.assert_array_equal(to_numpy(layer(np.array([[-8.0, 3.0]]))), [[-5.0, 3.0]])


def test_made_while_a_model_is_traced():
    """There are no numbers then, to try an activation on."""

    class Late(keras.layers.Layer):
        def call(self, inputs):
            made.append(SparsePReLU(activation=Leaky(0.25)))
            with pytest.raises(ValueError, match="is not applied to each element"):
                SparsePReLU(activation=lambda x: ops.softmax(2 * x))
            return inputs

    made = []
    keras.Sequential([Late()]).predict(np.zeros((2, 3)), verbose=0)
    assert len(made) > 0


def test_shapes_and_counts():
    layer = SparsePReLU()
    assert layer.compute_output_shape((None, 7, 3)) == (None, 7, 3)
    outputs = layer(keras.Input((None, 3), batch_size=2, dtype="float16"))
    assert outputs.shape == (2, None, 3)
    assert outputs.dtype == "float32"
    assert [weight.path for weight in layer.weights] == [
        f"{layer.name}/alpha",
        f"{layer.name}/side",
    ]
    assert [weight.name for weight in layer.trainable_weights] == ["alpha", "side"]
    assert layer.count_params() == 6
    spec = layer.compute_output_spec(keras.KerasTensor((None, 4, 3)))
    assert (spec.shape, spec.dtype) == ((None, 4, 3), "float32")


def test_get_and_set_weights():
    first, second = SparsePReLU(), SparsePReLU()
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    with_slopes(first, x.shape, [0.5, 1.0, 2.0])
    second.build(x.shape)
    second.set_weights(first.get_weights())
    np.testing.assert_array_equal(to_numpy(first(x)), to_numpy(second(x)))
    np.testing.assert_array_equal(second.slopes, [0.5, 1.0, 2.0])


def test_a_model_can_be_pickled_and_copied():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), SparsePReLU()])
    model.layers[-1].alpha.assign([0.0, 0.5, 1.0, 2.0])
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(to_numpy(other(x)), to_numpy(model(x)))
        other.layers[-1].alpha.assign(np.zeros(4))
        assert model.layers[-1].slopes.tolist() == [0.0, 0.5, 1.0, 2.0]


def test_rematerialization_changes_nothing():
    x = np.array([[-2.0, 0.0, 3.0]], "float32")
    with keras.RematScope(mode="activations"):
        layer = SparsePReLU(alpha_initializer=constant(0.7))
        y = layer(x)
    expected = SparsePReLU(alpha_initializer=constant(0.7))(x)
    np.testing.assert_array_equal(to_numpy(y), to_numpy(expected))
    assert layer.activation is keras.activations.relu


class TestBadArguments:
    @pytest.mark.parametrize("axis", [0, 1.0, None, "channels", True, [1]])
    def test_axis(self, axis):
        with pytest.raises(ValueError, match=r"`axis` must be an integer other than 0.* axis="):
            SparsePReLU(axis=axis)

    @pytest.mark.parametrize("granularity", ["unit", "Channel", None, 1])
    def test_granularity(self, granularity):
        with pytest.raises(ValueError, match=r"`granularity` must be one of .*'element'.*Received"):
            SparsePReLU(granularity=granularity)

    @pytest.mark.parametrize("threshold", [-0.1, 1.0, 2, math.nan, math.inf, "0.1", None])
    def test_linear_threshold(self, threshold):
        with pytest.raises(ValueError, match=r"`linear_threshold` must be a number.* Received"):
            SparsePReLU(linear_threshold=threshold)

    @pytest.mark.parametrize(
        "activation", ["softmax", "log_softmax", "sparsemax", "glu", "linear", None]
    )
    def test_activations_without_units(self, activation):
        with pytest.raises(ValueError, match=r"`activation` must be a nonlinear .* pointwise.*Rec"):
            SparsePReLU(activation=activation)

    @pytest.mark.parametrize(
        ("activation", "reason"),
        [
            (keras.layers.Activation("softmax"), "is linear or mixes elements"),
            (keras.layers.Identity(), "is linear or mixes elements"),
            (keras.layers.Softmax(axis=1), "is not applied to each element by itself"),
            (keras.layers.Flatten(), "is not applied to each element by itself"),
            (lambda x: ops.log_softmax(2 * x), "is not applied to each element by itself"),
            (lambda x: ops.cumsum(x, axis=0), "is not applied to each element by itself"),
            (lambda x: ops.roll(x, 1), "is not applied to each element by itself"),
            (lambda x: x * ops.convert_to_tensor([1.0, 2.0]), "is not applied to each element"),
            (lambda x: ops.maximum(x, np.ones(16, "float32")), "cannot be applied to any tensor"),
            (lambda x: ops.relu(x) + keras.random.uniform(()), "is not applied|draws random"),
            (keras.layers.Conv2D(2, 1), "cannot be applied to any tensor"),
            (keras.layers.Dense(2), "is not applied to each element by itself"),
            (keras.Sequential([keras.layers.Dense(2)]), "is not applied to each element"),
            (keras.layers.LayerNormalization(), "is not applied to each element by itself"),
            (keras.layers.BatchNormalization(), "has state"),
            (keras.layers.Dropout(0.5), "has state"),
            (OtherInTraining(), "behaves differently in training"),
        ],
    )
    def test_what_is_no_function_of_one_number(self, activation, reason):
        with pytest.raises(ValueError, match=rf"`activation` must be .*Received.*({reason})"):
            SparsePReLU(activation=activation)
        if isinstance(activation, keras.layers.Dense):
            assert not activation.built, "The layer can still be used where it belongs."

    def test_unknown_activation(self):
        with pytest.raises(ValueError, match="activation function identifier: rely"):
            SparsePReLU(activation="rely")

    @pytest.mark.parametrize(
        ("axis", "shape"), [(2, (None, 3)), (-2, (None, 3)), (-1, (None,)), (4, (None, 2, 2, 3))]
    )
    def test_axis_that_the_input_lacks(self, axis, shape):
        message = rf"`axis` must be an axis of the input .* axis={axis} for an input of shape"
        with pytest.raises(ValueError, match=message):
            SparsePReLU(axis=axis).build(shape)

    @pytest.mark.parametrize(
        ("arguments", "shape"),
        [
            ({"granularity": "element"}, (None, None, 3)),
            ({}, (None, 3, None)),
            ({"axis": 1}, (None, None, 3)),
        ],
    )
    def test_unknown_sizes(self, arguments, shape):
        with pytest.raises(
            ValueError, match=r"needs known sizes for its slopes.*Give the sizes to"
        ):
            SparsePReLU(**arguments)(keras.Input(shape[1:]))

    @pytest.mark.parametrize(
        ("arguments", "shape", "other"),
        [
            # Not one of these may broadcast silently.
            ({}, (2, 4), (2, 1)),
            ({}, (2, 1), (2, 4)),
            ({}, (2, 4), (4,)),
            ({"axis": 1}, (2, 4, 4), (2, 1, 4)),
            ({"axis": 1}, (2, 4, 4), (2, 4, 4, 4)),
            ({"axis": -2}, (2, 3, 4), (3, 4)),
            ({"granularity": "element"}, (2, 3, 4), (2, 3, 1)),
            ({"granularity": "element"}, (2, 3, 4), (2, 2, 3, 4)),
        ],
    )
    def test_inputs_that_do_not_fit_the_slopes(self, arguments, shape, other):
        layer = SparsePReLU(**arguments)
        layer(np.ones(shape))
        with pytest.raises(ValueError, match="incompatible with the layer"):
            layer(np.ones(other))

    def test_unknown_argument(self):
        with pytest.raises((TypeError, ValueError), match="shared_axes"):
            SparsePReLU(shared_axes=[1, 2])
