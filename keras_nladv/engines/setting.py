import keras

from keras_nladv.engines.processor import processor
from keras_nladv.engines.registry import find_engine


def setting(engine, threads, batch_size):
    """What times are measured with, as a dict.

    Args:
        engine: Name of the engine.
        threads: Number of threads.
        batch_size: Number of samples in a batch.
    """
    return {
        "engine": engine,
        "backend": keras.backend.backend(),
        "version": find_engine(engine).version(),
        # The backend's own.
        "threads": None if engine == "keras" else threads,
        "batch_size": batch_size,
        "processor": processor(),
    }
