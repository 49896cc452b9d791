import csv
import json

import keras
import pytest
import sacrebleu
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_nladv import path_length

from .recipe import BACKEND, Recipe

recipe = Recipe("translation.py")

# Little is to be learned.
SHORT = (
    "--layers 1 --dim 16 --heads 2 --ffn-dim 24 --epochs 3 "
    "--start-epoch 1 --ramp-epochs 0 --batch-size 8 --learning-rate 0.1 --warm-up 10 "
    "--strength 3 --max-length 20"
)
KEYS = {
    *("bleu_before", "bleu_after", "exact_match_before", "exact_match_after", "chrf_after"),
    *("path_length_before", "path_length", "nonlinear_units", "signature", "bleu_collapsed"),
    *("translations_per_second", "translations_per_second_collapsed", "backend", "epochs"),
    *("seed", "seconds", "versions"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Parallel text of 108 pairs to train on."""
    path = tmp_path_factory.mktemp("text")
    words = ["red", "green", "blue", "old", "new", "big"]
    others = {"a": "ein", "house": "Haus"}
    others |= dict(zip(words, ["rot", "grün", "blau", "alt", "neu", "groß"]))
    pairs = [("a", a, b, c, "house") for a in words for b in words for c in words]
    for split, part in {"train": pairs[::2], "val": pairs[1::4], "test": pairs[3::4]}.items():
        (path / f"{split}.en").write_text("".join(" ".join(each) + "\n" for each in part))
        # The order is another one.
        (path / f"{split}.de").write_text(
            "".join(" ".join(others[word] for word in each[::-1]) + "\n" for each in part)
        )
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, folder):
    return recipe.finished(f"--dataset {folder} {SHORT}", tmp_path_factory.mktemp("run") / "run")


def test_summary(finished):
    path, out = finished
    summary = json.loads((path / "summary.json").read_text())
    assert summary.keys() >= KEYS
    assert summary["backend"] == BACKEND
    # What was written is what is scored.
    rows = [line.split("\t") for line in (path / "translations.txt").read_text().splitlines()]
    _, references, before, texts = zip(*rows)
    assert before != texts
    bleu = sacrebleu.metrics.BLEU()
    assert bleu.corpus_score(texts, [references]).score == pytest.approx(summary["bleu_after"])
    assert str(bleu.get_signature()) == summary["signature"]
    assert summary["signature"] in out
    matches = sum(text == reference for text, reference in zip(texts, references))
    assert matches / len(rows) == summary["exact_match_after"]
    assert out.endswith((path / "report.txt").read_text() + "\n")
    model = keras.models.load_model(path / "model.keras")
    assert path_length(model) == summary["path_length"] < summary["path_length_before"]
    with open(path / "history.csv") as file:
        history = list(csv.DictReader(file))
    assert len(history) == 3
    assert float(history[-1]["path_length"]) == pytest.approx(summary["path_length"])


def test_events(finished):
    path, _ = finished
    events = EventAccumulator(str(path / "tensorboard"), {"scalars": 0, "images": 1}).Reload()
    bleu = [event.value for event in events.Scalars("val_bleu")]
    assert len(bleu) == 3
    assert "core" in events.Tags()["images"]
    texts = EventAccumulator(str(path / "tensorboard" / "translations")).Reload()
    [event] = texts.Tensors("translations")
    table = event.tensor_proto.string_val[0].decode().splitlines()
    assert table[0] == "| source | reference | before | after |"
    assert len(table) == 12
    assert texts.SummaryMetadata("translations").plugin_data.plugin_name == "text"


@pytest.mark.once
def test_translate(finished):
    path, _ = finished
    row = (path / "translations.txt").read_text().splitlines()[0]
    source, _, _, text = row.split("\t")
    status, out, err = recipe.run_here(f"--run-dir {path} --translate '{source}'")
    assert status == 0, err
    assert out == text + "\n"
    status, _, err = recipe.run_here(f"--run-dir {path} --translate '{'red ' * 30}'")
    assert status == 1
    assert "20 are what the run was trained on" in err


@pytest.mark.once
def test_a_finished_run_is_not_run_again(finished, folder):
    recipe.assert_does_not_run_again(
        finished[0], f"--dataset {folder} {SHORT}", "--dim 32", "dim (there 16, now 32)"
    )


@pytest.mark.slow
def test_a_run_that_is_killed_ends_with_the_same_numbers(finished, folder, tmp_path):
    path, killed = finished[0], tmp_path / "run"
    state = killed / "state.json"
    recipe.killed_and_resumed(f"--dataset {folder} {SHORT}", killed, state.exists)
    for name in ("translations.txt", "history.csv", "subwords.model"):
        assert (killed / name).read_bytes() == (path / name).read_bytes()


@pytest.mark.slow
def test_from_a_network_that_is_trained(finished, tmp_path):
    """With the same options, what comes is what came there."""
    path, _ = finished
    options = "--epochs 3 --ramp-epochs 0 --strength 3"
    status, out, err = recipe.run(f"--trained {path} {options} --run-dir {tmp_path / 'run'}")
    assert status == 0, err
    assert " 1/3 " not in out
    assert " 2/3 " in out
    for name in ("translations.txt", "history.csv", "subwords.model", "before.json"):
        assert (tmp_path / "run" / name).read_bytes() == (path / name).read_bytes()


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--dim 30 --heads 4", "--dim must be a multiple of --heads. Received: 30 and 4"),
        ("--dropout 1", "--dropout must be less than 1"),
        ("--granularity element", "needs sentences of one length"),
        ("--vocabulary 4", "--vocabulary must be greater than or equal to 5"),
        ("--target xx", "--target must be a language of num2words"),
        ("--limit 100", "--limit must be more than"),
        ("--dataset nowhere", "there is no folder"),
        ("--sentences 0", "--sentences must be greater than or equal to 1"),
        ("--translate hello --run-dir nowhere", "needs a finished run in --run-dir"),
        ("--translate hello", "--translate needs the directory of the run"),
    ],
)
def test_bad_arguments(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe.assert_refuses(arguments, message, tmp_path, statuses=(1,))
