import os
import sys

import ray

from options.backends import choose_backend
from running.errors import RecipeError
from studies.directory.cell import RECIPES

# A card that many processes begin to use at once refuses some, which have to begin again.
RETRIES = 5


class RayEngine:
    """Runs cells with Ray, each in a process of its own, many at once.

    Every machine of a cluster has the environment and these recipes at the same path, and sees the
    directory of the study at the same path.

    Args:
        directory: The directory of the study.
        address: That of a cluster, `None` for this machine.
        cpus: Number of cores of a cell.
        gpus: Number of GPUs of a cell; it may be a part of one.

    Raises:
        RecipeError: If Ray cannot be started, or has not so much.
    """

    def __init__(self, directory, address=None, cpus=1.0, gpus=0.0):
        threads = str(max(int(cpus), 1))
        variables = {
            "PYTHONPATH": os.pathsep.join([str(RECIPES), *filter(None, sys.path)]),
            "OMP_NUM_THREADS": threads,
        }
        if 0 < gpus < 1:
            # JAX and TensorFlow would take the memory of a card for the first cell on it.
            variables |= {
                "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
                "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            }
        try:
            ray.init(
                address=address or "local",
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level="ERROR",
                runtime_env={"env_vars": variables},
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise RecipeError(
                f"Ray cannot be used at {address or 'this machine'}: {error}"
            ) from error
        wanted_of = {"CPU": cpus, "GPU": gpus}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        for name, wanted in wanted_of.items():
            most = max(node.get(name, 0) for node in nodes)
            if wanted > most:
                ray.shutdown()
                raise RecipeError(
                    f"A cell wants {wanted:g} {name}s, but no machine of Ray has more than "
                    f"{most:g}."
                )
        # Ray would take more and hold them back: what comes next is decided as late as can be.
        self.most = sum(
            int(min(node.get(name, 0) / wanted for name, wanted in wanted_of.items() if wanted))
            if any(wanted_of.values())
            else 1
            for node in nodes
        )
        # A process runs one cell: nothing is left of it, GPU memory first of all.
        remote = ray.remote(
            num_cpus=cpus, num_gpus=gpus, max_calls=1, max_retries=RETRIES, retry_exceptions=True
        )
        self.run = remote(_run)
        self.on_card = gpus > 0
        self.directory = directory.resolve()
        self.pending = {}

    @property
    def free(self):
        return len(self.pending) < self.most

    def submit(self, cell):
        self.pending[self.run.remote(cell, self.directory, self.on_card)] = cell

    def next(self):
        [ended], _ = ray.wait(list(self.pending), num_returns=1)
        cell = self.pending.pop(ended)
        try:
            ray.get(ended)
        except ray.exceptions.RayError as error:
            # Killed for its memory, say.
            cell.fail(self.directory, str(error))
        return cell.id


def _run(cell, directory, on_card):
    """Runs a cell. Its own errors it keeps; what is raised here is why it could not begin."""
    if on_card:
        # Before anything of the cell is there. Keras' backend is chosen when it is imported.
        choose_backend(cell.backend)
        import keras

        keras.ops.zeros(1)
    cell.run(directory)
