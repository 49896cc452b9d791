"""Several devices, which a process has to ask for before it uses the first."""

from pathlib import Path

from tests import processes


def test_several_devices_come_to_the_same_as_one():
    file = str(Path(__file__).with_name("everything.py"))
    code = f"import runpy; runpy.run_path({file!r}, run_name='__main__')"
    assert processes.run(code) == (0, "")
