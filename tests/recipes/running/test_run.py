import json
import os

import keras
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from keras_nladv import NonlinearitySparsity, SparsePReLU
from options.run_config import RunConfig
from results.plots import plot_training
from running.errors import RecipeError
from running.run import Run
from running.run_directory import checkpoint_file
from training.progress import Progress

X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def built(seed=0, policy="float32"):
    """A small model that has taken no step."""
    keras.utils.set_random_seed(seed)
    layers = [
        keras.Input((4,)),
        keras.layers.Dense(8, dtype=policy),
        SparsePReLU(alpha_regularizer=NonlinearitySparsity(0.1), dtype=policy),
        keras.layers.Dense(1, dtype="float32"),
    ]
    model = keras.Sequential(layers)
    optimizer = keras.optimizers.Adam(0.01)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, dynamic_growth_steps=2)
    model.compile(optimizer, "mse")
    return model


def state(model):
    variables = [*model.weights, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def assert_same_state(model, expected):
    assert len(state(model)) == len(expected)
    for value, other in zip(state(model), expected, strict=True):
        assert_array_equal(value, other)


def step(model):
    return float(model.train_on_batch(X, Y))


@pytest.fixture
def config(tmp_path):
    return RunConfig(backend="jax", run_dir=str(tmp_path / "run"))


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_resumed_run_goes_on_as_if_nothing_had_been(config, policy):
    model, run = built(policy=policy), Run(config)
    for _ in range(3):
        run.commit(model, {"loss": step(model)}, 1.5)
    expected = state(model)
    onward = [step(model) for _ in range(3)]

    again = built(seed=1, policy=policy)
    other = Run(config)
    other.restore(again)
    assert (other.history, other.epochs, other.seconds) == (run.history, 3, 1.5)
    assert_same_state(again, expected)
    assert [step(again) for _ in range(3)] == onward


@pytest.mark.once
@pytest.mark.parametrize(("save_every", "kept"), [(0, []), (2, [4, 2, 1]), (3, [3, 1])])
def test_checkpoints_every_few_epochs(config, save_every, kept):
    model, run = built(), Run(config, 1, save_every)
    for epoch in range(5):
        run.commit(model, {"loss": step(model)}, float(epoch))
    assert [checkpoint["epochs"] for checkpoint in run.checkpoints] == kept
    assert run.epochs == 5
    assert len((run.path / "history.csv").read_text().splitlines()) == 6
    again = Run(config, 1, save_every)
    again.restore(built())
    assert again.epochs == (kept[0] if kept else 0)


def test_another_run_goes_on_from_where_linearization_starts(config, tmp_path):
    model, run = built(), Run(config, start_epoch=1)
    for _ in range(4):
        run.commit(model, {"loss": step(model)}, 3.0)
        if run.epochs == 1:
            expected = state(model)
            onward = [step(model) for _ in range(2)]
            run.restore(model)
    other = RunConfig(backend="jax", run_dir=str(tmp_path / "other"))
    for _ in range(2):  # As if it was killed before it had committed anything.
        again, second = built(seed=1), Run(other, start_epoch=1)
        second.restore(again, run.path)
        assert (second.history, second.epochs, second.seconds) == (run.history[:1], 1, 0.75)
        assert_same_state(again, expected)
        losses = [step(again)]
    second.commit(again, {"loss": losses[0]}, 1.0)
    third = Run(other, start_epoch=1)
    third.restore(again, run.path)
    assert third.epochs == 2
    assert [*losses, step(again)] == onward
    assert [c["epochs"] for c in run.checkpoints] == [4, 3, 1]


@pytest.mark.once
def test_a_crash_at_any_call_leaves_an_epoch_that_is_whole(config, monkeypatch):
    model, run = built(), Run(config)
    run.commit(model, {"loss": step(model)}, 1.0)
    epochs = {1: state(model)}
    counted = set()

    class Crash(Exception):
        pass

    # The number of calls until it comes; there is none while this is negative.
    left = -1

    def crashing(function):
        def wrapper(*args, **kwargs):
            nonlocal left
            left -= 1
            if left == 0:
                raise Crash
            return function(*args, **kwargs)

        return wrapper

    # Everything that `commit` does to the disk is about to happen at one of these calls.
    for owner, name in [(os, "replace"), (os, "fsync"), (os, "unlink"), (os, "open")]:
        monkeypatch.setattr(owner, name, crashing(getattr(owner, name)))
    monkeypatch.setattr(keras.Model, "save_weights", crashing(keras.Model.save_weights))

    for calls in range(1, 100):
        run = Run(config)
        run.restore(model)
        epoch = run.epochs
        assert_same_state(model, epochs[epoch])
        lines = (run.path / "history.csv").read_text().splitlines()
        assert [line.split(",")[0] for line in lines] == ["epoch", *map(str, range(1, epoch + 1))]

        loss = step(model)
        epochs[epoch + 1] = state(model)
        left = calls
        try:
            run.commit(model, {"loss": loss}, 1.0)
        except Crash:
            counted.add(len(json.loads((run.path / "state.json").read_text())["history"]) > epoch)
        else:
            left = -1
            break
    # There were crashes before and after the moment from which the new epoch counts.
    assert counted == {True, False}
    assert calls > 6
    assert len(list((run.path / "checkpoints").iterdir())) == 2


@pytest.mark.once
def test_a_damaged_checkpoint(config, capsys):
    model, run = built(), Run(config)
    for _ in range(3):
        before = state(model)
        run.commit(model, {"loss": step(model)}, 3.0)
    newest, older = (run.path / checkpoint["file"] for checkpoint in run.checkpoints)

    newest.write_bytes(newest.read_bytes()[:-100])
    again, run = built(seed=1), Run(config)
    run.restore(again)
    assert "epoch-0003.weights.h5` is damaged; trying the one before" in capsys.readouterr().out
    assert (run.epochs, run.seconds) == (2, 2.0)
    assert_same_state(again, before)

    older.unlink()
    with pytest.raises(RecipeError, match=r"No checkpoint in .* is intact"):
        Run(config).restore(again)
    (run.path / "state.json").write_text('{"checkpoints": [')
    with pytest.raises(RecipeError, match=r"state.json` is damaged"):
        Run(config).restore(again)


@pytest.mark.once
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"history": []}, "history has fewer epochs than checkpoints"),
        ({"history": [3]}, r"history\[0\] must be an object"),
        ({"history": [{"loss": "low"}]}, r"history\[0\].loss"),
        ({"seconds": -1}, "seconds must be greater than or equal to 0. Received: -1"),
        ({"seconds": 10**400}, "seconds must be a finite number"),
        ({"checkpoints": {}}, "checkpoints must be a valid array"),
        ({"epochs": 0}, r"checkpoints\[0\].epochs must be greater than or equal to 1"),
        ({"epochs": 10**9}, r"checkpoints\[0\] must be checkpoints/epoch-1000000000.weights.h5"),
        ({"file": "../other.h5"}, r"checkpoints\[0\] must be checkpoints/epoch-0001.weights.h5"),
        ({"sha256": None}, r"checkpoints\[0\].sha256 must be a valid string"),
    ],
)
def test_states_that_are_nonsense(config, change, message):
    run = Run(config)
    checkpoint = {"epochs": 1, "file": checkpoint_file(1), "sha256": "0"}
    state = {"checkpoints": [checkpoint], "seconds": 1.0, "history": [{"loss": 1.0, "units": 3}]}
    for key, value in change.items():
        (checkpoint if key in checkpoint else state)[key] = value
    run.write_json("state.json", state)
    with pytest.raises(RecipeError, match=message) as error:
        run.restore(None)
    assert str(error.value).startswith(f"`{run.path / 'state.json'}` is damaged: ")
    assert "\n" not in str(error.value)


