"""Whether devices can share what a run does."""

import os

from running.errors import RecipeError


def require_divisible(
    devices: int, backend: str | None, batch_size: int, test_images: int = 0
) -> None:
    """Raises a `RecipeError` if devices cannot share the work.

    Args:
        devices: Number of devices.
        backend: The backend.
        batch_size: That of all devices together.
        test_images: Number of images to test on.
    """
    if devices == 1:
        return
    if backend == "torch":
        # Here, as each gets a process before Keras is imported.
        import torch

        cards = torch.cuda.device_count()
        require_devices(devices, cards or os.cpu_count(), backend, "GPUs" if cards else "cores")
    if batch_size % devices:
        raise RecipeError(
            "--batch-size, that of all devices together, must be a multiple of --devices. "
            f"Received: --batch-size {batch_size} with --devices {devices}"
        )
    if test_images % devices:
        raise RecipeError(
            f"--devices must divide {test_images}, the number of images to test on. Received: "
            f"{devices}"
        )


def require_devices(devices: int, most: int, backend: str, found: str) -> None:
    """Raises a `RecipeError` if there are fewer devices.

    Args:
        devices: Number of devices.
        most: How many there are.
        backend: The backend.
        found: What they are.
    """
    if devices > most:
        raise RecipeError(
            f"--devices must be at most {most}, the number of devices that {backend} finds here "
            f"({found}). Received: {devices}"
        )
