"""Kinds of values that options have, with their limits and how help shows them."""

import os
import re
from typing import Annotated, Literal

import tyro
from pydantic import AfterValidator, Field

# The integers of every backend.
LARGEST = 2**31 - 1
Natural = Annotated[int, Field(ge=0, le=LARGEST)]
Positive = Annotated[int, Field(ge=1, le=LARGEST)]
Amount = Annotated[float, Field(ge=0)]
# Options whose default is told by their description; `None` would tell nothing.
Count = Annotated[
    int | None, Field(ge=0, le=LARGEST), tyro.conf.arg(metavar="INT", help_behavior_hint="")
]
Number = Annotated[float | None, Field(ge=0), tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
Text = Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="")]
Backend = Annotated[
    Literal["tensorflow", "jax", "torch"] | None,
    tyro.conf.arg(metavar="{tensorflow,jax,torch}", help_behavior_hint=""),
]


def absolute(path: str | None) -> str | None:
    """A path of this machine, whatever directory a run is gone on with from."""
    return path if path is None else os.path.abspath(path)


def images(dataset: str) -> str:
    """The name of a data set, or the absolute path of its file."""
    return os.path.abspath(dataset) if dataset.endswith(".npz") else dataset


def once(values: list) -> list:
    """Raises a `ValueError` if a list is empty, or names something twice."""
    if not values or len(set(values)) < len(values):
        raise ValueError(f"must name each value once. Received: {values}")
    return values


def directory(path: str) -> str:
    """Raises a `ValueError` if this is not the path of a directory of this machine."""
    # As callbacks do, which are imported with Keras: too late here.
    if not path or "\0" in path or re.match(r"[a-z][a-z0-9+.-]+:/", path, re.IGNORECASE):
        raise ValueError(f"must be the path of a directory of this machine. Received: {path!r}")
    return path


Directory = Annotated[str, AfterValidator(directory)]
File = Annotated[Text, AfterValidator(absolute)]
Dataset = Annotated[str, AfterValidator(images)]
