"""Neural tangent transfer: its loss, its masks, its student, and that it can be gone on with."""

import itertools
import os

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_nladv import tangent
from keras_nladv.tangent.gradient import gradient
from keras_nladv.tangent.transfer_distances import transfer_distances
from tests import processes
from tests.cases import once

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 3)).astype("float32")


def perceptron(seed=0):
    """3 inputs, 4 hidden units, 2 outputs, with weights that are far from 0."""
    rng = np.random.default_rng(seed)
    inputs = keras.Input((3,), name="inputs")
    x = layers.Dense(4, "relu", name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    for weights in model.trainable_weights:
        weights.assign(rng.normal(size=weights.shape))
    return model


def jacobian(weights, x):
    """The outputs of `perceptron` and their derivatives, `(n, 2, 26)`, by hand in float64."""
    first, bias, second, shift = weights
    hidden = x @ first + bias
    active = np.maximum(hidden, 0)
    inner = (hidden > 0)[:, None] * second.T  # (n, outputs, hidden units)
    outer = np.einsum("nh,kl->nkhl", active, np.eye(2))
    parts = [
        np.einsum("ni,nkh->nkih", x, inner),
        inner,
        outer,
        np.broadcast_to(np.eye(2), (len(x), 2, 2)),
    ]
    return active @ second + shift, np.concatenate(
        [each.reshape(len(x), 2, -1) for each in parts], axis=2
    )


def published(student, teacher, masks, x, density, ntk_strength, l2):
    """The loss, with its parts, by hand: of the student's weights before they are masked."""
    masked = [w * m for w, m in zip(student, masks)]
    outputs, derivatives = jacobian(masked, x)
    targets, target_derivatives = jacobian(teacher, x)
    half = len(x) // 2
    kernels = [
        np.einsum("ikp,jlp->ijkl", each[:half], each[half:])
        for each in (derivatives, target_derivatives)
    ]
    output_distance = np.mean((outputs - targets) ** 2)
    kernel_distance = np.mean((kernels[0] - kernels[1]) ** 2)
    squared_norm = np.sum(masked[0] ** 2) + np.sum(masked[2] ** 2)
    loss = output_distance + ntk_strength * kernel_distance + l2 / density * squared_norm
    return loss, output_distance, kernel_distance, squared_norm


def arrays(tensors):
    """Copies in float64."""
    return [np.array(ops.convert_to_numpy(each), "float64") for each in tensors]


def full_masks(transfer):
    """A mask for each variable of `perceptron`; biases are not masked."""
    masks = transfer.masks
    return [masks["hidden/kernel"], np.ones(4), masks["head/kernel"], np.ones(2)]


STRENGTHS = {"density": 0.5, "ntk_strength": 0.1, "l2": 0.1}
RATE, STEPS = 0.1, 8


def test_loss_is_the_published_one():
    model = perceptron()
    transfer = tangent.NeuralTangentTransfer(model, **STRENGTHS)
    teacher = arrays(model.trainable_variables)
    transfer.compile(keras.optimizers.SGD(0.0))
    logs = transfer.fit(X, batch_size=8, verbose=0).history
    order = np.random.default_rng([0, 0]).permutation(8)
    expected = published(teacher, teacher, full_masks(transfer), X[order], **STRENGTHS)
    names = ("loss", "output_distance", "kernel_distance", "squared_norm")
    assert {name: logs[name][0] for name in names} == pytest.approx(
        dict(zip(names, expected)), rel=1e-4
    )
    assert transfer.distances(X[order]) == pytest.approx(
        dict(zip(names[1:3], expected[1:3])), rel=1e-4
    )


def test_training_is_the_published_one():
    """Steps and masks, beside differences of the loss in float64 and the largest magnitudes."""
    model = perceptron()
    transfer = tangent.NeuralTangentTransfer(model, **STRENGTHS, mask_every=2)
    transfer.compile(keras.optimizers.SGD(RATE))
    teacher = arrays(model.trainable_variables)
    weights, masks, seen = [each.copy() for each in teacher], full_masks(transfer), []
    for step in range(STEPS):
        if step and step % 2 == 0:
            for i in (0, 2):
                masks[i] = np.zeros(weights[i].shape)
                kept = np.argsort(-np.abs(weights[i]), axis=None)[: weights[i].size // 2]
                masks[i].flat[kept] = 1
        seen.append(np.concatenate([masks[0].ravel(), masks[2].ravel()]))
        x = X[np.random.default_rng([0, step]).permutation(8)].astype("float64")
        slopes = [np.zeros_like(each) for each in weights]
        for slope, variable in zip(slopes, weights):
            for index in np.ndindex(variable.shape):
                value, losses = variable[index], []
                for change in (1e-6, -1e-6):
                    variable[index] = value + change
                    losses.append(published(weights, teacher, masks, x, **STRENGTHS)[0])
                variable[index] = value
                slope[index] = (losses[0] - losses[1]) / 2e-6
        for variable, slope in zip(weights, slopes):
            variable -= RATE * slope
    transfer.fit(X, batch_size=8, epochs=STEPS, verbose=0)
    for variable, expected in zip(transfer.network.trainable_variables, weights):
        np.testing.assert_allclose(ops.convert_to_numpy(variable), expected, rtol=2e-3, atol=2e-4)
    for mine, expected in zip(full_masks(transfer), masks):
        np.testing.assert_array_equal(mine, expected)
    # A weight that was pruned came back.
    assert any((later > before).any() for before, later in itertools.pairwise(seen))


def test_estimates_are_unbiased_and_spread_as_said():
    """Over all vectors of signs, the mean of the estimates is the distance itself."""
    model = perceptron()
    transfer = tangent.NeuralTangentTransfer(model, **STRENGTHS, estimator="stochastic")
    stateless = transfer._stateless
    x = X[:4]
    estimates = []
    for signs in itertools.product([-1.0, 1.0], repeat=4):
        signs = np.reshape(signs, (1, 2, 2)).astype("float32")
        _, estimate = stateless.compiled(transfer_distances)(
            *transfer._weights(), stateless.state, ops.convert_to_tensor(x), signs
        )
        estimates.append(float(ops.convert_to_numpy(estimate)))
    exact = transfer.distances(x)["kernel_distance"]
    assert np.mean(estimates) == pytest.approx(exact, rel=1e-4)
    teacher = arrays(model.trainable_variables)
    masked = [w * m for w, m in zip(teacher, full_masks(transfer))]
    kernels = [
        np.einsum("ikp,jlp->ikjl", *np.split(jacobian(weights, x)[1], 2)).reshape(4, 4)
        for weights in (masked, teacher)
    ]
    squared = (kernels[0] - kernels[1]).T @ (kernels[0] - kernels[1]) / 16
    variance = 2 * (np.sum(squared**2) - np.sum(np.diag(squared) ** 2))
    assert np.var(estimates) == pytest.approx(variance, rel=1e-3)
    assert variance <= 2 * exact**2


def everything():
    """Kinds of kernels, and normalization."""
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.DepthwiseConv2D(2, name="depthwise")(x)
    x = layers.EinsumDense("bhwc,cd->bd", 3, bias_axes="d", name="einsum")(x)
    return keras.Model(inputs, layers.Dense(2, name="head")(layers.Activation("tanh")(x)))


IMAGES = RNG.normal(2.0, 3.0, size=(12, 6, 6, 2)).astype("float32")


@pytest.mark.once
def test_gradients_of_estimates_are_right():
    """With as many orthogonal vectors of signs as columns of the kernel, nothing is estimated."""
    inputs = keras.Input((6, 6, 2))
    hidden = layers.Conv2D(3, 3, activation="tanh")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(hidden)))
    transfer = tangent.NeuralTangentTransfer(model, density=0.5)
    stateless = transfer._stateless
    x = stateless.inputs(IMAGES[:4])
    signs = np.kron([[1, 1], [1, -1]], [[1, 1], [1, -1]]).reshape(4, 2, 2).astype("float32")
    student, teacher = transfer._weights()

    def gradients(stateless, student, teacher, state, x, signs):
        def kernel_distance(values):
            return transfer_distances(stateless, values, teacher, state, x, signs)[1]

        return gradient(kernel_distance, student)

    (exact, slopes), (estimate, estimates) = (
        stateless.compiled(gradients)(student, teacher, stateless.state, x, each)
        for each in (None, signs)
    )
    for one, other in zip(arrays([exact, *slopes]), arrays([estimate, *estimates]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * np.abs(one).max())


@pytest.mark.once
def test_every_kind_of_kernel_is_transferred():
    model = everything()
    before = arrays(model.weights)
    transfer = tangent.NeuralTangentTransfer(
        model, 0.3, scope="global", select=["conv", "d*", "einsum"]
    )
    logs = transfer.fit(IMAGES, epochs=3, batch_size=6, verbose=0)
    assert all(np.isfinite(each).all() for each in logs.history.values())
    student, masks = transfer.student, transfer.masks
    assert sorted(masks) == ["conv/kernel", "depthwise/kernel", "einsum/kernel"]
    total = sum(mask.size for mask in masks.values())
    assert sum(mask.sum() for mask in masks.values()) == round(0.3 * total)
    for name, mask in masks.items():
        kernel = ops.convert_to_numpy(student.get_layer(name.split("/")[0]).kernel)
        assert (kernel[~mask] == 0).all()
        assert (kernel[mask] != 0).all()
    # The model given is left as it is; it is also the teacher, but for statistics.
    for one, other in zip(before, arrays(model.weights)):
        np.testing.assert_array_equal(one, other)
    norm = student.get_layer("norm")
    hidden = arrays([model.get_layer("conv")(IMAGES)])[0]
    of_batches = hidden[np.random.default_rng([0, 0]).permutation(12).reshape(2, 6)]
    for name, expected in (
        ("moving_mean", of_batches.mean((0, 1, 2, 3))),
        ("moving_variance", of_batches.var((1, 2, 3)).mean(0)),
    ):
        statistic = getattr(norm, name)
        np.testing.assert_allclose(arrays([statistic])[0], expected, rtol=1e-4, atol=1e-5)
        getattr(model.get_layer("norm"), name).assign(statistic)
    measured = transfer.distances(IMAGES[:6])
    kernels = [tangent.empirical_ntk(each, IMAGES[:3], IMAGES[3:6]) for each in (model, student)]
    outputs = [arrays([each(IMAGES[:6])])[0] for each in (model, student)]
    assert measured == pytest.approx(
        {
            "output_distance": np.mean((outputs[0] - outputs[1]) ** 2),
            "kernel_distance": np.mean((kernels[0] - kernels[1]) ** 2),
        },
        rel=1e-3,
    )


def test_student_trains_and_its_pruned_weights_stay_zero(tmp_path):
    transfer = tangent.NeuralTangentTransfer(perceptron(), density=0.5)
    logs = transfer.fit(X, epochs=2, batch_size=4, verbose=0, validation_data=X[:4]).history
    assert logs["val_kernel_distance"][-1] == pytest.approx(
        transfer.distances(X[np.random.default_rng([0, 0]).permutation(4)])["kernel_distance"],
        rel=1e-4,
    )
    student, masks = transfer.student, transfer.masks
    assert student is transfer.student
    student.compile(keras.optimizers.AdamW(0.1), "mse")
    student.fit(X, X[:, :2], epochs=2, verbose=0)
    student.save(tmp_path / "student.keras")
    loaded = keras.saving.load_model(tmp_path / "student.keras")
    loaded.compile("sgd", "mse")
    loaded.fit(X, X[:, :2], verbose=0)
    for model in (student, loaded):
        for name, mask in masks.items():
            kernel = ops.convert_to_numpy(model.get_layer(name.split("/")[0]).kernel)
            assert (kernel[~mask] == 0).all()
            assert (kernel[mask] != 0).all()
    transfer.fit(X, batch_size=4, verbose=0)
    assert student is not transfer.student


def resumable():
    transfer = tangent.NeuralTangentTransfer(
        perceptron(), density=0.3, estimator="stochastic", mask_every=3
    )
    # Masks change in every second epoch or so.
    transfer.compile(keras.optimizers.Adam(0.1))
    return transfer


def continued(directory, kill_in=None):
    """Fits for four epochs, or goes on. The process ends at once in the epoch `kill_in`."""

    def kill(epoch, logs):
        if epoch == kill_in:
            os._exit(3)

    transfer = resumable()
    history = transfer.fit(
        X,
        epochs=4,
        batch_size=2,
        verbose=0,
        log_dir=directory / "logs",
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_end=kill),
            keras.callbacks.BackupAndRestore(directory / "backup"),
        ],
    )
    return transfer, history.history


