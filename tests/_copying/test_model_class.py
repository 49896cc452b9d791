"""Models whose classes train in their own way, and the names of outputs."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_nladv import collapse, prune, sparsify

pytestmark = pytest.mark.once

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")


class Doubling(keras.Model):
    factor = 1.0

    def compute_loss(self, *args, **kwargs):
        return self.factor * super().compute_loss(*args, **kwargs)


class Tracking(Doubling):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.tracker = keras.metrics.Mean(name="tracker")


class Chain(keras.Sequential):
    def train_step(self, *args, **kwargs):
        return {**super().train_step(*args, **kwargs), "own": 1.0}


class Weighed(Doubling):
    """Cannot be called with inputs and outputs alone."""

    def __init__(self, weight, inputs, outputs, **kwargs):
        super().__init__(inputs, outputs, **kwargs)
        self.weight = weight

    def test_step(self, *args, **kwargs):
        return super().test_step(*args, **kwargs)


class Small(keras.Model):
    """Makes its layers itself."""

    def __init__(self, units=3, **kwargs):
        inputs = keras.Input((4,))
        super().__init__(inputs, layers.Dense(units, "relu")(inputs), **kwargs)

    def predict_step(self, *args):
        return super().predict_step(*args)


def ends():
    inputs = keras.Input((4,))
    return inputs, layers.Dense(1)(layers.Dense(8, "relu")(inputs))


def pruned(model):
    return prune(model, 1.0)


BOTH = pytest.mark.parametrize("convert", [sparsify, pruned])


@BOTH
@pytest.mark.parametrize("kind", [Doubling, Tracking])
def test_the_class_is_kept(convert, kind):
    model = kind(*ends(), name="net")
    model.factor, model.labels = 3.0, {"names": ["cat", "dog"]}
    copy = convert(model)
    assert copy.labels == {"names": ["cat", "dog"]}
    assert type(copy) is kind
    assert copy.name == "net"
    losses = []
    for each in (model, copy):
        each.compile("sgd", "mse")
        losses.append(each.test_on_batch(X, np.ones((8, 1))))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    if kind is Tracking:
        assert copy.tracker is not model.tracker


@BOTH
def test_the_class_of_a_sequential_model_is_kept(convert):
    copy = convert(Chain([keras.Input((4,)), layers.Dense(3, "relu"), layers.Dense(1)]))
    assert type(copy) is Chain
    copy.compile("sgd", "mse")
    assert "own" in copy.fit(X, X[:, :1], verbose=0).history


@BOTH
def test_what_is_lost_is_warned_about(convert):
    model = Weighed(2.0, *ends())
    with pytest.warns(UserWarning, match="class Weighed has its own `test_step`, `compute_loss`"):
        assert isinstance(convert(model), keras.Model)
    with pytest.warns(UserWarning, match="class Small has its own `predict_step`"):
        assert convert(Small()).count_params() >= 15
    plain = keras.Model(*ends())
    plain.train_step = lambda data: {}
    with pytest.warns(UserWarning, match="own `train_step`"):
        convert(plain)


def test_collapse_warns_about_what_concerns_predictions():
    collapse(Weighed(2.0, *ends()), cost="macs")
    with pytest.warns(UserWarning, match="own `predict_step`"):
        collapse(Small(), cost="macs")


def test_a_sequential_model_with_a_call_of_its_own_has_no_graph():
    class Scaling(keras.Sequential):
        def call(self, inputs, training=None, mask=None):
            return 2.0 * super().call(inputs, training=training, mask=mask)

    model = Scaling([keras.Input((4,)), layers.Dense(3, "relu")])
    with pytest.raises(ValueError, match="of class Scaling, a subclassed model"):
        sparsify(model)
    inputs = keras.Input((4,))
    outer = keras.Model(inputs, layers.ReLU()(model(inputs)))
    sparse = sparsify(outer)
    np.testing.assert_allclose(*(ops.convert_to_numpy(each(X)) for each in (outer, sparse)))


# ---- Names of outputs


@keras.saving.register_keras_serializable(package="tests")
class Head(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.dense = layers.Dense(3, "relu"), layers.Dense(1, "sigmoid")

    def call(self, x):
        return self.dense(self.hidden(x))


@keras.saving.register_keras_serializable(package="tests")
class Shifted(Head):
    def call(self, x):
        return keras.activations.softplus(super().call(x) - 1.0)


def several_heads():
    inputs = keras.Input((4,), name="x")
    h = layers.Dense(8, activation="relu", name="hidden")(inputs)
    shared = layers.Dense(8, activation="tanh", name="shared")
    nested = keras.Sequential([keras.Input((8,)), layers.Dense(1, "elu")], name="nested")
    outputs = [
        layers.Dense(1, activation="sigmoid", name="prob")(h),
        layers.Dense(1, name="prob_linear")(h),
        Head(name="block")(h),
        Shifted(name="shifted")(h),
        shared(shared(h)),
        nested(h),
        layers.ReLU(name="act")(h),
        keras.activations.silu(h),
    ]
    return keras.Model(inputs, outputs)


def test_outputs_keep_their_names(tmp_path):
    model = several_heads()
    sparse, small = sparsify(model), collapse(model, cost="macs")
    sparse.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for copy in (sparse, pruned(model), small, collapse(sparse, cost="macs"), loaded):
        assert copy.output_names == model.output_names
        names = [operation.name for operation in copy.operations]
        assert len(set(names)) == len(names)
        for one, other in zip(copy(X), model(X), strict=True):
            one, other = map(ops.convert_to_numpy, (one, other))
            np.testing.assert_allclose(one, other, atol=1e-6)
    targets = dict(zip(model.output_names, map(ops.zeros_like, model(X))))
    sparse.compile("sgd", loss=dict.fromkeys(targets, "mse"), metrics={"prob": ["mae"]})
    assert "prob_mae" in sparse.fit(X, targets, verbose=0).history


def test_one_operation_may_give_two_outputs():
    inputs = keras.Input((4,))
    halves = ops.split(layers.Dense(4, "relu", name="dense")(inputs), 2, axis=-1)
    x = layers.Dense(2, "relu", name="last")(halves[0])
    model = keras.Model(inputs, [*halves, x, x])
    assert sparsify(model).output_names == model.output_names
