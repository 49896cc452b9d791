"""Which weights are pruned, and that they stay pruned."""

import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from keras import layers, ops

from keras_nladv import FixedMask, path_length, prune
from keras_nladv.pruning import largest, masked, prunable
from tests import processes

X = np.random.default_rng(1).normal(size=(16, 6, 6, 2)).astype("float32")
Y = np.random.default_rng(2).normal(size=(16, 3)).astype("float32")


def network():
    """Every kind of kernel; nested, shared and wrapped."""
    inputs = keras.Input((6, 6, 2))
    x = layers.SeparableConv2D(4, 3, padding="same", name="separable")(inputs)
    inner = keras.Sequential(
        [keras.Input((6, 6, 4)), layers.Conv2D(4, 3, padding="same", groups=2, name="conv")],
        name="inner",
    )
    x = layers.BatchNormalization()(inner(inner(x)))
    x = layers.DepthwiseConv2D(3, name="depthwise", depthwise_constraint="non_neg")(x)
    x = layers.Conv2DTranspose(5, 2, activation="relu", name="transposed")(x)
    x = layers.Reshape((5, 25))(x)
    x = layers.TimeDistributed(layers.Dense(4, name="dense"), name="wrapper")(x)
    x = layers.MultiHeadAttention(2, 2, name="attention")(x, x)
    x = layers.EinsumDense("abc,cd->abd", (5, 4), name="einsum")(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.Flatten()(x)))


NAMES = [
    *("separable/depthwise_kernel", "separable/pointwise_kernel", "inner/conv/kernel"),
    *("depthwise/kernel", "transposed/kernel", "wrapper/dense/kernel"),
    *("einsum/kernel", "head/kernel"),
]


def values(model):
    return {k.name: ops.convert_to_numpy(k.variable).copy() for k in prunable(model)}


scores = st.dictionaries(
    st.sampled_from("abcd"),
    arrays("float32", array_shapes(max_dims=3, max_side=6), elements=st.integers(0, 5)),
    min_size=1,
)


@given(scores, st.floats(0.01, 1.0), st.sampled_from(["layer", "global"]))
def test_largest(scores, density, scope):
    masks = largest(scores, density, scope)
    groups = [list(scores)] if scope == "global" else [[name] for name in scores]
    for names in groups:
        each = np.concatenate([scores[name].ravel() for name in names])
        kept = np.concatenate([masks[name].ravel() for name in names])
        assert kept.sum() == max(round(density * len(each)), 1)
        assert min(each[kept]) >= max(each[~kept], default=-1)
    assert {name: mask.shape for name, mask in masks.items()} == {
        name: each.shape for name, each in scores.items()
    }


def test_names():
    model = network()
    assert [kernel.name for kernel in prunable(model)] == NAMES
    assert [kernel.name for kernel in prunable(model, "inner/*")] == ["inner/conv/kernel"]
    chosen = prunable(model, lambda name, layer: isinstance(layer, layers.Dense))
    assert [kernel.name for kernel in chosen] == ["wrapper/dense/kernel", "head/kernel"]


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_magnitudes(scope):
    model = network()
    before = values(model)
    pruned = prune(model, 0.3, scope=scope)
    after = values(pruned)
    assert list(after) == NAMES  # Layers that Keras knows are not opened.
    pooled = np.sort(np.abs(np.concatenate([value.ravel() for value in before.values()])))
    for name, value in before.items():
        magnitudes = np.abs(value)
        ranked = pooled if scope == "global" else np.sort(magnitudes, axis=None)
        least = ranked[-round(0.3 * ranked.size)]
        np.testing.assert_array_equal(after[name], np.where(magnitudes >= least, value, 0))
    # The model itself is as it was, and all else is the same in both.
    np.testing.assert_equal(values(model), before)
    others = [
        [w for w in each.weights if all(w is not k.variable for k in prunable(each))]
        for each in (model, pruned)
    ]
    for mine, theirs in zip(*others, strict=True):
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (mine, theirs)))


