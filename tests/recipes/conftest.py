import sys
from pathlib import Path

import numpy as np
import pytest

RECIPES = Path(__file__).parents[2] / "recipes"
# As for a recipe: its directory comes first.
sys.path.insert(0, str(RECIPES))


@pytest.fixture(scope="session")
def arrays():
    """A data set of 160 + 48 digits, which is quickly learned a little."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = digits.images.astype("uint8"), digits.target
    return {
        "x_train": images[:160],
        "y_train": labels[:160],
        "x_test": images[160:208],
        "y_test": labels[160:208],
    }


@pytest.fixture(scope="session")
def npz(arrays, tmp_path_factory):
    """Path of a file with this data set."""
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, **arrays)
    return path
