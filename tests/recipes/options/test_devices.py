import pytest

from options.devices import require_divisible
from running.errors import RecipeError

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("jax", 63, 100), "--batch-size, that of all devices together, must be a multiple"),
        (("jax", 64, 101), "--devices must divide 101, the number of images to test on"),
    ],
)
def test_what_devices_cannot_share(arguments, message):
    require_divisible(1, *arguments)
    with pytest.raises(RecipeError, match=message):
        require_divisible(2, *arguments)


def test_processors_of_torch(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    require_divisible(3, "torch", 6)
    with pytest.raises(RecipeError, match=r"--devices must be at most 3, .* torch .*\(cores\)"):
        require_divisible(4, "torch", 8)
