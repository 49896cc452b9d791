"""How long `path_length` takes: the first call, which reads the model's graph, and later ones.

    KERAS_BACKEND=jax python benchmarks/path_length.py

The first call of the other measure finds the graph read. Later calls look at the slopes only; for
them every ReLU of the model could as well be a `SparsePReLU`, so a ResNet-20 made of these is the
first in the list. Seconds of wall time, each first call on a model of its own.
"""

import statistics
import time

import keras

import keras_nladv
import measuring
import subjects

APPLICATIONS = ("ResNet50", "ResNet152", "DenseNet201", "EfficientNetB0", "EfficientNetV2L")
FIRST, LATER = 3, 20


def timed(model, normalized=True):
    start = time.perf_counter()
    keras_nladv.path_length(model, normalized)
    return time.perf_counter() - start


def measure(build):
    """Returns medians of first calls, of first calls for the other measure, and of later calls."""
    firsts, others, laters = [], [], []
    for _ in range(FIRST):
        model = build()
        firsts.append(timed(model))
        others.append(timed(model, normalized=False))
        laters += [timed(model) for _ in range(LATER)]
        del model
        keras.utils.clear_session()
    return [statistics.median(times) for times in (firsts, others, laters)]


def application(name):
    return getattr(keras.applications, name)(weights=None)


print(measuring.setting())
print(f"{'model':16} {'first':>9} {'unnormalized':>13} {'later':>9}")
builders = {"ResNet-20": lambda: subjects.resnet(20, keras_nladv.SparsePReLU)} | {
    name: lambda name=name: application(name) for name in APPLICATIONS
}
for name, build in builders.items():
    first, other, later = measure(build)
    print(f"{name:16} {first:7.2f} s {other:11.2f} s {later * 1e3:6.2f} ms")
