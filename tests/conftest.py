import os

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
