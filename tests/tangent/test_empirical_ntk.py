import functools
import sys

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_nladv import SparsePReLU
from keras_nladv.tangent import empirical_ntk, ntk_vector_product, vjp
from keras_nladv.tangent.batches import count, part
from keras_nladv.tangent.kernel_plan import KernelPlan
from keras_nladv.tangent.stateless import Stateless
from tests.cases import once, once_but
from tests.tangent.reference import (
    MODELS,
    example,
    functional,
    numbers,
    randomized,
    sequential,
)

# The package has the function in the place of its module.
module = sys.modules["keras_nladv.tangent.empirical_ntk"]
METHODS = ["structured", "jacobian", "ntk-vector"]


def jacobian(model, x, variables=None):
    """The Jacobian, `(n, k, size)`, one gradient of one output of one example at a time."""
    rows = []
    for i in range(count(x)):
        one = part(x, i, 1)
        shape = model(one).shape
        for row in np.eye(np.prod(shape)):
            gradients = vjp(model, one, row.reshape(shape), variables)[1]
            rows.append(np.concatenate([numbers(each).ravel() for each in gradients]))
    rows = np.array(rows, "float64")
    return rows.reshape(count(x), -1, rows.shape[1])


def brute_force(model, x1, x2, variables=None):
    return np.einsum(
        "iap,jbp->ijab", jacobian(model, x1, variables), jacobian(model, x2, variables)
    )


def assert_close(kernel, expected, accuracy=1e-5):
    assert kernel.shape == expected.shape
    np.testing.assert_allclose(kernel, expected, atol=accuracy * np.abs(expected).max())


def traced(kernel):
    return np.trace(kernel, axis1=2, axis2=3)


def plan(model, x):
    stateless = Stateless.of(model)
    return KernelPlan.of(stateless, stateless.inputs(x))


def paths(model, x):
    """What is left to gradients of single examples."""
    return [Stateless.of(model).variables[i].path.rpartition("/")[2] for i in plan(model, x).rest]


@pytest.mark.parametrize("name", once_but(MODELS, ["normalization", "attention"]))
def test_structured(name):
    model, x1 = example(name, 2)
    x2 = example(name, 2, seed=2)[1]
    expected = brute_force(model, x1, x2)
    kernel = empirical_ntk(model, x1, x2, method="structured")
    assert kernel.dtype == "float32"
    assert_close(kernel, expected)
    assert_close(empirical_ntk(model, x1, x2, trace=True, method="structured"), traced(expected))


def test_many_models_are_no_reason_to_warn(caplog):
    """What is compiled for each of them is not compiled again and again."""
    for _ in range(6):
        empirical_ntk(*example("dense", 2))
    assert not caplog.records


@pytest.mark.parametrize("name", [once("dense"), once("conv2d"), once("shared"), "two inputs"])
def test_other_methods(name):
    model, x1 = example(name, 2)
    x2 = example(name, 3, seed=2)[1]
    expected = brute_force(model, x1, x2)
    for method in ("jacobian", "ntk-vector", "auto"):
        assert_close(empirical_ntk(model, x1, x2, method=method), expected)
        assert_close(empirical_ntk(model, x1, x2, trace=True, method=method), traced(expected))


def test_product_with_a_vector():
    model, x1 = example("dense", 2)
    x2 = example("dense", 3, seed=2)[1]
    vectors = np.random.default_rng(3).normal(size=(3, 2))
    product = numbers(ntk_vector_product(model, x1, x2, vectors))
    assert_close(product, np.einsum("ijab,jb->ia", brute_force(model, x1, x2), vectors))
    same = numbers(ntk_vector_product(model, x2, None, vectors))
    assert_close(same, numbers(ntk_vector_product(model, x2, x2, vectors)))


@pytest.mark.once
def test_everything_known_is_structured():
    """What is left is left on purpose, and nothing that has no derivative is computed."""
    left = {name: paths(*example(name)) for name in MODELS}
    separable = ["depthwise_kernel", "pointwise_kernel", "bias"]
    recurrent = [*["kernel", "recurrent_kernel", "bias"] * 3]
    assert {name: rest for name, rest in left.items() if rest} == {
        "depthwise": separable,
        "depthwise1d": separable,
        "transposed": ["kernel", "bias"],
        "recurrent": recurrent,
        # Its first kernel is also read outside of the layer.
        "subclassed": ["scale", "kernel", "bias"],
    }


