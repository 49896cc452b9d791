"""What share of an epoch `PathLengthCallback` takes, for ResNet-20 on the digits of scikit-learn.

    KERAS_BACKEND=jax python benchmarks/callback.py

The callback is timed inside one run: epochs with and without it would differ by more than it takes.
Medians over the epochs after the first, which compiles; the times of the callback include bringing
the slopes from the device.
"""

import statistics
import tempfile
import time

import keras
from sklearn.datasets import load_digits

import keras_nladv
import measuring
import subjects

EPOCHS = 12


class Timed(keras_nladv.PathLengthCallback):
    def __init__(self, *args):
        super().__init__(*args)
        self.seconds = []

    def on_epoch_end(self, epoch, logs=None):
        start = time.perf_counter()
        super().on_epoch_end(epoch, logs)
        self.seconds.append(time.perf_counter() - start)


class Epochs(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self._start)


digits = load_digits()
images = digits.images[..., None].astype("float32")
keras.utils.set_random_seed(0)
print(measuring.setting())
with tempfile.TemporaryDirectory() as directory:
    for name, arguments in {"logs only": (), "with log_dir": (directory,)}.items():
        model = subjects.resnet(20, keras_nladv.SparsePReLU, (8, 8, 1))
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        epochs, callback = Epochs(), Timed(*arguments)
        model.fit(
            images,
            digits.target,
            batch_size=64,
            epochs=EPOCHS,
            # The epochs are measured before the callback runs.
            callbacks=[epochs, callback],
            verbose=0,
        )
        epoch, spent = (statistics.median(x.seconds[1:]) for x in (epochs, callback))
        print(f"{name:13} {spent * 1e3:6.1f} ms of an epoch of {epoch:5.2f} s: {spent / epoch:.2%}")
