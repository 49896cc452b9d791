"""`collapse` compares what it made with the given model, on inputs that this one takes."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_nladv import SparsePReLU, collapse, collapse_plan
from keras_nladv.merging.arguments import examples
from keras_nladv.merging.verification import runs, verify

from ..precision import watched
from .test_collapse import difference, kinds


def halves(*shape):
    """Two layers with every other unit linear between them."""
    units = SparsePReLU()
    model = keras.Sequential([layers.Dense(8), units, layers.Dense(4)])
    model.build((None, *(shape or (4,))))
    units.alpha.assign(np.arange(8) % 2)
    return model


def between(start, end=None, shape=(4,)):
    """A model with linear units, and something before and behind them."""
    inputs = keras.Input(shape)
    x = halves(*shape)(start(inputs))
    return keras.Model(inputs, x if end is None else end(x))


def spoil(model):
    next(w for w in model.weights if w.shape == (4, 4)).assign(ops.ones((4, 4)))


def same(x):
    return x


@keras.saving.register_keras_serializable("tests")
class Noise(layers.Layer):
    """Adds noise of its own seed, of that of Keras, or of nobody's."""

    def __init__(self, source, **kwargs):
        super().__init__(**kwargs)
        self.source = source
        self.generator = keras.random.SeedGenerator()

    def call(self, x):
        if self.source == "NumPy" and not isinstance(x, keras.KerasTensor):
            return x + ops.convert_to_tensor(np.random.default_rng().normal(), "float32")
        seed = {"own": self.generator}.get(self.source)
        return x + keras.random.normal(ops.shape(x), seed=seed)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)

    def get_config(self):
        return {**super().get_config(), "source": self.source}


def test_factors_are_not_rounded():
    """Cards do that; a network and what was made of it would differ by a thousandth."""
    with watched() as (watch, seen):
        model = between(watch)
        seen.clear()
        verify(model, model, None, 4)
        assert seen
        assert not any(seen)


@pytest.mark.parametrize("source", ["own", "Keras"])
def test_random_layers_are_compared_with_the_same_seeds(source):
    model = between(Noise(source), Noise(source))
    collapsed = collapse(model, cost="macs")
    states = [v for v in model.variables if "seed" in v.path]
    # What one of them has drawn before makes no difference.
    model(np.ones((2, 4)))
    before = [ops.convert_to_numpy(state).copy() for state in states]
    verify(model, collapsed, None, 8)
    for value, state in zip(before, states, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(state), value)
    spoil(collapsed)
    with pytest.raises(ValueError, match="more than `tolerance`"):
        verify(model, collapsed, None, 8)


def test_what_nobody_can_seed_is_left_out_and_said_so():
    inputs = keras.Input((4,))
    x = halves()(inputs)
    model = keras.Model(inputs, [x, Noise("NumPy")(x)])
    with pytest.warns(UserWarning, match=r"did not compare outputs \[1\] of model 'functional"):
        collapsed = collapse(model, cost="macs")
    spoil(collapsed)
    with pytest.warns(match="not compare"), pytest.raises(ValueError, match="please report it"):
        verify(model, collapsed, None, 8)


def curve(x):
    """Overflows for what is larger than 1, and is chaotic before."""
    for _ in range(12):
        x = x * x + 4 * x
    return x


def test_smaller_inputs_where_larger_ones_overflow():
    model = between(same, curve)
    collapsed = collapse(model, cost="macs")
    assert kinds(collapsed).count("Dense") == 3
    x = np.full((2, 4), 1e-3, "float32")
    np.testing.assert_allclose(
        *(ops.convert_to_numpy(each(x)) for each in (model, collapsed)), rtol=1e-2
    )


def test_what_is_never_finite():
    """The given model is to blame, and can be compared on inputs that it is for."""
    model = between(lambda x: ops.log(x - 9.0))
    with pytest.raises(ValueError, match=r"on random inputs its outputs are not finite.*Give"):
        collapse(model, cost="macs")
    x = np.random.default_rng(0).uniform(10, 12, (3, 4))
    collapsed = collapse(model, cost="macs", example_inputs=x)
    assert np.isfinite(ops.convert_to_numpy(collapsed(x))).all()
    with pytest.raises(ValueError, match="on `example_inputs` its outputs are not finite"):
        collapse(model, cost="macs", example_inputs=-x)