def test_two_layers():
    """The closed form for one hidden layer."""
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(50, "relu"), layers.Dense(2, use_bias=False)]
    )
    weights = [rng.normal(size=each.shape) for each in model.weights]
    model.set_weights(weights)
    x1, x2 = (rng.normal(size=(n, 3)) for n in (4, 5))
    hidden = [np.maximum(x @ weights[0] + weights[1], 0) for x in (x1, x2)]
    active = [each > 0 for each in hidden]
    first = np.einsum("ih,jh,ha,hb->ijab", *active, weights[2], weights[2])
    expected = first * (x1 @ x2.T + 1)[..., None, None]
    expected += (hidden[0] @ hidden[1].T)[..., None, None] * np.eye(2)
    for method in METHODS:
        assert_close(empirical_ntk(model, x1, x2, method=method), expected)


class HalfBackwards(layers.Layer):
    """The identity, whose gradient is given as a function."""

    def call(self, x):
        def identity(x):
            def gradient(*args, upstream=None):
                upstream = args[0] if upstream is None else upstream
                # Torch refuses to branch where it takes gradients of all outputs at once.
                is_finite = ops.all(ops.isfinite(upstream))
                return ops.cond(is_finite, lambda: upstream / 2, lambda: upstream)

            return x * 1.0, gradient

        return ops.custom_gradient(identity)(x)


@pytest.mark.parametrize("method", ["structured", "jacobian"])
def test_a_gradient_that_is_given(method):
    model = sequential((3,), layers.Dense(4), HalfBackwards(), layers.Dense(2))
    x = np.random.default_rng(0).normal(size=(3, 3)).astype("float32")
    first, bias, second, _ = map(numbers, model.weights)
    expected = np.einsum("ij,ha,hb->ijab", x @ x.T + 1, second, second) / 4
    hidden = x @ first + bias
    expected += np.einsum("ij,ab->ijab", hidden @ hidden.T + 1, np.eye(2))
    assert_close(empirical_ntk(model, x, method=method), expected)


@pytest.mark.parametrize(
    ("method", "batch_size"),
    [
        once("structured", None),
        once("structured", 1),
        once("structured", 2),
        once("jacobian", 3),
        once("ntk-vector", 7),
    ],
)
def test_blocks(method, batch_size):
    model, x1 = example("conv2d", 5)
    x2 = example("conv2d", 4, seed=2)[1]
    whole = brute_force(model, x1, x2)
    assert_close(empirical_ntk(model, x1, x2, batch_size=batch_size, method=method), whole)
    for trace in (False, True):
        kernel = empirical_ntk(model, x1, None, trace, batch_size=batch_size, method=method)
        axes = (1, 0) if trace else (1, 0, 3, 2)
        np.testing.assert_array_equal(kernel, kernel.transpose(axes))
        matrix = (
            kernel if trace else kernel.transpose(0, 2, 1, 3).reshape([5 * kernel.shape[2]] * 2)
        )
        values = np.linalg.eigvalsh(matrix.astype("float64"))
        assert values.min() > -1e-6 * values.max()
        again = empirical_ntk(model, x1, x1.copy(), trace, method=method)
        assert_close(kernel, again)


@pytest.mark.once
def test_batch_size_bounds_what_is_held():
    sizes = set()

    class Noting(layers.Layer):
        def call(self, inputs):
            sizes.add(inputs.shape[0])
            return inputs

    model = sequential((4,), layers.Dense(3, "silu"), Noting(), layers.Dense(2))
    x = np.ones((11, 4), "float32")
    for method in ["structured", "ntk-vector"]:
        sizes.clear()
        empirical_ntk(model, x, batch_size=4, method=method)
        # One for each check, two and three to find out how the model works; 11 = 4 + 4 + 3.
        assert sizes <= {1, 2, 3, 4}
        assert 4 in sizes


