import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_nladv.tangent import LinearizedModel, jvp
from tests.cases import once, once_but
from tests.tangent import numpy_network as reference
from tests.tangent.reference import MODELS, example, functional, numbers, sequential
from tests.tangent.test_derivatives import Training

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 3)).astype("float32")
Y = RNG.normal(size=(12, 2)).astype("float32")
LABELS = RNG.integers(2, size=12)


def moved(model):
    """Moves the weights of a model, and returns by how much."""
    rng = np.random.default_rng(1)
    steps = [rng.normal(size=v.shape, scale=0.1) for v in model.trainable_variables]
    for variable, step in zip(model.trainable_variables, steps):
        variable.assign(numbers(variable.value) + step)
    return steps


def test_values():
    model = reference.network()
    point = reference.flat(model.get_weights())
    linearized = LinearizedModel(model)
    np.testing.assert_allclose(
        linearized.predict(X, verbose=0), reference.outputs(reference.shaped(point), X), atol=1e-5
    )
    moved(model)
    theta = reference.flat(model.get_weights())
    expected = reference.linearized(theta, point, X)
    np.testing.assert_allclose(numbers(linearized(X)), expected, atol=1e-5)
    np.testing.assert_allclose(linearized.predict(X, verbose=0), expected, atol=1e-5)
    # What was wrapped is the ordinary model, with the new weights.
    ordinary = reference.outputs(reference.shaped(theta), X)
    np.testing.assert_allclose(linearized.model.predict(X, verbose=0), ordinary, atol=1e-5)
    assert np.abs(ordinary - expected).max() > 1e-3

    linearized.relinearize()
    np.testing.assert_allclose(numbers(linearized(X)), ordinary, atol=1e-5)


@pytest.mark.parametrize("name", once_but(MODELS, ["slopes"]))
def test_kinds_of_models(name):
    model, x = example(name)
    linearized = LinearizedModel(model)
    weights = model.get_weights()
    steps = moved(model)
    result = numbers(linearized(x))
    model.set_weights(weights)
    outputs, change = map(numbers, jvp(model, x, steps))
    scale = np.abs(outputs).max()
    np.testing.assert_allclose(result, outputs + change, rtol=1e-5, atol=1e-5 * scale)


def test_closed_form_of_gradient_descent():
    # Fewer outputs than weights: the kernel can be inverted.
    x, y, steps, rate = X[:4], Y[:4], 30, 0.3
    model = reference.network()
    point = reference.flat(model.get_weights())
    linearized = LinearizedModel(model)
    linearized.compile(keras.optimizers.SGD(rate), "mse")
    linearized.fit(x, y, batch_size=4, epochs=steps, verbose=0)

    eta = 2 * rate / y.size  # Keras' loss is a mean.
    jacobian = reference.jacobian(point, x).reshape(y.size, -1)
    residuals = (reference.outputs(reference.shaped(point), x) - y).ravel()
    kernel = jacobian @ jacobian.T
    decay = np.linalg.matrix_power(np.eye(y.size) - eta * kernel, steps)
    change = -jacobian.T @ np.linalg.solve(kernel, residuals - decay @ residuals)
    assert np.abs(change).max() > 0.1
    np.testing.assert_allclose(reference.flat(model.get_weights()), point + change, atol=1e-5)


def test_gradient_of_what_is_below():
    model = reference.network()
    point = reference.flat(model.get_weights())
    below = layers.Dense(3, use_bias=False)
    outer = keras.Sequential([keras.Input((3,)), below, LinearizedModel(model)])
    moved(model)
    theta, kernel = reference.flat(model.get_weights()), numbers(below.kernel.value)
    outer.compile(keras.optimizers.SGD(1.0), "mse")
    outer.train_on_batch(X, Y)
    gradient = kernel - numbers(below.kernel.value)

    def loss(kernel):
        return np.mean((reference.linearized(theta, point, X @ kernel) - Y) ** 2)

    for i, j in np.ndindex(3, 3):
        step = np.zeros((3, 3))
        step[i, j] = 1e-4
        difference = (loss(kernel + step) - loss(kernel - step)) / 2e-4
        assert gradient[i, j] == pytest.approx(difference, rel=1e-3, abs=1e-4)


def test_it_runs_as_in_predict():
    model = sequential(
        (3,), layers.Dense(4), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(2)
    )
    statistics = [each.value for each in model.layers[1].non_trainable_variables]
    before = [numbers(each) for each in statistics]
    linearized = LinearizedModel(model)
    linearized.compile("sgd", "mse")
    expected = np.mean((linearized.predict(X, verbose=0) - Y) ** 2)
    assert float(linearized.train_on_batch(X, Y)) == pytest.approx(expected, rel=1e-5)
    linearized.fit(X, Y, verbose=0)
    after = [numbers(each.value) for each in model.layers[1].non_trainable_variables]
    np.testing.assert_array_equal(after, before)


