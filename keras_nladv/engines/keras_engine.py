import logging
from contextlib import contextmanager
from typing import ClassVar

import keras

from keras_nladv._common.arguments import flag, integer
from keras_nladv.engines.engine import Engine


class Keras(Engine):
    """Keras itself, on the backend and device at hand.

    It takes any model. `threads` is not used: backends take their number of threads when they
    start.
    """

    name = "keras"
    packages: ClassVar = dict.fromkeys(("tensorflow", "jax", "torch"), ("keras",))
    suffix = ".keras"
    # Others have an operation more than the function.
    forms_in_float32 = ("maximum", "scaled")

    def __init__(self, model, *, batch_size=None, size=None, threads=1, verify=False):
        integer("threads", threads, least=1)
        flag("verify", verify)
        self._model = model

    @classmethod
    def version(cls):
        # The package may be `keras-nightly`.
        return keras.__version__

    def __call__(self, inputs):
        with _many_models():
            return self._model.predict_on_batch(inputs)

    def write(self, path):
        self._model.save(path)


@contextmanager
def _many_models():
    """Keeps TensorFlow from warning that there are many models, which it takes for one."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
