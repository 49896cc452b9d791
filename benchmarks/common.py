"""What the benchmarks share."""

import importlib
import os
import platform

import keras
from keras import layers

import keras_nladv


def setting():
    """One line that says what was measured on: processor, cores, backend and versions."""
    backend = keras.backend.backend()
    versions = {
        "keras": keras.__version__,
        backend: importlib.import_module(backend).__version__,
        "keras_nladv": keras_nladv.__version__,
        "Python": platform.python_version(),
    }
    processor = platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores; " + ", ".join(
        f"{name} {version}" for name, version in versions.items()
    )


def resnet(activation=keras_nladv.SparsePReLU, input_shape=(32, 32, 3), depth=20):
    """The ResNet for CIFAR of He et al. 2015, with 1x1 projections, returning logits.

    Args:
        activation: Function of no arguments that makes an activation layer.
        input_shape: Height, width and channels of an image.
        depth: Integer, 6n + 2.
    """

    def convolved(x, filters, size, strides=1):
        x = layers.Conv2D(filters, size, strides, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    inputs = keras.Input(input_shape)
    x = activation()(convolved(inputs, 16, 3))
    for filters in (16, 32, 64):
        for block in range((depth - 2) // 6):
            strides = 2 if filters > 16 and block == 0 else 1
            y = activation()(convolved(x, filters, 3, strides))
            y = convolved(y, filters, 3)
            x = convolved(x, filters, 1, 2) if strides == 2 else x
            x = activation()(layers.add([x, y]))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