def test_random_masks_are_uniform():
    """Counts in rows, columns and blocks of a kernel spread as those of independent draws do."""
    model = keras.Sequential([keras.Input((120,)), layers.Dense(120, name="dense")])
    first, same, other = (
        values(prune(model, 0.25, "random", **seed))["dense/kernel"] != 0
        for seed in ({}, {"seed": 0}, {"seed": 1})
    )
    assert (first == same).all()
    assert abs((first & other).mean() - 1 / 16) < 4 * np.sqrt(1 / 16 * 15 / 16) / 120
    blocks = first.reshape(12, 10, 12, 10).sum(axis=(1, 3)).ravel()
    for counts in (first.sum(axis=0), first.sum(axis=1), blocks):
        expected = first.sum() / len(counts)
        squares = ((counts - expected) ** 2 / expected / 0.75).sum()
        # Chi-square, whose variance is twice its mean.
        assert abs(squares - len(counts)) < 4 * np.sqrt(2 * len(counts))


def test_scores_of_ones_own_in_rounds():
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(8, name="dense"), layers.Dense(8, name="head")]
    )
    left = []

    def scores(model, kernels):
        assert [kernel.name for kernel in kernels] == ["dense/kernel"]
        left.append(np.count_nonzero(kernels[0].variable))
        # Those that are gone score highest, and stay gone.
        return [-np.abs(ops.convert_to_numpy(kernel.variable)) for kernel in kernels]

    pruned = prune(model, 1 / 8, scores, rounds=3, select="dense")
    assert left == [64, 32, 16]
    kernel = np.abs(model.layers[0].get_weights()[0])
    smallest = kernel <= np.sort(kernel, axis=None)[7]
    np.testing.assert_array_equal(pruned.layers[0].get_weights()[0] != 0, smallest)
    assert (pruned.layers[1].get_weights()[0] != 0).all()
    left.clear()
    prune(model, 1 / 8, scores, select="dense")
    assert left == [64]


@pytest.mark.once
def test_pruned_weights_stay_pruned(tmp_path):
    """Through training, and after that in another process; with the constraints that there were."""
    model = prune(network(), 0.4)
    masks = {name: value != 0 for name, value in values(model).items()}
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=0.1), "mse")
    model.fit(X, Y, epochs=2, verbose=0)
    model.save(tmp_path / "pruned.keras")
    np.savez(tmp_path / "data.npz", x=X, y=Y)
    code = f"""
import keras, numpy as np, keras_nladv
data = np.load({str(tmp_path / "data.npz")!r})
model = keras.models.load_model({str(tmp_path / "pruned.keras")!r})
model.fit(data["x"], data["y"], epochs=2, verbose=0)
model.save({str(tmp_path / "again.keras")!r})
"""
    assert processes.run(code) == (0, "")
    again = keras.models.load_model(tmp_path / "again.keras")
    for name, value in values(again).items():
        assert (value[~masks[name]] == 0).all(), name
        assert (value != values(model)[name]).any(), name
    kernel = again.get_layer("depthwise").kernel
    assert isinstance(kernel.constraint.constraint, keras.constraints.NonNeg)
    assert (ops.convert_to_numpy(kernel) >= 0).all()


def test_masks_on_masks():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, name="dense")])
    once = masked(model, {"dense/kernel": [[1, 1], [0, 1]]})
    twice = masked(once, {"dense/kernel": [[1, 0], [1, 1]]})
    constraint = twice.layers[0].kernel_constraint
    assert constraint.mask.tolist() == [[True, False], [False, True]]
    assert constraint.constraint is None
    assert once.layers[0].kernel_constraint.mask.tolist() == [[True, True], [False, True]]
    assert np.count_nonzero(prune(once, 1.0).get_weights()[0]) == 3


