"""Backends of Keras, of which one is chosen before Keras is imported."""

import importlib.util
import os

from running.errors import RecipeError

BACKENDS = ("tensorflow", "jax", "torch")


def not_installed(*packages: str) -> list[str]:
    """Those of the packages that cannot be imported; none of them is imported to find out."""
    return [package for package in packages if not importlib.util.find_spec(package)]


def choose_backend(name: str | None) -> str:
    """Makes `import keras` use the backend.

    Args:
        name: Its name, or `None` for what KERAS_BACKEND says, or else the first that is installed.

    Returns:
        Its name.

    Raises:
        RecipeError: If it is unknown or not installed.
    """
    installed = [backend for backend in BACKENDS if importlib.util.find_spec(backend)]
    name = name or os.environ.get("KERAS_BACKEND") or next(iter(installed), None)
    if name is None:
        raise RecipeError(
            "No backend is installed. Install one of them with "
            + " or ".join(f"`pip install 'keras-nladv[{backend}]'`" for backend in BACKENDS)
            + "."
        )
    if name not in BACKENDS:
        raise RecipeError(f"The backend must be one of {BACKENDS}. Received: {name!r}")
    if name not in installed:
        raise RecipeError(
            f"The backend {name} is not installed. Install it with "
            f"`pip install 'keras-nladv[{name}]'`, or choose another --backend "
            f"({', '.join(installed) or 'none'} installed)."
        )
    os.environ["KERAS_BACKEND"] = name
    # TensorFlow tells much about the machine.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # The threads of PyTorch wait for each other many times a step. If they spin meanwhile, a step
    # takes several times as long as soon as another process shares the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return name
