"""Networks that somebody has trained already."""

import keras
import numpy as np

from running.errors import plain_errors


def given(file, data):
    """Reads a classifier of images.

    Args:
        file: The path of a .keras file.
        data: The `Images` that it is to classify.

    Returns:
        The model, and whether it returns logits, or else probabilities.

    Raises:
        RecipeError: If it is none of those images and their classes.
    """
    images = data.x_test[:32].astype("float32")
    with plain_errors(f"--model-file {file}"):
        model = keras.models.load_model(file, compile=False)
        if model.input_shape != (None, *images.shape[1:]):
            raise ValueError(
                f"the model must take images of shape {images.shape[1:]}, those of {data.name}. "
                f"Received: inputs of shape {model.input_shape}"
            )
        outputs = np.asarray(model.predict(images, verbose=0))
        if outputs.shape[1:] != (data.classes,):
            raise ValueError(
                f"the model must return logits or probabilities of the {data.classes} classes of "
                f"{data.name}. Received: outputs of shape {outputs.shape[1:]} for an image"
            )
    return model, not (outputs.min() >= 0 and np.allclose(outputs.sum(axis=1), 1, atol=1e-2))