def test_infinite_outputs_among_others():
    """As logits that are masked away: what is finite agrees."""
    model = between(same, lambda x: ops.where(np.arange(4) == 1, -np.inf, x))
    collapsed = collapse(model, cost="macs")
    spoil(collapsed)
    with pytest.raises(ValueError, match="its outputs are not finite"):
        verify(model, collapsed, None, 8)


def test_what_rounding_decides():
    model = between(same, lambda x: ops.sin(1e7 * x))
    with pytest.raises(ValueError, match=r"if its inputs change in their last digit.*`tolerance`"):
        collapse(model, cost="macs")
    assert collapse(model, cost="macs", tolerance=3.0).built
    # Of large numbers only.
    model = between(same, lambda x: ops.where(ops.abs(x) > 0.3, ops.sin(1e7 * x), x))
    assert collapse(model, cost="macs").built


@pytest.mark.once
def test_fixed_batch_sizes():
    inputs = keras.Input(batch_shape=(5, 4))
    x = ops.reshape(halves()(inputs), (5, 2, 2))
    model = keras.Model(inputs, x)
    assert difference(model, collapse(model, cost="macs"), (5, 4)) < 1e-5
    plan = collapse_plan(model, batch_size=2, verbose=False)
    assert collapse(model, plan).output_shape == (5, 2, 2)


@keras.saving.register_keras_serializable("tests")
class Positions(layers.Layer):
    """A table of positions, as language models have it; on JAX what is beyond it is no number."""

    def __init__(self, length, **kwargs):
        super().__init__(**kwargs)
        self.length = length
        self.table = layers.Embedding(length, 4)

    def call(self, x):
        return x + self.table(ops.cumsum(ops.ones_like(x[..., 0], "int32"), axis=1) - 1)

    def get_config(self):
        return {**super().get_config(), "length": self.length}


@pytest.mark.once
@pytest.mark.parametrize("length", [10, 3])
def test_tables_of_positions_that_are_shorter(length):
    model = between(Positions(length), shape=(None, 4))
    collapsed = collapse(model, cost="macs")
    assert difference(model, collapsed, (2, length, 4)) < 1e-5
    example = np.random.default_rng(0).normal(size=(1, length, 4))
    plan = collapse_plan(model, batch_size=2, verbose=False, example_inputs=example)
    assert difference(model, collapse(model, plan, example_inputs=example), (2, 2, 4)) < 1e-5


@pytest.mark.once
def test_inputs_that_are_tried():
    """Four sizes, and others until the model takes one; a batch that is given, as often as need."""
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, layers.ReLU()(inputs))

    def shapes(accepts, model=model, samples=3, examples=None):
        def call(x):
            if not accepts(x.shape[1]):
                raise RuntimeError(f"not with {x.shape[1]}")
            return "taken"

        found = list(runs(model, call, 32, samples, examples))
        assert {outputs for _, outputs in found} == {"taken"}
        return [x.shape for x, _ in found]

    assert shapes(lambda n: True) == [(3, n, 4) for n in (32, 33, 19, 8)]
    assert shapes(lambda n: n == 19) == [(3, 19, 4)]
    assert shapes(lambda n: n < 4) == [(3, 2, 4)]
    assert shapes(lambda n: n > 200) == [(3, 224, 4)]
    with pytest.raises(ValueError, match=r"on random inputs to compare.*RuntimeError: not with 32"):
        shapes(lambda n: n > 999)
    given = np.arange(40.0).reshape(2, 5, 4)
    assert shapes(lambda n: True, samples=5, examples=given) == [(5, 5, 4)]
    assert shapes(lambda n: True, samples=1, examples=given) == [(2, 5, 4)]
    ((repeated, _),) = runs(model, len, 32, 3, given)
    np.testing.assert_array_equal(repeated, given[[0, 1, 0]])
    with pytest.raises(ValueError, match=r"`example_inputs` must be a batch.*: not with 5"):
        shapes(lambda n: n > 5, examples=given)
    fixed = keras.Input(batch_shape=(2, 5, 4))
    fixed = keras.Model(fixed, layers.ReLU()(fixed))
    assert shapes(lambda n: True, fixed, 2) == [(2, 5, 4)]
    assert shapes(lambda n: True, fixed, 3, given) == [(2, 5, 4)]