@pytest.mark.once
def test_masks():
    """Losses leave out what the model masks."""

    def make():
        keras.utils.set_random_seed(0)
        return keras.Sequential(
            [
                keras.Input((4,), dtype="int32"),
                layers.Embedding(5, 3, mask_zero=True),
                layers.GRU(3, return_sequences=True),
                layers.Dense(2),
            ]
        )

    x = np.array([[1, 2, 0, 0], [3, 4, 1, 0], [2, 0, 0, 0]])
    y = RNG.normal(size=(3, 4, 2)).astype("float32")
    losses = []
    for model in (make(), LinearizedModel(make())):
        model.compile("sgd", "mse")
        losses.append(float(model.evaluate(x, y, verbose=0)))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    outputs = make().predict(x, verbose=0)
    assert losses[0] != pytest.approx(np.mean((outputs - y) ** 2), rel=1e-2)


@pytest.fixture(params=["mixed_bfloat16", once("mixed_float16")])
def policy(request):
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


def test_mixed_precision(policy):
    model = reference.network()
    point = reference.flat(model.get_weights())
    linearized = LinearizedModel(model)
    linearized.compile(keras.optimizers.SGD(0.2), "mse")
    scaled = isinstance(linearized.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    linearized.fit(X, Y, batch_size=4, epochs=3, shuffle=False, verbose=0)
    batches = [(X[i : i + 4], Y[i : i + 4]) for i in (0, 4, 8)] * 3
    expected = reference.trained(reference.shaped(point), batches, reference.squared, None)
    theta = reference.flat(model.get_weights())
    np.testing.assert_allclose(theta, reference.flat(expected), atol=1e-2)
    # Half precision does not tell these weights from the point: their difference is in float32.
    linearized.relinearize()
    before, kernel = numbers(linearized(X)), model.layers[0].kernel
    kernel.assign_add(np.full(kernel.shape, 1e-4))
    expected = reference.jacobian(theta, X) @ (reference.flat(model.get_weights()) - theta)
    change = numbers(linearized(X)) - before
    np.testing.assert_allclose(change, expected, atol=0.03 * np.abs(expected).max())


@pytest.mark.once
def test_saved_and_loaded(tmp_path):
    model = sequential((3,), layers.Dense(4, "silu"), layers.BatchNormalization(), layers.Dense(2))
    linearized = LinearizedModel(model, name="tangent")
    moved(model)
    linearized.compile("adam", "mse")
    linearized.fit(X, Y, verbose=0)
    linearized.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert (type(again), again.name) == (LinearizedModel, "tangent")
    for each in (linearized, again):
        each.fit(X, Y, verbose=0)
    np.testing.assert_allclose(
        again.predict(X, verbose=0), linearized.predict(X, verbose=0), rtol=1e-5
    )
    outputs = again.model.predict(X, verbose=0)
    np.testing.assert_allclose(outputs, model.predict(X, verbose=0), rtol=1e-5)


class Penalized(layers.Layer):
    def call(self, inputs):
        self.add_loss(ops.mean(inputs))
        return inputs


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Dense(2), "`model` must be a Keras model"),
        (lambda: keras.Sequential([layers.Dense(2)]), "must be built"),
        (lambda: functional(layers.Flatten(), (3,)), "no trainable variables"),
        (lambda: functional(lambda x: [layers.Dense(2)(x)] * 2, (3,)), "must put out one tensor"),
        (lambda: sequential((3,), layers.Dense(2), Penalized()), "adds losses while it runs"),
        (
            lambda: sequential((3,), layers.Dense(2, activity_regularizer="l2")),
            "adds losses while it runs",
        ),
        (
            lambda: sequential((3,), layers.Dense(2), Training(layers.Dropout(0.5))),
            "draws random numbers",
        ),
    ],
)
def test_bad_models(make, message):
    with pytest.raises(ValueError, match=message):
        LinearizedModel(make()).predict(X, verbose=0)


def test_integers():
    linearized = LinearizedModel(reference.network())
    with pytest.raises(ValueError, match=r"`inputs` must be floats for input .* dtype=int"):
        linearized(np.ones((4, 3), "int32"))


def test_layers_that_become_trainable():
    model = reference.network()
    model.layers[0].trainable = False
    linearized = LinearizedModel(model)
    linearized.compile(keras.optimizers.SGD(0.1), "mse")
    before = [numbers(each.value) for each in model.weights]
    linearized.train_on_batch(X, Y)
    changed = [(numbers(v.value) != old).any() for v, old in zip(model.weights, before)]
    assert changed == [False, False, True, True]
    model.layers[0].trainable = True
    with pytest.raises(ValueError, match="was not trainable when model"):
        linearized(X)
