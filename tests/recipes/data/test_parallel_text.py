import gzip
import re

import pytest

from data.parallel_text import read_parallel
from running.errors import RecipeError

pytestmark = pytest.mark.once

ENGLISH = ["A man rides a bike.", "Two dogs play.", "Zwei means two."]
GERMAN = ["Ein Mann fährt Rad.", "Zwei Hunde spielen.", "Zwei heißt zwei."]


def write(folder, name, lines, compress=False):
    """Writes lines, or bytes as they are."""
    data = lines if isinstance(lines, bytes) else "".join(f"{x}\n" for x in lines).encode()
    if compress:
        data = gzip.compress(data)
    (folder / f"{name}{'.gz' if compress else ''}").write_bytes(data)


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "val", "test"):
        write(tmp_path, f"{split}.en", [f"{line} {split}" for line in ENGLISH])
        write(tmp_path, f"{split}.de", [f"{line} {split}" for line in GERMAN], compress=True)
    return tmp_path


def test_plain_and_compressed_files_side_by_side(folder):
    text = read_parallel(str(folder), "de", "en")
    assert (text.name, text.source, text.target) == (folder.name, "de", "en")
    assert text.note is None
    for split, pairs in (("train", text.train), ("val", text.val), ("test", text.test)):
        assert pairs == [
            (f"{german} {split}", f"{english} {split}")
            for german, english in zip(GERMAN, ENGLISH, strict=True)
        ]
    write(folder, "test.de", ["Eins.", "Zwei.", "Drei."])
    assert [german for german, _ in read_parallel(folder, "de", "en").test] == [
        "Eins.",
        "Zwei.",
        "Drei.",
    ]


def test_fewer_pairs(folder):
    everything = read_parallel(folder, "en", "de")
    few = read_parallel(folder, "en", "de", 2)
    assert len(few.train) == 2
    assert few.train == [pair for pair in everything.train if pair in few.train]
    assert few.train == read_parallel(folder, "en", "de", 2).train
    assert (few.val, few.test) == (everything.val, everything.test)
    with pytest.raises(RecipeError, match=r"--sentences must be at most 3, .* Received: 4"):
        read_parallel(folder, "en", "de", 4)


def test_blanks_and_ends_of_lines(folder):
    # With a byte order mark, Windows' ends of lines, characters that Python, but no editor, takes
    # for ends of lines, and no end of the last line.
    data = "\ufeffOne  \t two\r\n three\u2028four\x0bfive\x85six \r\nse\u00a0ven".encode()
    write(folder, "test.en", data)
    sentences = [english for english, _ in read_parallel(folder, "en", "de").test]
    assert sentences == ["One two", "three four five six", "se ven"]


def test_pairs_with_an_empty_side_are_left_out_and_told(folder):
    write(folder, "train.en", ["", "one", "two", " \u00a0", "three", ""])
    write(folder, "train.de", ["null", "eins", "zwei", "", " ", "vier"], compress=True)
    text = read_parallel(folder, "en", "de")
    assert text.train == [("one", "eins"), ("two", "zwei")]
    assert text.note == "4 pairs of train, empty on a side, were left out"
    write(folder, "train.en", ["", "one", "two", " ", "three", ""])
    write(folder, "train.de", ["null", "", "", "", "", "vier"], compress=True)
    with pytest.raises(RecipeError, match="have no line that is filled in both"):
        read_parallel(folder, "en", "de")


@pytest.mark.parametrize(
    ("number", "step"), [(20, 20), (39, 20), (40, 20), (20_000, 20), (20_001, 21), (29_000, 29)]
)
def test_without_val_every_nth_pair_is_held_out(folder, number, step):
    (folder / "val.en").unlink()
    (folder / "val.de.gz").unlink()
    for language in ("en", "de"):
        write(folder, f"train.{language}", range(number))
    text = read_parallel(folder, "en", "de")
    held_out = range(step, number + 1, step)
    assert text.val == [(str(i - 1), str(i - 1)) for i in held_out]
    assert len(text.val) <= 1000
    assert sorted(text.train + text.val, key=lambda pair: int(pair[0])) == [
        (str(i), str(i)) for i in range(number)
    ]
    assert text.note == f"there is no val.*: every {step}th pair of train is for validation"


def test_too_little_to_hold_out(folder):
    (folder / "val.en").unlink()
    (folder / "val.de.gz").unlink()
    with pytest.raises(RecipeError, match=r"only 3 pairs in train.*: too few to hold out some"):
        read_parallel(folder, "en", "de")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_missing_files(folder, split):
    write(folder, f"{split}.fr", ["un"])
    (folder / f"{split}.en").unlink()
    with pytest.raises(RecipeError) as error:
        read_parallel(folder, "de", "en")
    assert str(error.value) == (
        f"`{folder}` must hold the files {split}.de[.gz] and {split}.en[.gz]. It holds {split}.* "
        "in the languages de, fr."
    )


def test_missing_folder_and_languages(folder, tmp_path):
    with pytest.raises(RecipeError, match="there is no folder"):
        read_parallel(folder / "missing", "en", "de")
    with pytest.raises(RecipeError, match="there is no folder"):
        read_parallel(folder / "train.en", "en", "de")
    with pytest.raises(RecipeError, match="must differ"):
        read_parallel(folder, "de", "de")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match=r"It holds train.\* in no language"):
        read_parallel(tmp_path / "empty", "en", "de")


LATIN = "Hund\nM\xe4nner\n".encode("latin-1")
BAD = {
    "a line too many": ([*ENGLISH, "More."], "has 4 lines and the second 3"),
    "a line too few": (ENGLISH[:2], "has 2 lines and the second 3"),
    "nothing": (b"", "train.en` is empty"),
    "blanks": (b" \n\n", "train.en` is empty"),
    "Latin-1": (LATIN, "its line 2 is not: byte 6 of the file is 0xe4"),
    "UTF-16": ("Hund\n".encode("utf-16"), "its line 1 is not: byte 0 of the file is 0xff"),
    "a compressed file": (gzip.compress(b"Hund\n"), "train.en` must be UTF-8"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(folder, case):
    lines, message = BAD[case]
    write(folder, "train.en", lines)
    with pytest.raises(RecipeError, match=re.escape(message)):
        read_parallel(folder, "en", "de")


def test_compressed_files_with_damage(folder):
    file = folder / "val.de.gz"
    data = file.read_bytes()
    foreign = [b"Ein Mann\n", data[:-12] + b"\x00" * 4 + data[-8:]]
    for damaged in [*(data[:size] for size in range(1, len(data))), *foreign]:
        file.write_bytes(damaged)
        with pytest.raises(RecipeError, match=r"val.de.gz` cannot be read; is it complete"):
            read_parallel(folder, "en", "de")
    file.write_bytes(gzip.compress(b""))
    with pytest.raises(RecipeError, match=r"val.de.gz` is empty"):
        read_parallel(folder, "en", "de")