def test_default_batch_size(monkeypatch):
    """So many examples that what is held stays below a bound."""
    model, x = example("dense", 7)
    # Columns and rows of both layers, with biases, and the gradients of their results.
    held = (5 + 2 * 3) + (4 + 2 * 2) + 2 * (3 + 2 + 2)
    assert plan(model, x).numbers("structured", False) == held
    assert plan(model, x).numbers("jacobian", False) == 2 * (5 * 3 + 4 * 2)
    assert plan(model, x).numbers("ntk-vector", False) == 2 * (3 + 2 + 2)
    starts = []
    monkeypatch.setattr(module, "NUMBERS", 3 * held)
    monkeypatch.setattr(module, "part", lambda x, start, size: starts.append((start, size)) or x)
    empirical_ntk(model, x[:3], method="structured")
    assert starts == [(0, 3)]


def test_estimate():
    model = sequential(
        (6, 6, 2), layers.Conv2D(4, 3, use_bias=False), layers.Flatten(), layers.Dense(5)
    )
    costs = plan(model, np.ones((1, 6, 6, 2))).multiplications(3, 0, False)
    conv, dense, window = 16 * 18 * 4, 65 * 5, 16**2 * (18 + 5 * 4) + 25 * 16 * 4
    forward = conv + dense
    assert costs == {
        # Jacobians of the convolution, the outer products of the last layer.
        "structured": 15 * forward + 15 * conv + 9 * (min(25 * 72, window) + 65 + 25 * 5),
        "jacobian": 30 * forward + 225 * (72 + 325),
        "ntk-vector": 3 * 4 * 15 * forward,
    }
    assert window > 25 * 72


@pytest.mark.parametrize("method", METHODS)
def test_method_of_least_cost(method, monkeypatch):
    model, x = example("dense")
    costs, chosen = dict.fromkeys(METHODS, 2) | {method: 1}, []
    monkeypatch.setattr(KernelPlan, "multiplications", lambda *_: costs)
    monkeypatch.setattr(KernelPlan, "numbers", lambda _, *how: chosen.append(how) or 1)
    empirical_ntk(model, x)
    assert chosen == [(method, False)]


NORMALIZATIONS = [
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.RMSNormalization,
    functools.partial(layers.BatchNormalization, axis=1),
    functools.partial(layers.GroupNormalization, 2),
]


@st.composite
def image_layers(draw, rank):
    """What makes a layer for inputs with `rank` axes of positions."""
    kinds = ["conv", "conv", "norm", "slopes", "pool", *["depthwise"] * (rank < 3)]
    kind = draw(st.sampled_from(kinds))
    if kind == "norm":
        return draw(st.sampled_from(NORMALIZATIONS))
    if kind == "slopes":
        granularity = draw(st.sampled_from(["channel", "layer", "element"]))
        return functools.partial(SparsePReLU, granularity=granularity, activation="silu")
    if kind == "pool":
        return functools.partial(getattr(layers, f"AveragePooling{rank}D"), 2, padding="same")
    # Keras allows one of them to be more than 1.
    strides, dilation = draw(st.sampled_from([(1, 1), (2, 1), (1, 2)]))
    shared = {
        "kernel_size": draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank).map(tuple)),
        "strides": strides,
        "padding": draw(st.sampled_from(["valid", "same"])),
        "dilation_rate": dilation,
        "use_bias": draw(st.booleans()),
        "activation": draw(st.sampled_from([None, "silu", "softplus"])),
    }
    if kind == "depthwise":
        # TensorFlow has only these for images.
        if dilation == 1 and rank == 2:
            shared["kernel_size"] = shared["kernel_size"][:1] * 2
        multiplier = draw(st.integers(1, 2))
        depthwise = getattr(layers, f"DepthwiseConv{rank}D")
        return functools.partial(depthwise, depth_multiplier=multiplier, **shared)
    if rank == 1 and draw(st.booleans()):
        shared["padding"] = "causal"
    convolution = getattr(layers, f"Conv{rank}D")
    return functools.partial(
        convolution, draw(st.sampled_from([2, 4])), groups=draw(st.integers(1, 2)), **shared
    )