@pytest.mark.once
def test_goes_on_after_a_killed_process(tmp_path, read_events):
    code = (
        "import pathlib, sys; from tests.tangent import test_neural_tangent_transfer as test; "
        "test.continued(pathlib.Path(sys.argv[1]), kill_in=2)"
    )
    status, said = processes.run(code, tmp_path)
    assert status == 3, said
    transfer, history = continued(tmp_path)
    whole = resumable()
    uninterrupted = whole.fit(X, epochs=4, batch_size=2, verbose=0).history
    assert {key: len(values) for key, values in history.items()} == dict.fromkeys(uninterrupted, 2)
    for key, values in uninterrupted.items():
        assert history[key] == pytest.approx(values[2:], rel=1e-4)
        events = read_events(tmp_path / "logs").Scalars(key)
        assert [event.step for event in events] == [0, 1, 2, 3]
        assert [event.value for event in events] == pytest.approx(values, rel=1e-4)
    for name, mask in whole.masks.items():
        np.testing.assert_array_equal(transfer.masks[name], mask)
    for one, other in zip(arrays(transfer.weights), arrays(whole.weights), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.once
def test_saved_and_loaded(tmp_path):
    transfer = resumable()
    transfer.fit(X, epochs=2, batch_size=4, verbose=0)
    transfer.save(tmp_path / "transfer.keras")
    loaded = keras.saving.load_model(tmp_path / "transfer.keras")
    assert loaded.get_config() == transfer.get_config()
    assert loaded.distances(X) == pytest.approx(transfer.distances(X), rel=1e-5)
    for name, mask in transfer.masks.items():
        np.testing.assert_array_equal(loaded.masks[name], mask)
    histories = [
        each.fit(X, epochs=4, initial_epoch=2, batch_size=4, verbose=0).history
        for each in (transfer, loaded)
    ]
    for key, values in histories[0].items():
        assert histories[1][key] == pytest.approx(values, rel=1e-4)


def test_outputs_that_are_cut_off_are_warned_about():
    transfer = tangent.NeuralTangentTransfer(perceptron(), density=0.01)
    with pytest.warns(UserWarning, match="cut every path to . of 2 output channels"):
        _ = transfer.student


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"density": 0}, "`density` must be"),
        ({"density": 1.5}, "`density` must be"),
        ({"scope": "model"}, "`scope` must be one of"),
        ({"ntk_strength": -1}, "`ntk_strength` must be"),
        ({"l2": float("nan")}, "`l2` must be"),
        ({"mask_every": 0}, "`mask_every` must be"),
        ({"estimator": "guess"}, "`estimator` must be one of"),
        ({"probes": 1.5}, "`probes` must be"),
        ({"select": "none*"}, "nothing to prune"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tangent.NeuralTangentTransfer(perceptron(), **arguments)


NAN = np.where(np.arange(3) == 1, np.nan, X)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": X, "y": X}, "without labels. Received: x and y"),
        ({"x": (X, X)}, "without labels. Received: a tuple"),
        ({"x": None}, "`x` must be an array"),
        ({"x": NAN}, "`x` must hold numbers, none of them NaN"),
        ({"x": X.astype(str)}, "`x` must hold numbers"),
        ({"x": X[:, :2]}, "`x` must have examples of shape"),
        ({"x": X[:1]}, "`x` must hold at least two examples"),
        ({"x": X, "batch_size": 9}, "`batch_size` must be at most 8"),
        ({"x": X, "batch_size": 1}, "`batch_size` must be an integer of at least 2"),
        ({"x": X, "batch_size": 4, "validation_data": NAN}, "`validation_data` must hold numbers"),
    ],
)
def test_wrong_inputs(arguments, message):
    transfer = tangent.NeuralTangentTransfer(perceptron(), density=0.5)
    before = arrays(transfer.weights)
    with pytest.raises(ValueError, match=message):
        transfer.fit(**arguments)
    for one, other in zip(before, arrays(transfer.weights)):
        np.testing.assert_array_equal(one, other)


