import csv
import json
import sys

import keras
import numpy as np
import pytest
from keras import layers

import keras_nladv
from keras_nladv import (
    CollapsePlan,
    SparsePReLU,
    collapse,
    nonlinearity_report,
    path_length,
)
from keras_nladv.merging import PressureWeights
from keras_nladv.merging.costs import Stopwatch
from options.compress import METHODS
from results.costs import macs
from results.plots import plot_pareto
from tests.cases import once_but
from training.budget import linearize, random_channels, ranked_by_entropy, ranked_by_loss

from .recipe import Recipe, assert_is_picture

recipe = Recipe("compress.py")

# With 3 steps an epoch, the pressure has to be high.
SHORT = (
    "--epochs 1 --press-epochs 2 --finetune-epochs 1 --batch-size 50 --strength 20 --cost macs "
    "--budgets 0.4 --methods ours entropy"
)
COLUMNS = (
    "method,budget,reached,accuracy,path_length,nonlinear_operations,parameters,macs,ms,"
    "times_as_fast,pareto"
)


def network():
    """A small classifier of digits, of which collapsing leaves a plain model."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Rescaling(1 / 16),
            layers.Conv2D(6, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(12, 1, activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )


@pytest.fixture(scope="module")
def finished(npz, tmp_path_factory):
    """The directory of a finished run, and what the run printed."""
    path = tmp_path_factory.mktemp("runs")
    keras.utils.set_random_seed(0)
    network().save(path / "given.keras")
    arguments = f"--dataset {npz} --model-file {path / 'given.keras'} {SHORT}"
    return recipe.finished(arguments, path / "run")


def test_results(finished):
    path, out = finished
    rows = json.loads((path / "summary.json").read_text())["rows"]
    assert [(row["method"], row["budget"]) for row in rows] == [
        ("original", None),
        ("original", 1.0),
        ("ours", 0.4),
        ("entropy", 0.4),
    ]
    assert all(row["reached"] <= 0.4 for row in rows[2:])
    assert rows[0]["times_as_fast"] == 1
    assert any(row["pareto"] for row in rows)
    with open(path / "results.csv") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == COLUMNS.split(",")
    assert [row["accuracy"] for row in table] == [str(row["accuracy"]) for row in rows]
    assert out.endswith((path / "report.txt").read_text() + "\n")
    for row in rows:
        assert f"{row['accuracy']:.2%}" in out
    # The model was given, and so it was not trained.
    given = keras.models.load_model(path.parent / "given.keras")
    original = keras.models.load_model(path / "original.keras")
    for value, other in zip(original.get_weights(), given.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)


@pytest.mark.parametrize("name", once_but(["original", "ours-0.4", "entropy-0.4"], ["ours-0.4"]))
def test_models_and_plans(finished, arrays, name):
    path, _ = finished
    rows = json.loads((path / "points.json").read_text())
    method, _, budget = name.partition("-")
    row = next(
        r for r in rows if r["method"] == method and r["budget"] == (float(budget) if budget else 1)
    )
    file = f"{name}-pressed.keras" if budget else "original.keras"
    pressed = keras.models.load_model(path / file)
    collapsed = keras.models.load_model(path / f"{name}-collapsed.keras")
    images = arrays["x_test"][..., None].astype("float32")
    outputs = collapsed.predict(images, verbose=0)
    np.testing.assert_allclose(pressed.predict(images, verbose=0), outputs, atol=1e-4)
    assert np.mean(outputs.argmax(axis=1) == arrays["y_test"]) == pytest.approx(row["accuracy"])
    assert path_length(pressed) == row["path_length"]
    assert nonlinearity_report(collapsed).operations == row["nonlinear_operations"]
    assert (collapsed.count_params(), macs(collapsed)) == (row["parameters"], row["macs"])
    again = collapse(pressed, CollapsePlan.load(path / f"{name}-plan.json"))
    assert again.count_params() == row["parameters"]


@pytest.mark.once
def test_a_share_of_the_time_in_an_engine(npz, tmp_path, monkeypatch):
    """Predicted from what linear units save there, measured, and written to files for it."""
    openvino = pytest.importorskip("openvino")
    # As soon as there are some rounds.
    monkeypatch.setattr(sys.modules["keras_nladv.engines.milliseconds"], "SURE", 10.0)
    # Whatever else the machine does meanwhile.
    monkeypatch.setattr(Stopwatch, "saved", lambda self, lists, shape: [0.1, 0.15, 0.18, 0.2])
    asked = []
    plan = keras_nladv.collapse_plan
    monkeypatch.setattr(
        keras_nladv, "collapse_plan", lambda *x, **given: asked.append(given) or plan(*x, **given)
    )
    keras.utils.set_random_seed(0)
    keras.Sequential(
        [
            *(keras.Input((8, 8, 1)), layers.Flatten(), layers.Rescaling(1 / 16)),
            *(layers.Dense(2048, activation="gelu"), layers.Dense(10)),
        ]
    ).save(tmp_path / "given.keras")
    path = tmp_path / "run"
    status, out, err = recipe.run_here(
        f"--dataset {npz} --model-file {tmp_path / 'given.keras'} --run-dir {path} --cost macs "
        "--engine openvino --for-int8 False --budget-kind time --budgets 0.9 --methods weighted "
        "--press-epochs 2 --finetune-epochs 0 --strength 20 --batch-size 80"
    )
    assert status == 0, err
    rows = json.loads((path / "summary.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["original", "original", "weighted"]
    assert [(x["engine"], x["for_int8"]) for x in asked] == [("openvino", False)] * 2
    assert rows[2]["reached"] <= 0.9
    assert "weighted at 90% of the time: " in out
    assert "medians of a batch of\n1 in openvino" in out
    weights = PressureWeights.load(path / "pressure.json")
    assert weights.setting["engine"] == "openvino"
    assert weights.saved(keras.models.load_model(path / "weighted-0.9-pressed.keras")) > 0
    x = np.load(npz)["x_test"][:1, ..., None].astype("float32")
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    for name in ("original", "original-collapsed", "weighted-0.9-collapsed"):
        received = openvino.Core().compile_model(path / f"{name}.xml", "CPU", exact)(x)[0]
        expected = keras.models.load_model(path / f"{name}.keras").predict(x, verbose=0)
        np.testing.assert_allclose(received, expected, atol=1e-4)


@pytest.mark.once
def test_picture(finished):
    assert_is_picture(finished[0] / "pareto.png")


@pytest.mark.once
def test_picture_of_all_methods():
    """Each has a color of its own, and all points are inside."""
    points = [("original", "original", 0.2), ("original", 1.0, 0.19)]
    points += [(method, 0.5, 0.1 + 0.01 * i) for i, method in enumerate(METHODS)]
    rows = [
        {"method": method, "budget": budget, "ms": ms, "accuracy": 0.9, "nonlinear_operations": 9}
        for method, budget, ms in points
    ]
    time, _ = plot_pareto(rows, "title", "1 in an engine").axes
    assert len({line.get_color() for line in time.lines}) == len(METHODS) + 2
    assert time.get_xlim()[1] > 0.2


@pytest.mark.once
def test_a_finished_run_is_not_run_again(finished):
    message = "budgets (there [0.4], now [0.3])"
    recipe.assert_does_not_run_again(finished[0], SHORT, "--budgets 0.3", message)


@pytest.mark.slow
def test_a_run_that_was_stopped(finished, tmp_path):
    """What is done is kept, and what is left gives the numbers that it would have given."""
    path, _ = finished
    for file in path.iterdir():
        if file.name not in ("summary.json", "report.txt"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    rows = json.loads((path / "points.json").read_text())
    (tmp_path / "points.json").write_text(json.dumps(rows[:3]))
    status, out, err = recipe.run(f"--run-dir {tmp_path} --resume")
    assert status == 0, err
    assert "ours-0.4: 1 of 2" not in out
    assert json.loads((tmp_path / "points.json").read_text()) == rows


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--budgets 0.5 1", "--budgets must be less than 1. Received: 1.0"),
        ("--budgets 0.5 0.5", "--budgets must name each value once"),
        ("--methods ours l2", "invalid choice 'l2'"),
        ("--press-epochs 0", "--press-epochs must be greater than or equal to 1. Received: 0"),
        ("--dataset cifar11", "--dataset must be auto, digits"),
        ("--model vgg", "--model must be mobilenet"),
        ("--model-file missing.keras", "--model-file: there is no file"),
        ("--export tflite", "invalid choice 'tflite'"),
        ("--engine tensorrt", "invalid choice 'tensorrt'"),
        ("--export tf_saved_model --backend torch", "torch; it is with tensorflow or jax."),
    ],
)
def test_bad_arguments(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe.assert_refuses(arguments, message, tmp_path)


@pytest.mark.once
@pytest.mark.parametrize(
    ("size", "message"), [(8, "the 10 classes of digits"), (9, "images of shape (8, 8, 1)")]
)
def test_a_model_that_does_not_fit(tmp_path, size, message):
    model = keras.Sequential([keras.Input((size, size, 1)), layers.Flatten(), layers.ReLU()])
    model.save(tmp_path / "given.keras")
    status, _, err = recipe.run_here(
        f"--model-file {tmp_path / 'given.keras'} --run-dir {tmp_path / 'run'}"
    )
    assert status == 1
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def linearizable():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(8),
            SparsePReLU(name="first"),
            layers.Dense(16, kernel_initializer="zeros", bias_initializer="ones"),
            SparsePReLU(name="second"),
            layers.Dense(1),
        ]
    )


@pytest.mark.once
@pytest.mark.parametrize("budget", [0.0, 0.3, 0.5, 0.99, 1.0])
def test_as_few_channels_as_it_takes(budget):
    model = linearizable()

    def share(model):
        return nonlinearity_report(model).nonlinear_units

    linearize(model, random_channels(model, seed=3), share, budget)
    assert share(model) <= budget < share(model) + 1 / 24
    if budget == 0.5:
        linear = [layer.slopes == 1 for layer in model.layers if isinstance(layer, SparsePReLU)]
        assert all(0 < mine.sum() < len(mine) for mine in linear)


@pytest.mark.once
def test_layers_that_hardly_switch_come_first():
    model = linearizable()
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    before = keras.ops.convert_to_numpy(model(x))
    order = ranked_by_entropy(model, x)
    # All units of the second are on, always.
    assert [layer.name for layer, _ in order] == ["second", "first"]
    linearize(model, order, lambda model: nonlinearity_report(model).nonlinear_units, 0.5)
    first, second = (layer for layer in model.layers if isinstance(layer, SparsePReLU))
    assert (first.slopes == 0).all()
    assert (second.slopes == 1).all()
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(x)), before, rtol=1e-5)


@pytest.mark.once
@pytest.mark.parametrize("from_logits", [True, False])
def test_units_that_matter_least_for_the_loss_come_first(from_logits):
    """By how much the loss changes if a slope goes to 1 a little is measured."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 4)).astype("float32"), rng.integers(0, 3, 300)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(8),
            SparsePReLU(name="first"),
            layers.Dense(8),
            SparsePReLU(name="second"),
            layers.Dense(3, "linear" if from_logits else "softmax"),
        ]
    )
    pressed = [layer for layer in model.layers if isinstance(layer, SparsePReLU)]
    pressed[0].alpha.assign(rng.uniform(0, 0.9, pressed[0].alpha.shape))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)

    def measured():
        return float(keras.ops.convert_to_numpy(loss(y, model(x))))

    changes = []
    for layer in pressed:
        slopes = layer.slopes.copy()
        for unit, slope in enumerate(slopes):
            ends = []
            for step in (0.05, -0.05):
                moved = slopes.copy()
                moved[unit] += step
                layer.alpha.assign(moved)
                ends.append(measured())
            changes.append(((1 - slope) * abs(ends[0] - ends[1]), layer, unit))
        layer.alpha.assign(slopes)
    order = ranked_by_loss(model, x, y, from_logits)
    expected = sorted(changes, key=lambda change: change[0])
    # Those that matter at all: the others are told apart by rounding.
    mattering = [(layer.name, unit) for change, layer, unit in expected if change > 1e-4]
    assert len(mattering) > 8
    assert [(layer.name, unit) for layer, unit in order][-len(mattering) :] == mattering


@pytest.mark.once
def test_macs():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(inputs)
    x = layers.BatchNormalization()(x)
    inner = keras.Sequential([keras.Input((4, 4, 4)), layers.DepthwiseConv2D(3, padding="same")])
    x = layers.Conv2D(6, 1, groups=2)(inner(x))
    model = keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))
    kernels = 4 * 3 * 9 * 16, 4 * 9 * 16, 6 * 2 * 16, 96 * 10
    assert macs(model) == sum(kernels)
    inputs = keras.Input((5, 6))
    model = keras.Model(inputs, layers.MultiHeadAttention(2, 4)(inputs, inputs))
    assert macs(model) == 4 * 5 * 6 * 8
    assert macs(model, attended=True) == 4 * 5 * 6 * 8 + 2 * 5 * 5 * 8
    shared = layers.Dense(3)
    inputs = keras.Input((3,))
    assert macs(keras.Model(inputs, shared(shared(inputs)))) == 2 * 3 * 3