@pytest.mark.once
@hypothesis.given(st.data())
@hypothesis.settings(max_examples=6)
def test_random_networks(data):
    rank = data.draw(st.integers(1, 3))
    shape = (*data.draw(st.lists(st.integers(5, 7), min_size=rank, max_size=rank)), 2)
    stack = data.draw(st.lists(image_layers(rank), min_size=1, max_size=3))
    stack += data.draw(st.sampled_from([[], [layers.Flatten]]))
    bias = data.draw(st.booleans())
    dense = [layers.Dense(2, "silu", use_bias=bias), layers.Flatten(), layers.Dense(2)]
    try:
        model = randomized(sequential(shape, *(make() for make in stack), *dense))
    except ValueError:
        hypothesis.reject()  # Nothing is left of the positions.
    rng = np.random.default_rng(0)
    x1, x2 = (rng.normal(size=(n, *shape)).astype("float32") for n in (1, 2))
    expected = brute_force(model, x1, x2)
    assert plan(model, x1).rest == []
    assert_close(empirical_ntk(model, x1, x2, method="structured"), expected, 2e-5)
    assert_close(empirical_ntk(model, x1, x2, True, method="structured"), traced(expected), 2e-5)


@pytest.mark.once
@pytest.mark.parametrize("equation", ["ab,bc->ac", "abcd,bde->abce", "ab...,bc->ac..."])
def test_einsum_equations(equation):
    operand = equation.split(",")[0].replace("...", "xy")
    sizes = dict(zip("abcdexy", (None, 3, 4, 2, 5, 2, 3)))
    shape = tuple(sizes[each] for each in operand[1:])
    result = equation.split("->")[1].replace("...", "xy")
    bias = "c" if "..." in equation else result[-1]
    output_shape = tuple(sizes[each] for each in result[1:])
    layer = layers.EinsumDense(equation, output_shape, bias_axes=bias, activation="silu")
    model = randomized(sequential(shape, layer))
    x1, x2 = (np.random.default_rng(n).normal(size=(n, *shape)) for n in (1, 2))
    assert_close(empirical_ntk(model, x1, x2), brute_force(model, x1, x2))
    # A bias that all groups share is left.
    assert paths(model, x1) == (["bias"] if equation == "abcd,bde->abce" else [])


