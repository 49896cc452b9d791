"""Some models of keras.applications, with all their parts but few pixels."""

import keras
import numpy as np
import pytest

from tests.surgery.checks import activations, randomize, sparsified


@pytest.fixture(autouse=True)
def _release(fast_weights):
    yield
    keras.utils.clear_session()


@pytest.mark.parametrize(
    ("name", "functions"),
    [
        ("MobileNetV2", {"relu"}),
        ("MobileNetV3Small", {"relu", "hard_silu"}),
        ("ConvNeXtTiny", {"gelu"}),
    ],
)
def test_application(name, functions):
    model = getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3), classes=10)
    x = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    sharing = name == "MobileNetV2"
    sparse, report = sparsified(randomize(model), x, compiled=True, share_around_depthwise=sharing)
    assert {row["function"] for row in report.rows if row["outcome"] == "converted"} == functions
    # The scores of the classes, and nothing else.
    assert len(report.left) == 1
    assert report.rows[-1]["function"] == "softmax"
    calls = sum(len(layer._inbound_nodes) for layer in activations(sparse))
    assert calls == len(report.converted)
    if sharing:
        # Both sides of each of the 17 depthwise convolutions but one, the stem's is another.
        assert calls - len(activations(sparse)) == 17