def test_cut_paths():
    inputs = keras.Input((2,))
    x = layers.Dense(2, name="first")(inputs)
    model = keras.Model(inputs, layers.Dense(3, name="second")(x))
    masks = {"first/kernel": [[1, 0], [0, 0]], "second/kernel": [[0, 0, 1], [0, 1, 0]]}
    with pytest.warns(UserWarning, match="cut every path to 2 of 3 output channels"):
        masked(model, masks)
    masks["second/kernel"] = [[0, 0, 0], [0, 1, 0]]
    with pytest.warns(UserWarning, match="cut every path to 3 of 3 output channels"):
        cut = masked(model, masks)
    outputs = ops.convert_to_numpy(cut(np.random.default_rng(0).normal(size=(5, 2))))
    assert (outputs == outputs[0]).all()
    with pytest.warns(UserWarning, match="cut every path"):
        assert path_length(cut, weights=True) == 0.0


class Sorting(layers.Layer):
    def call(self, x):
        return ops.sort(x)


def test_paths_that_are_not_known_are_no_matter():
    model = keras.Sequential([keras.Input((3,)), Sorting(), layers.Dense(2)])
    assert np.count_nonzero(prune(model, 0.5).layers[-1].get_weights()[0]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"density": 0.0},
            "`density` must be a number greater than 0 and at most 1. Received: density=0.0",
        ),
        ({"density": 1.5}, "`density` must be a number"),
        ({"density": float("nan")}, "`density` must be a number"),
        ({"density": True}, "`density` must be a number"),
        ({"scores": "largest"}, r"`scores` must be a function or one of \('magnitude', 'random'\)"),
        ({"scores": lambda model, kernels: [np.ones(3)]}, r"shape \(2, 2\) for 'dense/kernel'"),
        ({"scores": lambda model, kernels: [np.ones((2, 1))]}, r"Received: shape \(2, 1\)"),
        ({"scores": lambda model, kernels: []}, "array for each of 1 kernels. Received: 0 arrays"),
        ({"scores": lambda model, kernels: [np.full((2, 2), np.nan)]}, "of 'dense/kernel' must be"),
        ({"scope": "all"}, r"`scope` must be one of \('layer', 'global'\). Received: scope='all'"),
        ({"rounds": 0}, "`rounds` must be an integer of at least 1. Received: rounds=0"),
        ({"seed": -1}, "`seed` must be an integer of at least 0"),
        ({"select": 3}, "`select` must be a pattern for names or a list of them"),
        ({"select": "conv*"}, "nothing to prune: .* that select='conv\\*' takes"),
    ],
)
def test_bad_arguments(arguments, message):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, name="dense")])
    with pytest.raises(ValueError, match=message):
        prune(model, **{"density": 0.5, **arguments})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: keras.Sequential([layers.Dense(2)]), "must be built"),
        (lambda: keras.Sequential([keras.Input((2,)), layers.ReLU()]), "has nothing to prune"),
    ],
)
def test_bad_models(make, message):
    with pytest.raises(ValueError, match=message):
        prune(make(), 0.5)


def test_frozen_layers_are_left():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2), layers.Dense(2)])
    model.layers[0].trainable = False
    pruned = prune(model, 0.5)
    assert [np.count_nonzero(layer.get_weights()[0]) for layer in pruned.layers] == [4, 2]


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"dense/bias": [1, 1]}, "pruned: dense/kernel. Received: a mask for 'dense/bias'"),
        ({"dense/kernel": [1, 1]}, r"shape of the kernel, \(2, 2\). Received: \(2,\)"),
        ({"dense/kernel": np.ones((2, 3))}, r"shape of the kernel, \(2, 2\). Received: \(2, 3\)"),
    ],
)
def test_masks_that_do_not_fit(masks, message):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, name="dense")])
    with pytest.raises(ValueError, match=message):
        masked(model, masks)


def test_density_one_prunes_nothing():
    model = network()
    pruned = prune(model, 1)
    np.testing.assert_equal(values(pruned), values(model))
    assert all(isinstance(k.variable.constraint, FixedMask) for k in prunable(pruned))