@pytest.mark.once
def test_example_inputs_are_arrays_of_the_types_of_the_inputs():
    """And say what unknown sizes are."""
    inputs = {
        "x": keras.Input((4, None, 3), name="x"),
        "n": keras.Input((2,), dtype="int32", name="n"),
    }
    number = ops.cast(ops.sum(inputs["n"], axis=-1), "float32")
    model = keras.Model(inputs, inputs["x"] * number[:, None, None, None])
    x = np.arange(60.0).reshape(1, 4, 5, 3)
    for given in (x, ops.convert_to_tensor(x, "int32")):
        arrays, size = examples(model, {"x": given, "n": np.ones((1, 2))}, 8)
        assert size == 5
        assert (arrays["x"].dtype, arrays["n"].dtype) == ("float32", "int32")
        np.testing.assert_array_equal(arrays["x"], x)
    assert examples(model, None, 8) == (None, 8)
    fixed = keras.Sequential([keras.Input((5,)), layers.ReLU()])
    assert examples(fixed, np.ones((2, 5)), 8)[1] == 8


@pytest.mark.once
def test_differences_are_relative_to_the_largest():
    one, other = (keras.Sequential([keras.Input((3,)), layers.Rescaling(1.0)]) for _ in range(2))
    for scale, change, tolerance, passes in (
        (1e6, 1.0001, 2e-4, True),
        (1e6, 1.0001, 5e-5, False),
        (1e-6, 1.0001, 2e-4, True),
        (1e-6, 1.0001, 5e-5, False),
        (0.0, 1.0, 0.0, True),
    ):
        one.layers[-1].scale, other.layers[-1].scale = scale, scale * change
        if passes:
            verify(one, other, tolerance, 8)
        else:
            with pytest.raises(ValueError, match="of the largest, more than `tolerance`"):
                verify(one, other, tolerance, 8)
    # What is 0 has no size.
    other.layers[-1].scale = 1e-3
    with pytest.raises(ValueError, match="of the largest, more than `tolerance`"):
        verify(one, other, 1e-4, 8)


@pytest.mark.once
def test_bad_example_inputs():
    model = between(same)
    for bad in ([np.ones((2, 4))] * 2, {"x": np.ones((2, 4))}, np.ones(4), np.ones((0, 4)), "x"):
        with pytest.raises(ValueError, match="`example_inputs` must"):
            collapse(model, cost="macs", example_inputs=bad)
    with pytest.raises(ValueError, match="`example_inputs` must be a batch that model"):
        collapse(model, cost="macs", example_inputs=np.ones((2, 5)))


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="Strings are tensors of TensorFlow only."
)
def test_strings():
    words, numbers = keras.Input((1,), dtype="string"), keras.Input((2,))
    one_hot = layers.StringLookup(vocabulary=["a"], output_mode="one_hot")(words)
    x = halves()(layers.Concatenate()([one_hot, numbers]))
    model = keras.Model([words, numbers], [x, words])
    for cost in ("macs", "time"):
        collapsed = collapse(model, cost=cost)
    example = [np.array([["a"], ["b"]]), np.ones((2, 2))]
    collapsed = collapse(model, cost="macs", example_inputs=example)
    x = [ops.convert_to_tensor(each) for each in example]
    np.testing.assert_allclose(model(x)[0], collapsed(x)[0], atol=1e-5)


def test_states_of_layers_start_anew():
    """Of stateful ones, whose outputs differ from run to run."""
    inputs = keras.Input(batch_shape=(3, 5, 4))
    recurrent = layers.GRU(4, stateful=True)
    model = keras.Model(inputs, recurrent(layers.Dense(6)(layers.Dense(8)(inputs))))
    x = np.random.default_rng(0).normal(size=(3, 5, 4))
    model(x)
    plain = collapse(model, cost="macs", example_inputs=x)
    recurrent.reset_state()
    for _ in range(2):
        outputs = [keras.ops.convert_to_numpy(each(x)) for each in (plain, model)]
        np.testing.assert_allclose(*outputs, atol=1e-5)
