import keras
import pytest

from keras_nladv import nonlinearity_report, path_length
from keras_nladv.graph import activations

pytestmark = pytest.mark.once

NAMES = sorted(name for name in dir(keras.applications) if name[0].isupper())

# What follows from the definition without enumeration. A chain is as long as it has activations.
# A residual block with d activations on its branch adds d / 2, and one after the sum adds 1.
EXPECTED = {
    "VGG16": 13 + 2,
    "VGG19": 16 + 2,
    "MobileNet": 1 + 2 * 13,
    "ResNet50": 1 + (3 + 4 + 6 + 3) * (2 / 2 + 1),
    "ResNet101": 1 + (3 + 4 + 23 + 3) * (2 / 2 + 1),
    "ResNet152": 1 + (3 + 8 + 36 + 3) * (2 / 2 + 1),
    "ConvNeXtTiny": (3 + 3 + 9 + 3) / 2,
    "ConvNeXtSmall": (3 + 3 + 27 + 3) / 2,
    "ConvNeXtBase": (3 + 3 + 27 + 3) / 2,
    "ConvNeXtLarge": (3 + 3 + 27 + 3) / 2,
    "ConvNeXtXLarge": (3 + 3 + 27 + 3) / 2,
}


@pytest.fixture(autouse=True)
def _release(cheap_weights):
    yield
    keras.utils.clear_session()


def test_there_are_forty():
    assert len(NAMES) == 40


# One of each kind, as small as there is; the others are deeper or wider, and take minutes.
EVERY_DAY = (
    *("ConvNeXtTiny", "DenseNet121", "InceptionV3", "MobileNetV2", "MobileNetV3Small"),
    *("ResNet50", "VGG16", "NASNetMobile"),
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in EVERY_DAY else pytest.mark.slow) for name in NAMES],
)
def test_every_application(name):
    if name == "NASNetMobile" and keras.backend.backend() == "torch":
        pytest.skip("Keras 3.15 cannot build NASNetMobile on torch.")
    model = getattr(keras.applications, name)(weights=None)
    length, unnormalized = path_length(model), path_length(model, normalized=False)
    assert length == pytest.approx(EXPECTED.get(name, length), rel=1e-12)
    # Paths are at most as long as all activations in a row, and longer ones are more numerous.
    assert 0 < length <= unnormalized * (1 + 1e-12)
    assert unnormalized <= len(activations(model)) * (1 + 1e-12)
    report = nonlinearity_report(model)
    assert report.nonlinear_units == 1.0
    assert report.units == sum(activation.units for activation in activations(model)) > 0