@keras.saving.register_keras_serializable(package="tests")
class Wrapped(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.a, self.b = layers.Dense(8, activation="relu", name="a"), layers.Dense(2, name="b")

    def call(self, x):
        return self.b(self.a(x))


@keras.saving.register_keras_serializable(package="tests")
class Scaled(Wrapped):
    """It has a weight of its own, and so cannot be opened."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        return super().call(x) * self.scale


@pytest.mark.parametrize(
    "wrap",
    [
        lambda block: block,
        lambda block: keras.Sequential([block]),
        lambda block: lambda x: layers.ReLU()(block(block(x))),
    ],
)
def test_blocks_are_opened(wrap, tmp_path):
    """As the error advises, a subclassed model is wrapped, and pruned."""
    with pytest.raises(ValueError, match=r"subclassed model\. Wrap it"):
        prune(Wrapped(), 0.5)
    inputs = keras.Input((2,))
    model = keras.Model(inputs, wrap(Wrapped(name="block"))(inputs))
    x = np.random.default_rng(0).normal(size=(8, 2))
    everything = prune(model, 1)
    np.testing.assert_allclose(
        ops.convert_to_numpy(everything(x)), ops.convert_to_numpy(model(x)), rtol=1e-5
    )
    pruned = prune(model, 0.5)
    assert sorted(np.count_nonzero(each) for each in values(pruned).values()) == [8, 8]
    only = prune(model, 0.5, select="*a")
    assert sorted(np.count_nonzero(each) for each in values(only).values()) == [8, 16]
    masks = {name: each != 0 for name, each in values(pruned).items()}
    np.testing.assert_equal(values(masked(model, masks)), values(pruned))
    pruned.compile("sgd", "mse")
    pruned.train_on_batch(x, np.ones((8, 2)))
    pruned.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert sorted(np.count_nonzero(each) for each in values(loaded).values()) == [8, 8]


class MaskedSum(Wrapped):
    def call(self, x, mask=None):
        weights = 1.0 if mask is None else ops.cast(mask, "float32")[..., None]
        return ops.sum(super().call(x) * weights, axis=1)


@pytest.mark.once
@pytest.mark.filterwarnings("ignore:Layer '.*' .* was passed an input with a mask")
def test_masks_reach_blocks_in_nested_models():
    inputs, inside = keras.Input((5,), dtype="int32"), keras.Input((5, 4))
    inner = keras.Model(inside, MaskedSum()(inside))
    x = layers.Embedding(9, 4, mask_zero=True)(inputs)
    model = keras.Model(inputs, inner(x))
    everything = prune(model, 1)
    assert len(values(everything)) == 2
    ids = np.array([[1, 2, 0, 0, 8], [0, 0, 3, 0, 0]])
    np.testing.assert_allclose(
        ops.convert_to_numpy(everything(ids)), ops.convert_to_numpy(model(ids)), rtol=1e-5
    )


def test_blocks_that_cannot_be_opened_are_kept_whole():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, layers.Dense(3, name="head")(Scaled(name="block")(inputs)))
    assert list(values(prune(model, 1))) == ["head/kernel"]
    with pytest.raises(ValueError, match="are pruned if these can be opened"):
        prune(keras.Model(inputs, Scaled()(inputs)), 0.5)


@keras.saving.register_keras_serializable(package="tests")
class Clipping(keras.constraints.Constraint):
    """A user's own, which happens to have an attribute of the name of ours."""

    mask = np.zeros((4, 3), bool)

    def __call__(self, weights):
        return ops.clip(weights, -0.1, 0.1)


def test_pruned_twice_with_a_constraint_of_ones_own():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="dense")])
    model.layers[0].kernel.constraint = Clipping()
    once = prune(model, 0.75)
    twice = prune(once, 0.25)
    for each, kept in ((once, 9), (twice, 3)):
        constraint = each.layers[0].kernel.constraint
        assert type(constraint) is FixedMask
        assert type(constraint.constraint) is Clipping
        assert constraint.mask.sum() == kept
        applied = ops.convert_to_numpy(constraint(np.ones((4, 3), "float32")))
        np.testing.assert_allclose(applied, 0.1 * constraint.mask)
    magnitudes = np.abs(ops.convert_to_numpy(model.layers[0].kernel))
    first = FixedMask(once.layers[0].kernel.constraint.mask).mask
    assert (magnitudes[first].min() >= magnitudes[~first].max()).all()
