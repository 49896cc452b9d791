"""Values as they are declared: in a dataclass, with what pydantic knows of types and limits."""

import reprlib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from running.errors import RecipeError

Kind = TypeVar("Kind")
# For dataclasses, as their `__pydantic_config__`: unknown keys are errors, NaN and infinities, too.
EXACT = ConfigDict(extra="forbid", allow_inf_nan=False)
# Of what is said at once.
MOST = 3


def parsed(kind: type[Kind], text: str | bytes, where: str = "", options: bool = False) -> Kind:
    """Reads JSON that must be as a type says.

    Args:
        kind: The type.
        text: The JSON.
        where: What errors begin with.
        options: Whether keys are those of the command line.

    Raises:
        RecipeError: If it is no JSON, or has values that are not as the type says. It is one line,
            which names the keys.
    """
    try:
        return TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        said = [_said(each, options) for each in error.errors(include_url=False)]
        more = [f"and {len(said) - MOST} more"] * (len(said) > MOST)
        raise RecipeError(where + "; ".join([*dict.fromkeys(said[:MOST]), *more])) from error


def read_json(kind: type[Kind], file: Path, remedy: str) -> Kind:
    """Reads a JSON file that must be as a type says.

    Args:
        kind: The type.
        file: The file.
        remedy: What to do if it is damaged.

    Raises:
        FileNotFoundError: If there is none.
        RecipeError: If it is damaged.
    """
    try:
        return parsed(kind, file.read_bytes(), f"`{file}` is damaged: ")
    except RecipeError as error:
        raise RecipeError(f"{error}. {remedy}") from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RecipeError(f"`{file}` cannot be read: {error}.") from error


def _said(error: Any, options: bool) -> str:
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "json_invalid":
        return message
    message = message.replace("Input should", "must", 1)
    if error["type"] == "unexpected_keyword_argument":
        message = "is no known key"
    if error["type"] in ("missing", "missing_argument"):
        message = "is missing"
    if options:
        key = "".join(f"--{part}" for part in error["loc"][:1]).replace("_", "-")
    else:
        parts = [part for part in error["loc"] if part != "[key]"]
        key = "".join(f"[{part}]" if type(part) is int else f".{part}" for part in parts)
    said = " ".join([key.removeprefix("."), message]).strip()
    # What checks of whole tables say, they say themselves.
    if error["type"] in ("missing", "missing_argument", "value_error"):
        return said
    return f"{said}. Received: {SHORT.repr(error['input'])}"


SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxlong = SHORT.maxother = 60
