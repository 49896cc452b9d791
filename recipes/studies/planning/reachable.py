"""Whether networks have what ladders ask to be left, which is asked before anything is run."""

import keras

from keras_nladv import path_length
from networks.convnets import convnet
from running.errors import RecipeError

# What cifar.py builds where nothing is said of it.
MODEL = "resnet20"


def require_reachable(experiments):
    """Raises a `RecipeError` if a target is a path length that a network does not have.

    Args:
        experiments: List of `Experiment`s, whose options are known to be right.
    """
    lengths = {}
    for experiment in experiments:
        if not experiment.ladder_of_lengths:
            continue
        ladder = experiment.ladder
        for model in {cell.options.get("model", MODEL) for cell in experiment.cells("")}:
            if model not in lengths:
                # Their width, and the images, do not matter.
                lengths[model] = path_length(convnet(model, (32, 32, 3), 2, width=0.25))
            beyond = [target for target in ladder.targets if target >= lengths[model]]
            if beyond:
                raise RecipeError(
                    f"the ladder of the experiment {experiment.name!r}: targets must be less than "
                    f"{lengths[model]:g}, the average path length of {model}. Received: "
                    f"{', '.join(map(str, beyond))}"
                )
    keras.utils.clear_session()
