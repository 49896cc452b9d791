import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from data.subwords import Subwords
from running.errors import RecipeError

pytestmark = pytest.mark.once

SENTENCES = [
    "A man in a blue shirt is standing on a ladder cleaning a window.",
    "Ein Mann in einem blauen Hemd steht auf einer Leiter und putzt ein Fenster.",
    "Two young, White males are outside near many bushes.",
    "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche.",
    'The sign says "Stop & Go" - it\'s 50% off; 1997/2024, 3.50 € (about ½)…',
    "Auf dem Schild steht \u201eStop & Go\u201c: 50 % billiger, für 3,50 €!",
    "Un café à Paris, où l'été œuvre naïvement ﬁn N\u0308.",
]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("subwords") / "subwords.model"
    Subwords.train(SENTENCES, 130).save(path)
    return path


@pytest.fixture(scope="module")
def subwords(file):
    return Subwords.load(file, 130)


def test_special_tokens(subwords):
    assert (subwords.pad, subwords.unknown, subwords.start, subwords.end) == (0, 1, 2, 3)
    assert subwords.size == 130
    ids = [i for row in subwords.encode(SENTENCES) for i in row]
    assert min(ids) > 3
    assert max(ids) < 130
    # In text they are text.
    assert subwords.decode([[0, 2, 3]]) == [""]
    assert 2 not in subwords.encode(["A <s> man"])[0]


def test_text_comes_back(subwords):
    assert subwords.decode(subwords.encode(SENTENCES)) == SENTENCES
    assert subwords.encode([]) == subwords.decode([]) == []


CHARACTERS = sorted(set("".join(SENTENCES)) - {" "})


@hypothesis.given(st.lists(st.lists(st.sampled_from(CHARACTERS), min_size=1).map("".join)))
def test_any_text_of_these_characters_comes_back(subwords, words):
    sentence = " ".join(words)
    assert subwords.decode(subwords.encode([sentence])) == [sentence]


def test_unknown_characters(subwords):
    [ids] = subwords.encode(["A 猫 man"])
    assert ids.count(subwords.unknown) == 1
    assert subwords.decode([ids]) == ["A  \u2047  man"]
    assert subwords.encode(["猫"])[0][-1] == subwords.unknown


def test_digits_are_pieces_by_themselves():
    years = Subwords.train([*SENTENCES, *["1997 2003"] * 200], 130)
    assert len(years.encode(["1997 2003"])[0]) == 10
    assert years.decode(years.encode(["2003 7919"])) == ["2003 7919"]


def test_decoding_ends_at_the_end(subwords):
    [first, second] = subwords.encode(SENTENCES[:2])
    rows = np.zeros((2, 100), "int32")
    rows[0, : len(first) + 1] = [*first, subwords.end]
    rows[0, len(first) + 1 :] = second[0]
    rows[1, : len(second) + 1] = [subwords.start, *second]
    assert subwords.decode(rows) == SENTENCES[:2]


def test_the_same_text_gives_the_same_file(file, tmp_path, subwords, capfd):
    again = Subwords.train(iter(SENTENCES), 130)
    again.save(tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == file.read_bytes()
    assert again.encode(SENTENCES) == subwords.encode(SENTENCES)
    # Long sentences count too.
    assert 1 not in Subwords.train([*SENTENCES, "猫 " * 3000], 130).encode(["猫"])[0]
    assert capfd.readouterr() == ("", "")


def test_bad_vocabularies():
    def train(vocabulary, sentences=SENTENCES):
        return Subwords.train(sentences, vocabulary)

    with pytest.raises(
        RecipeError, match=r"10000: the training text yields at most (\d+)"
    ) as error:
        train(10_000)
    largest = int(str(error.value).split("at most ")[1].split()[0])
    assert train(largest).size == largest
    assert Subwords.train(SENTENCES, 10_000, exactly=False).size == largest
    with pytest.raises(RecipeError, match=f"yields at most {largest} pieces"):
        train(largest + 1)
    with pytest.raises(RecipeError, match=r"20: the characters .* need at least (\d+)") as error:
        train(20)
    smallest = int(str(error.value).split("at least ")[1].rstrip("."))
    assert train(smallest).size == smallest
    with pytest.raises(RecipeError, match=f"need at least {smallest}"):
        train(smallest - 1)
    for vocabulary, sentences in ((0, SENTENCES), (3, SENTENCES), (100, []), (100, [""])):
        with pytest.raises(RecipeError, match=f"--vocabulary {vocabulary}: SentencePiece cannot"):
            train(vocabulary, sentences)


def test_damaged_files(file, tmp_path, capfd):
    path = tmp_path / "damaged.model"
    with pytest.raises(RecipeError, match="cannot be read"):
        Subwords.load(path, 130)
    data = file.read_bytes()
    whole = data.index(b"identity") - 100
    for damaged in [b"not a model", bytes(100), *(data[:size] for size in range(0, whole, 7))]:
        path.write_bytes(damaged)
        with pytest.raises(RecipeError, match=r"is it complete|it is damaged"):
            Subwords.load(path, 130)
    with pytest.raises(RecipeError, match="must hold 8000 pieces, but holds 130"):
        Subwords.load(file, 8000)
    assert capfd.readouterr() == ("", "")
