"""The names of networks for images."""

import re
from typing import Annotated

from pydantic import AfterValidator


def family(name: str) -> tuple[str, int]:
    """The family of a network and its depth: of resnet20 `("resnet", 20)`, of others 0.

    Raises:
        ValueError: If there is no such network.
    """
    named = re.fullmatch(r"(resnet|plain)([0-9]{1,4})", name)
    depth = int(named[2]) if named else 0
    fitting = dict.fromkeys(("mobilenet", "vit", "mixer"), True)
    fitting |= {"resnet": depth >= 8 and depth % 6 == 2, "plain": depth >= 2}
    if not fitting.get(named[1] if named else name):
        raise ValueError(
            "must be mobilenet, vit, mixer, resnet followed by the depth 6n + 2, or plain followed "
            f"by a depth: resnet8, resnet20, resnet56, plain5, plain20, ... Received: {name!r:.60}"
        )
    return (named[1] if named else name), depth


def _is_network(name: str) -> str:
    family(name)
    return name


Network = Annotated[str, AfterValidator(_is_network)]
