"""The dense networks that sparse ones are found in."""

import keras
from keras import layers

from networks.convnets import convnet


def dense_network(name, input_shape, classes):
    """Builds an untrained network that returns logits. Images are standardized already.

    Args:
        name: `"mlp"` (300 and 100 units), `"lenet"` (LeNet-5-Caffe: 20 and 50 channels, 500 units;
            with kernels of 3 x 3 and 2 x 2 for images smaller than 20 x 20), `"conv4"` (64, 64, 128
            and 128 channels, 256 and 256 units) or `"resnet20"`.
        input_shape: Height, width and channels of an image.
        classes: Number of classes.
    """
    if name == "resnet20":
        return convnet(name, input_shape, classes, granularity=None)
    start = {
        "kernel_initializer": "glorot_normal",
        "bias_initializer": keras.initializers.RandomNormal(stddev=0.01),
    }
    model = keras.Sequential([keras.Input(input_shape)])
    if name == "lenet":
        small = min(input_shape[:2]) < 20
        for filters, size in ((20, 3 if small else 5), (50, 2 if small else 5)):
            model.add(layers.Conv2D(filters, size, activation="relu", **start))
            model.add(layers.MaxPooling2D())
    elif name == "conv4":
        for filters in (64, 128):
            for _ in range(2):
                model.add(layers.Conv2D(filters, 3, padding="same", activation="relu", **start))
            model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    for units in {"mlp": (300, 100), "lenet": (500,), "conv4": (256, 256)}[name]:
        model.add(layers.Dense(units, activation="relu", **start))
    model.add(layers.Dense(classes, dtype="float32", **start))
    return model
