"""The models of keras.applications, with all their parts but few pixels.

Some of them here; `pytest -m slow` takes all, which is 5 to 16 minutes on an idle core.
"""

import keras
import numpy as np
import pytest

from keras_nladv import collapse
from tests.copies import activations, calibrate, randomize, sparsified

pytestmark = pytest.mark.once

EVERY_DAY = ("MobileNetV2", "MobileNetV3Small", "ConvNeXtTiny")
NAMES = [
    name
    for name, value in vars(keras.applications).items()
    if name[0].isupper() and callable(value)
]
# What is less does not pass through them.
SIZES = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}
FUNCTIONS = {
    "ConvNeXt": {"gelu"},
    "EfficientNet": {"silu", "sigmoid"},
    "MobileNetV3": {"relu", "hard_silu"},
}


@pytest.fixture(autouse=True)
def _release(fast_weights):
    yield
    keras.utils.clear_session()


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in EVERY_DAY else pytest.mark.slow) for name in NAMES],
)
def test_application(name):
    if name == "NASNetMobile" and keras.backend.backend() == "torch":
        pytest.skip("Keras refuses to build it on torch.")
    size = SIZES.get(name, 32)
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)
    x = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32")
    sharing = name == "MobileNetV2"
    model = calibrate(randomize(model), x)
    sparse, report = sparsified(model, x, compiled=True, share_around_depthwise=sharing)
    expected = next((FUNCTIONS[key] for key in FUNCTIONS if name.startswith(key)), {"relu"})
    assert {row["function"] for row in report.rows if row["outcome"] == "converted"} == expected
    # The scores of the classes, and nothing else.
    assert len(report.left) == 1
    assert report.rows[-1]["function"] == "softmax"
    calls = sum(len(layer._inbound_nodes) for layer in activations(sparse))
    assert calls == len(report.converted)
    if sharing:
        # Both sides of each of the 17 depthwise convolutions but one, the stem's is another.
        assert calls - len(activations(sparse)) == 17
    if name not in EVERY_DAY:
        rng = np.random.default_rng(1)
        for layer in activations(sparse):
            layer.alpha.assign(rng.random(layer.alpha.shape) < 0.7)
        collapse(sparse, cost="macs", tolerance=1e-3)