@pytest.mark.once
def test_training_that_diverges_says_so():
    transfer = tangent.NeuralTangentTransfer(perceptron(), density=0.5, mask_every=2)
    transfer.compile(keras.optimizers.SGD(1e30))
    with pytest.raises(ValueError, match="training has diverged"):
        transfer.fit(X, epochs=4, batch_size=2, verbose=0)


# ---- What makes batches


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return (STREAM[index * 8 : index * 8 + 8],)


STREAM = np.random.default_rng(5).normal(size=(30, 6)).astype("float32")


def pieces(wrap=lambda x: x):
    return [wrap(STREAM[start : start + 8]) for start in range(0, 30, 8)]


class Again:
    """As a data loader: it starts anew, and has no length."""

    def __init__(self, wrap):
        self.wrap = wrap

    def __iter__(self):
        return iter(pieces(self.wrap))


def forever():
    while True:
        yield from pieces()


@pytest.mark.parametrize(
    ("make", "steps", "estimator"),
    [
        (Batches, {}, "stochastic"),
        once(lambda: Again(lambda x: [x]), {}, "exact"),
        pytest.param(
            lambda: Again(lambda x: (x,)),
            {"steps_per_epoch": np.int64(3)},
            "stochastic",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda: iter(pieces() * 2), {"steps_per_epoch": 3}, "exact", marks=pytest.mark.slow
        ),
        once(forever, {"steps_per_epoch": 3}, "exact"),
    ],
)
def test_whatever_makes_batches(make, steps, estimator):
    """The last of them has six examples and is left out, so that all are the same batches."""
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, "relu", name="a"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(3, name="b"),
        ]
    )
    transfer = tangent.NeuralTangentTransfer(model, density=0.3, mask_every=2, estimator=estimator)
    history = transfer.fit(
        make(), epochs=2, validation_data=Again(lambda x: (x,)), verbose=0, **steps
    )
    assert len(history.history["val_loss"]) == 2
    assert int(transfer.optimizer.iterations) == 6
    statistics = transfer.network.get_layer("norm").moving_mean
    assert np.abs(ops.convert_to_numpy(statistics)).max() > 0
    assert all(mask.mean() < 0.4 for mask in transfer.masks.values())


def test_steps_of_arrays_and_what_is_no_batch():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3, name="b")])
    transfer = tangent.NeuralTangentTransfer(model, density=0.5)
    transfer.fit(STREAM, batch_size=8, epochs=2, steps_per_epoch=2, verbose=0)
    assert int(transfer.optimizer.iterations) == 4
    with pytest.raises(ValueError, match="`steps_per_epoch` must say how many"):
        transfer.fit(forever(), verbose=0)
    with pytest.raises(ValueError, match="without labels"):
        transfer.fit(Again(lambda x: (x, x[:, 0])), verbose=0)
    with pytest.raises(ValueError, match="which gives none"):
        transfer.fit(iter([]), steps_per_epoch=1, verbose=0)