class Folding(layers.Layer):
    """Calls a layer on positions as if they were examples."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def build(self, shape):
        self.layer.build(shape)

    def call(self, x):
        outputs = self.layer(ops.reshape(x, (-1, x.shape[-1])))
        return ops.reshape(outputs, (-1, x.shape[1], outputs.shape[-1]))


class Looping(Folding):
    """Calls a layer in a loop of the backend."""

    def call(self, x):
        return ops.vectorized_map(self.layer, x)


class Constants(Folding):
    """Calls a layer on something that is no example."""

    def call(self, x):
        return x + self.layer(ops.ones((3, x.shape[-1])))


@pytest.mark.once
@pytest.mark.parametrize("kind", [Folding, Looping, Constants])
def test_layers_that_do_not_see_examples(kind):
    model = sequential((3, 4), kind(layers.Dense(4, "silu")), layers.Dense(2))
    x1, x2 = (np.random.default_rng(n).normal(size=(n, 3, 4)).astype("float32") for n in (2, 3))
    model(x1)
    assert_close(empirical_ntk(model, x1, x2), brute_force(model, x1, x2))


def test_shared_kernel():
    first, second = layers.Dense(4, "silu"), layers.Dense(4)
    model = sequential((4,), first, second)
    vars(second)["_kernel"] = first.kernel
    x = np.random.default_rng(0).normal(size=(2, 4)).astype("float32")
    variables = [first.kernel, first.bias, second.bias]
    assert_close(empirical_ntk(model, x, variables=variables), brute_force(model, x, x, variables))


def test_rematerialized():
    with keras.RematScope(mode="full"):
        model = sequential((4,), layers.Dense(3, "silu"), layers.Dense(2))
    x = np.random.default_rng(0).normal(size=(2, 4))
    if keras.backend.backend() == "tensorflow":
        # It rematerializes operation by operation only.
        with pytest.raises(ValueError, match="when eager execution is enabled"):
            empirical_ntk(model, x)
    else:
        assert_close(empirical_ntk(model, x), brute_force(model, x, x))


def test_lora():
    model = sequential((4,), layers.Dense(5, "silu"), layers.Dense(2))
    model.layers[0].enable_lora(2)
    randomized(model)
    x = np.random.default_rng(0).normal(size=(2, 4))
    assert_close(empirical_ntk(model, x), brute_force(model, x, x))
    assert sorted(paths(model, x)) == ["lora_kernel_a", "lora_kernel_b"]


@pytest.mark.once
def test_chosen_variables():
    model, x = example("normalization", 2)
    conv, norm = model.layers[:2]
    for variables in ([conv.bias], [norm.gamma, norm.moving_mean], [norm.beta, conv.kernel]):
        expected = brute_force(model, x, x, variables)
        assert_close(empirical_ntk(model, x, variables=variables), expected)
    conv.trainable = False
    rest = [each for each in model.trainable_variables if "conv" not in each.path]
    assert_close(empirical_ntk(model, x), brute_force(model, x, x, rest))


@pytest.mark.once
def test_channels_first():
    stack = [
        layers.Conv2D(4, 2, 2, padding="same", groups=2, data_format="channels_first"),
        layers.BatchNormalization(axis=1),
        layers.DepthwiseConv2D(2, depth_multiplier=2, data_format="channels_first"),
    ]
    model = randomized(sequential((2, 5, 6), *stack, layers.Dense(2)))
    x = np.random.default_rng(0).normal(size=(2, 2, 5, 6)).astype("float32")
    try:
        model(x)
    except Exception as error:
        pytest.skip(f"The backend has no such convolution here: {type(error).__name__}")
    assert_close(empirical_ntk(model, x), brute_force(model, x, x))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", once("bfloat16"), once("mixed_float16")])
def test_half_precision(policy):
    model, x = example("conv2d", 3)
    expected = empirical_ntk(model, x)
    keras.config.set_dtype_policy(policy)
    try:
        half = example("conv2d")[0]
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(model.get_weights())
    kernel = empirical_ntk(half, x)
    assert kernel.dtype == "float32"
    assert_close(kernel, expected, 5e-2)
    assert np.abs(kernel - expected).max() > 1e-6 * np.abs(expected).max()


def test_double_precision(double):
    model, x = example("conv1d", 2)
    kernel = empirical_ntk(model, x)
    assert kernel.dtype == "float64"
    # Only TensorFlow computes all of it in float64.
    exact = keras.backend.result_type("float64", "float64") == "float64"
    assert_close(kernel, brute_force(model, x, x), 1e-12 if exact else 1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "fast"}, "`method` must be 'auto', 'structured', .* Received: method='fast'"),
        ({"batch_size": 0}, "`batch_size` must be .* Received: batch_size=0"),
        ({"batch_size": 2.0}, r"`batch_size` must be .* Received: batch_size=2\.0"),
        ({"batch_size": True}, "`batch_size` must be .* Received: batch_size=True"),
        ({"variables": []}, "has no trainable variables"),
        ({"x2": np.ones((2, 5))}, r"`x2` must have examples of shape \(4,\)"),
        ({"x2": np.ones((2, 4), int)}, "`x2` must be floats"),
        ({"x1": np.ones((0, 4))}, "`x1` must hold at least one example"),
    ],
)
def test_bad_arguments(arguments, message):
    model, x = example("dense")
    with pytest.raises(ValueError, match=message):
        empirical_ntk(**{"model": model, "x1": x, **arguments})


def test_bad_pairs():
    model = keras.Sequential(
        [keras.Input((None, 2)), layers.GlobalAveragePooling1D(), layers.Dense(1)]
    )
    x1, x2 = np.ones((2, 5, 2)), np.ones((2, 4, 2))
    with pytest.raises(
        ValueError, match=r"shape of those of `x1`, \[\(5, 2\)\]. Received: \[\(4, 2\)\]"
    ):
        empirical_ntk(model, x1, x2)
    with pytest.raises(ValueError, match=r"`vectors` .* \(2, 1\). Received: \(3, 1\)"):
        ntk_vector_product(model, x1, None, np.ones((3, 1)))
    summing = functional(lambda x: ops.sum(layers.Dense(2)(x), axis=0), (3,))
    with pytest.raises(ValueError, match="something for each example"):
        empirical_ntk(summing, np.ones((2, 3)))


class Table(layers.Layer):
    """Calls a layer on two rows that are no examples."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3)

    def build(self, shape):
        self.dense.build((2, 2))

    def call(self, x):
        return x + ops.sum(self.dense(ops.convert_to_tensor([[1.0, 2.0], [3.0, 5.0]])), axis=0)


