import inspect
import re

import keras_nladv

project = "keras_nladv"
author = "The keras_nladv developers"
copyright = author
version = release = keras_nladv.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "keras_nladv"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

# Docstrings follow Keras: Google sections, `code` in single backticks, $formulas$ in dollars.
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Input shape", "Output shape"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # The sections of the docstring say the types.


def formulas_to_rest(app, what, name, obj, options, lines):
    text = "\n".join(lines)
    text = re.sub(r"(?m)^( *)\$\$(.+?)\$\$", r"\1.. math:: \2", text)
    text = re.sub(r"\$([^$]+)\$", r":math:`\1`", text)
    lines[:] = text.split("\n")


def signature_of_init(app, what, name, obj, options, signature, return_annotation):
    """Keras' layers have a `__new__` that hides the arguments."""
    if what == "class":
        signature = str(inspect.signature(obj.__init__)).replace("(self, ", "(")
    return signature, return_annotation


def setup(app):
    app.connect("autodoc-process-signature", signature_of_init)
    app.connect("autodoc-process-docstring", formulas_to_rest)
