"""How recipes end where it is the user who can mend something."""

import errno
import os
import re
import subprocess
import sys

import pytest

from running import files
from running.errors import RecipeError
from running.values import read_json

from ..conftest import RECIPES

pytestmark = pytest.mark.once


def ended(script, **options):
    """Runs a script as recipes begin; returns its exit status and what it said of errors."""
    start = f"import sys; sys.path.insert(0, {str(RECIPES)!r})\n"
    start += "from running.errors import *; show_errors_plainly()\n"
    run = subprocess.run(
        [sys.executable, "-c", start + f"exec({script!a})"],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
    )
    return run.returncode, run.stderr


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("raise RecipeError('wrong')", "Error: wrong"),
        ("raise KeyboardInterrupt", "Interrupted. --resume goes on after what is finished."),
        ("raise OSError(28, 'No space left on device', 'x')", "Error: [Errno 28] No space left"),
    ],
)
def test_one_line(script, said):
    status, err = ended(script)
    assert status != 0
    assert err.startswith(said)
    assert err.count("\n") == 1


def test_errors_of_ours_are_shown_in_full():
    assert "Traceback" in ended("1 / 0")[1]


@pytest.mark.parametrize("number", [1, 100_000])
def test_a_reader_that_has_gone(number):
    """As `recipe | head -1`."""
    read, write = os.pipe()
    os.close(read)
    status, err = ended(f"for i in range({number}): print(i)", stdout=write)
    os.close(write)
    assert (status, err) == (1, "")


@pytest.mark.skipif(os.name == "nt", reason="a shell closes the output")
def test_output_that_is_closed(tmp_path):
    """What is written to it must not go to a file that is opened."""
    script = f"""
import os
with open({str(tmp_path / "file")!r}, "w") as file:
    print("to nobody")
    os.write(1, b"to nobody")
    file.write("to the file")
print("still there", file=sys.stderr)
"""
    status, err = ended(script, preexec_fn=lambda: os.close(1), stdout=None)
    assert (status, err) == (0, "still there\n")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "to the file"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="writes to /dev/full")
def test_output_to_a_disk_that_is_full():
    with open("/dev/full", "w", encoding="utf-8") as full:
        status, err = ended("print('much')", stdout=full)
    assert status == 1
    assert re.fullmatch(r"Error: \[Errno 28\] No space left on device. Make room; .*\n", err)


def test_files_are_utf_8_whatever_the_locale(tmp_path):
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    script = f"""
from pathlib import Path
from running import files
text = "zwölf ± 3"
files.write(Path({str(tmp_path)!r}, "report.txt"), text)
print(text)
"""
    assert ended(script, env=env) == (0, "")
    assert (tmp_path / "report.txt").read_bytes() == "zwölf ± 3".encode()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Unable to flush (error message = 'No space left on device')"),
    ],
)
def test_a_file_that_cannot_be_written(tmp_path, error):
    (tmp_path / "state.json").write_text("old", encoding="utf-8")

    def fail(path):
        path.write_text("some of it", encoding="utf-8")
        raise error

    with pytest.raises(RecipeError, match=r"state.json` cannot be written: .*No space left"):
        files.save(tmp_path / "state.json", fail)
    # Of the new one nothing takes room.
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
    assert (tmp_path / "state.json").read_text(encoding="utf-8") == "old"


def test_other_errors_of_writers_are_not_hidden(tmp_path):
    with pytest.raises(ZeroDivisionError):
        files.save(tmp_path / "x", lambda path: 1 / 0)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read: "):
        read_json(list, tmp_path, "Mend it.")
