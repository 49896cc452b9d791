"""Whether there is a Ray cluster, which is asked before anything else is loaded."""

import socket
import subprocess
import sys

from running.errors import RecipeError

# A cluster answers within a few; Ray itself would wait for many minutes for one.
SECONDS = 20
SCRIPT = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR')"


def require_cluster(address: str) -> None:
    """Raises a `RecipeError` if there is no Ray cluster at an address.

    Args:
        address: As `HOST:PORT` or `ray://HOST:PORT`, or `auto`.
    """
    try:
        if address != "auto":
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), timeout=5).close()
        # Somebody is there, which need not be Ray. Only a process can be stopped that waits for it.
        subprocess.run(
            [sys.executable, "-c", SCRIPT, address],
            check=True,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except (OSError, ValueError, OverflowError) as error:
        reason = str(error)
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["it ended without a word"])[-1]
    except subprocess.TimeoutExpired:
        reason = f"nobody answered as Ray does within {SECONDS} seconds"
    else:
        return
    raise RecipeError(
        f"--ray-address {address}: there is no Ray cluster ({reason}). Start one with `ray start "
        "--head`, and give the address that it says, HOST:PORT."
    )
