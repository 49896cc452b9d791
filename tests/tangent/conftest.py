import contextlib

import keras
import pytest


@pytest.fixture
def double():
    """Models that are made in a test compute in float64."""
    with contextlib.ExitStack() as stack:
        if keras.backend.backend() == "jax":
            import jax

            # Earlier versions have it among their experiments.
            place = jax if hasattr(jax, "enable_x64") else jax.experimental
            stack.enter_context(place.enable_x64(True))
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("float64")
        stack.callback(keras.config.set_dtype_policy, policy)
        yield
