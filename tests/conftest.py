import os
import sys
import types

import hypothesis
import keras
import pytest

# The same examples in every run: what fails was caused by a change. New ones are drawn with
# HYPOTHESIS_PROFILE=explore.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def read_events():
    """Reads a directory as TensorBoard does where TensorFlow is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tensorboard.compat.notf", types.ModuleType("notf"))
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        everything = {"scalars": 0, "histograms": 0, "images": 0}
        yield lambda log_dir: EventAccumulator(str(log_dir), everything).Reload()
