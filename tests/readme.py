"""Runs the code of README.md, with what is installed: `python tests/readme.py`, anywhere else."""

import re
from pathlib import Path

import keras_nladv

ROOT = Path(__file__).resolve().parent.parent

if Path(keras_nladv.__file__).resolve().parent.parent == ROOT:
    raise SystemExit("keras_nladv is not installed; it was found in the checkout.")
(code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
exec(compile(code, "README.md", "exec"))