@pytest.mark.once
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[3]", r"\[0\] must be an object"),
        ('[{"period": "1"}]', r"\[0\].seed is missing"),
        (
            '[{"period": "1", "seed": 1}, {"period": 1, "seed": 2}]',
            r"\[1\].period must be .* string",
        ),
        ('[{"period": "1", "seed": "1"}]', r"\[0\].seed must be a valid integer"),
        (
            '[{"period": "1", "seed": 1, "losses": [0.5, {}]}]',
            r"\[0\].losses\[1\] must be .* number",
        ),
        ("[" * 10**5, ""),
        ("{}", "must be .* (list|array)"),
    ],
)
def test_points_that_are_nonsense(config, text, said):
    run = Run(config)
    run.write("points.json", text)
    with pytest.raises(RecipeError, match=f"points.json` is damaged: .*{said}.* Start again"):
        run.read_points(period=str, seed=int, losses=(list[float], None))


@pytest.mark.once
def test_points(config):
    run = Run(config)
    assert run.read_points(period=str) == []
    rows = [{"period": "1", "loss": 1, "more": [1]}, {"period": "never", "loss": float("nan")}]
    run.write_json("points.json", rows)
    read = run.read_points(period=str, loss=float, seconds=(float, None))
    assert repr(read) == repr([{**rows[0], "loss": 1.0}, rows[1]])


