r"""What int8 costs and saves in a network that was pressed and collapsed.

    python recipes/cifar.py --backend tensorflow --dataset fashion_mnist --model mobilenet \
        --run-dir runs/fashion
    KERAS_BACKEND=tensorflow taskset -c 0 \
        python benchmarks/int8.py fashion_mnist runs/fashion/model.keras

A line for each way in which the network can be written: accuracy on all test images, the size of
its file, and the time of a single image in LiteRT, on one thread, by turns. `merged` is what
`collapse` merges by counting multiplications, `apart` the same with `for_int8=True`. Keras
quantizes dense layers only.
"""

import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

import measuring
from keras_nladv import collapse
from keras_nladv.engines import LiteRT

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))
from data.images import load

dataset, path, *shrink = sys.argv[1:]
data = load(dataset).reduced(None, *map(int, shrink or [1]))
images = data.x_test.astype("float32")
pressed = keras.models.load_model(path)
folder = Path(tempfile.mkdtemp())


def tested(network):
    """The accuracy of something that is called on 100 images."""
    hits = [
        np.argmax(network(images[start : start + 100]), axis=1)
        == data.y_test[start : start + 100].ravel()
        for start in range(0, len(images), 100)
    ]
    return 100 * np.mean(np.concatenate(hits))


def in_keras(model):
    model.save(folder / "model.keras")
    accuracy = tested(lambda x: keras.ops.convert_to_numpy(model(x, training=False)))
    return accuracy, (folder / "model.keras").stat().st_size


def in_litert(model, single, **options):
    single.save(folder / "model.tflite")
    accuracy = tested(LiteRT(model, **options))
    return accuracy, (folder / "model.tflite").stat().st_size


rows, networks = {"as trained, Keras": in_keras(pressed)}, {}
for name, for_int8 in (("merged", False), ("apart", True)):
    model = collapse(pressed, cost="macs", for_int8=for_int8)
    for kind, dynamic_range in ((f"{name}, LiteRT", False), (f"{name}, LiteRT, int8", True)):
        networks[kind] = LiteRT(model, batch_size=1, dynamic_range=dynamic_range)
        rows[kind] = in_litert(model, networks[kind], dynamic_range=dynamic_range)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            layer.quantize("int8")
    rows[f"{name}, Keras, int8"] = in_keras(model)
steps = {kind: lambda network=network: network(images[:1]) for kind, network in networks.items()}
times = dict(zip(steps, measuring.by_turns("", steps, rounds=300)))

print(f"{measuring.setting()}\n\n{path} on {dataset}, {len(images):,} images to test\n")
print("| network | accuracy | KiB | ms | times merged, LiteRT |\n" + "| --- " * 5 + "|")
for kind, (accuracy, size) in rows.items():
    row = times.get(kind, {})
    cells = [f"{row['ms']:.3f}" if row else "-"]
    low, median, high = row.get("times merged, LiteRT", [np.nan] * 3)
    cells.append("-" if np.isnan(median) else f"{median:.2f} ({low:.2f}-{high:.2f})")
    print(f"| {kind} | {accuracy:.2f} % | {size / 1024:.0f} | {' | '.join(cells)} |")