def test_two_rows_by_chance():
    """For two examples, the rows look as if they were of these."""
    model = keras.Sequential([keras.Input((3,)), Table()])
    x = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
    for method in METHODS:
        kernel = empirical_ntk(model, x, method=method)
        # Of each output: the squares of the sums of the columns, and of the two biases.
        expected = np.broadcast_to((4**2 + 7**2 + 2**2) * np.eye(3), (2, 2, 3, 3))
        assert_close(kernel, expected)


# ---- Models that take a fixed number of examples, and inputs of other kinds


@pytest.mark.once
def test_fixed_batches():
    inputs = keras.Input(batch_shape=(4, 6))
    x = layers.Dense(8, activation="relu")(inputs)
    x = ops.reshape(ops.reshape(x, (4, 2, 4)), (4, 8))
    fixed = keras.Model(inputs, layers.Dense(2)(x))
    free = keras.Sequential([keras.Input((6,)), fixed.layers[1], fixed.layers[-1]])
    x = np.random.default_rng(0).normal(size=(6, 6)).astype("float32")
    expected = empirical_ntk(free, x)
    for method in METHODS:
        assert_close(empirical_ntk(fixed, x, method=method), expected)
    assert_close(empirical_ntk(fixed, x[:1], x[1:], batch_size=3), expected[:1, 1:])
    with pytest.raises(ValueError, match="examples of shape"):
        empirical_ntk(fixed, x[:, :5])


@pytest.mark.once
def test_one_example_of_a_single_filter():
    chain = [layers.Conv2D(3, 3, activation="relu"), layers.Conv2D(1, 3), layers.Flatten()]
    model = keras.Sequential([keras.Input((6, 6, 1)), *chain])
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 1)).astype("float32")
    expected = empirical_ntk(model, x, method="structured")
    for method in METHODS[1:]:
        assert_close(empirical_ntk(model, x, method=method), expected)
    assert_close(brute_force(model, x, x), expected)


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras has no sparse inputs on torch."
)
def test_sparse_inputs():
    scipy_sparse = pytest.importorskip("scipy.sparse")
    inputs = keras.Input((6,), sparse=True)
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(4, "relu")(inputs)))
    dense = keras.Sequential([keras.Input((6,)), *model.layers[1:]])
    x = scipy_sparse.random(5, 6, 0.5, format="csr", dtype="float32", random_state=0)
    expected = empirical_ntk(dense, x.toarray())
    for method in METHODS:
        assert_close(empirical_ntk(model, x, method=method), expected)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="Keras vectorizes text in models on TensorFlow."
)
@pytest.mark.parametrize(
    "method", [pytest.param(each, marks=pytest.mark.slow) for each in METHODS[1:]] + METHODS[:1]
)
def test_text(method):
    texts = np.array(["a b c", "b c d", "a a a a"])
    vectorization = layers.TextVectorization(output_sequence_length=5)
    vectorization.adapt(texts)
    chain = [layers.Embedding(10, 4), layers.GlobalAveragePooling1D(), layers.Dense(2)]
    model = keras.Sequential([keras.Input((), dtype="string"), vectorization, *chain])
    ids = keras.Sequential([keras.Input((5,), dtype="int32"), *chain])
    expected = empirical_ntk(ids, ops.convert_to_numpy(vectorization(texts)))
    assert_close(empirical_ntk(model, texts, method=method), expected)
    if method == "structured":
        assert_close(empirical_ntk(model, texts.astype(object)), expected)