@pytest.mark.once
def test_progress_where_the_output_is_no_terminal(config, capsys):
    model, run = built(), Run(config)
    progress = Progress(run, {"loss": ("loss", "{:.3f}"), "val_loss": ("test", "{:.1f}")})
    history = model.fit(
        X, Y, batch_size=8, epochs=2, validation_data=(X, Y), callbacks=[progress], verbose=0
    )
    captured = capsys.readouterr()
    heading, *lines = (line.split() for line in captured.out.splitlines())
    assert heading == ["epoch", "loss", "test", "elapsed"]
    assert [line[:2] for line in lines] == [
        [f"{epoch}/2", f"{loss:.3f}"] for epoch, loss in enumerate(history.history["loss"], 1)
    ]
    assert captured.err == ""
    assert [logs["loss"] for logs in run.history] == history.history["loss"]


@pytest.mark.once
@pytest.mark.parametrize("bad", ["training", "test"])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(config, bad):
    model, run = built(), Run(config)
    expected = []
    broken = np.full_like(Y, np.nan)
    batches = []

    class Breaking(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            batches.append(index)
            return X[:8], broken[:8] if run.epochs == 1 and bad == "training" else Y[:8]

    class Noted(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            expected.append(state(self.model))
            if epoch == 1 and bad == "test":
                logs["val_loss"] = np.inf

    test = (X, Y)
    callbacks = [Noted(), Progress(run, {})]
    with pytest.raises(RecipeError, match=r"epoch 2: the loss is not finite.*epoch-0001.weights"):
        model.fit(Breaking(), epochs=5, validation_data=test, callbacks=callbacks, verbose=0)
    again = built(seed=1)
    run.restore(again)
    assert run.epochs == 1
    assert_same_state(again, expected[0])


@pytest.mark.once
def test_pictures_show_something(tmp_path):
    history = [
        {
            "accuracy": 0.5 + 0.01 * epoch,
            "val_accuracy": 0.5,
            "cross_entropy": 1.0,
            "val_cross_entropy": 2.0,
            "path_length": 10.0 - epoch,
            "nonlinear_units": 1.0 - 0.1 * epoch,
            "omega": 0.1 * (epoch > 3),
        }
        for epoch in range(8)
    ]

    def pixels(start_epoch, epochs=8):
        figure = plot_training(history[:epochs], start_epoch, "title")
        figure.savefig(tmp_path / "training.png")
        return np.asarray(Image.open(tmp_path / "training.png").convert("RGB")).astype(int)

    late, never = pixels(3), pixels(8)
    assert late.shape[0] > 800
    # The line that marks the start is there, and only then.
    assert (np.abs(late - never).sum(axis=2) > 100).any(axis=1).mean() > 0.4
    for image in (late, pixels(0, epochs=1)):
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50
