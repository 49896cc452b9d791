"""Makes first-hour.ipynb of getting-started.md: `python docs/notebook.py`.

With `--check` nothing is written; it is an error if the notebook is not that of the page.
"""

import re
import sys
from pathlib import Path

import jupytext
import nbformat

PAGE = Path(__file__).with_name("getting-started.md")
NOTEBOOK = Path(__file__).with_name("first-hour.ipynb")

INSTALL = """This is a page of the documentation as a notebook. First, the library is installed;
where you have a copy of it or a wheel, give its path in place of the name:

```python
%pip install -q 'keras-nladv[tensorboard]' scikit-learn
```

```python
import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # or "tensorflow", or "torch"
```

"""


def notebook():
    text = PAGE.read_text(encoding="utf-8")
    text, installs = re.subn(r"## Install\n.*?(?=\n## )", lambda _: INSTALL, text, flags=re.DOTALL)
    # A notebook shows the picture that it has made.
    text, shows = re.subn(
        r"(core_image\(model\))\.save.*?\n(```).*?\n(?=\n## )", r"\1\n\2\n", text, flags=re.DOTALL
    )
    if (installs, shows) != (1, 1):
        raise SystemExit(f"{PAGE.name} has no section on installation, or no picture of the core.")
    made = jupytext.reads(text, fmt="md")
    for number, cell in enumerate(made.cells):
        cell.id = f"cell-{number}"  # Else they are drawn at random.
    made.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    made.metadata["language_info"] = {"name": "python"}
    return nbformat.writes(made)


if __name__ == "__main__":
    if sys.argv[1:] != ["--check"]:
        NOTEBOOK.write_text(notebook() + "\n", encoding="utf-8")
    elif NOTEBOOK.read_text(encoding="utf-8") != notebook() + "\n":
        raise SystemExit(f"{NOTEBOOK.name} is not that of the page: run `python docs/notebook.py`.")
