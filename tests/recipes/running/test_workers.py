import os
import signal
import subprocess
import sys

import pytest

from running import workers

from ..conftest import RECIPES

pytestmark = pytest.mark.once

SCRIPT = f"""
import os, sys, time
sys.path.insert(0, {str(RECIPES)!r})
from running import workers
from running.errors import RecipeError, show_errors_plainly

show_errors_plainly()
workers.GRACE = 0.2
if not workers.rank():
    assert workers.alone()
    workers.start(3, "a line")
    workers.tell("and another")
assert not workers.alone()
if workers.rank():
    print("not shown")
    said = workers.told(), workers.told()
    print(workers.rank(), os.getpid(), *said, file=sys.stderr, flush=True)
    while not os.path.exists("go"):
        time.sleep(0.01)
    END
time.sleep(20)
"""


@pytest.fixture
def start(tmp_path):
    """Starts a script of three processes; returns the first, and what the others write."""

    def started(end="pass"):
        file = tmp_path / "script.py"
        file.write_text(SCRIPT.replace("END", end))
        pipe = subprocess.PIPE
        first = subprocess.Popen(
            [sys.executable, file], cwd=tmp_path, stdout=pipe, stderr=pipe, text=True
        )
        others = sorted(first.stderr.readline().split(maxsplit=2) for _ in range(2))
        assert [each[::2] for each in others] == [[n, "a line and another\n"] for n in "12"]
        (tmp_path / "go").touch()
        return first, [int(each[1]) for each in others]

    return started


def test_the_first_is_killed(start):
    first, _ = start()
    first.kill()
    # The others would keep the pipe open.
    assert first.communicate(timeout=30) == ("", "")


def test_another_is_killed(start):
    first, (one, _) = start()

    os.kill(one, signal.SIGKILL)
    out, err = first.communicate(timeout=30)
    assert first.returncode == 1
    assert err.startswith(f"Error: {workers.ENDED}")
    assert out == ""


@pytest.mark.parametrize(("end", "shown"), [("raise RecipeError('x')", ""), ("1 / 0", "Zero")])
def test_another_fails(start, end, shown):
    """What the user can mend is said by the first alone, which meets it, too."""
    first, _ = start(end)
    _, err = first.communicate(timeout=30)
    assert first.returncode == 1
    assert shown in err
    assert ("Traceback" in err) == bool(shown)
    assert workers.ENDED in err


def test_others_are_through(start):
    first, _ = start("sys.exit()")
    with pytest.raises(subprocess.TimeoutExpired):
        first.communicate(timeout=0.5)
    first.kill()
    first.communicate(timeout=30)


def test_there_is_no_other():
    assert workers.alone()
    workers.tell("nobody")
