import contextlib
import functools
import os
import sys
import types

import hypothesis
import keras
import pytest
from packaging.version import Version

# The same examples in every run: what fails was caused by a change. New ones are drawn with
# HYPOTHESIS_PROFILE=explore.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_configure(config):
    # What older versions of Keras warn of without a reason.
    if Version(keras.__version__) < Version("3.12"):
        loaded = "(?s).*The structure of `inputs` doesn't match the expected structure"
        config.addinivalue_line("filterwarnings", f"ignore:{loaded}:UserWarning")


@pytest.fixture(scope="session", autouse=True)
def operations_of_onnx():
    """What torch can write as ONNX, which it reads twice for each file, is read once.

    That takes most of the time of an export. Where other versions of torch keep it, it is read as
    often as they like.
    """
    if keras.backend.backend() != "torch":
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        with contextlib.suppress(ImportError, AttributeError):
            from torch.onnx._internal.exporter._registration import ONNXRegistry

            read = staticmethod(functools.cache(ONNXRegistry.from_torchlib))
            patch.setattr(ONNXRegistry, "from_torchlib", read)
        yield


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
