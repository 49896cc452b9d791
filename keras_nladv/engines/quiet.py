import logging
import warnings
from contextlib import contextmanager


@contextmanager
def quiet(*names):
    """Leaves out what converters say of what cannot be changed here; what is wrong they raise."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
