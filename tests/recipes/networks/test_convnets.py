import keras
import numpy as np
import pytest

from keras_nladv import NonlinearitySparsity, SparsePReLU, nonlinearity_report, path_length
from networks.convnets import convnet

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("family", "depth", "length", "units"),
    [
        # DESIGN's values, and one activation after another without shortcuts.
        ("resnet", 20, 14.5, 688),
        ("plain", 8, 7, 16 + 2 * 16 + 2 * 32 + 2 * 64),
    ],
)
def test_networks_of_he(family, depth, length, units):
    model = convnet(f"{family}{depth}", (32, 32, 3), 10)
    assert path_length(model) == pytest.approx(length)
    assert nonlinearity_report(model).units == units
    kernels = [v for v in model.trainable_variables if v.name == "kernel"]
    projections = [kernel for kernel in kernels if kernel.shape[:2] == (1, 1)]
    assert len(projections) == (2 if family == "resnet" else 0)
    # He et al. count convolutions and the last layer.
    assert len(kernels) - len(projections) == depth


def test_mobilenet():
    model = convnet("mobilenet", (16, 16, 3), 7, width=0.5)
    # The stem, two in each of seven blocks, four of which half of the walks pass by, and the head.
    assert path_length(model) == pytest.approx(1 + 3 * 2 + 4 * 1 + 1)
    assert model.output_shape == (None, 7)
    assert {row["function"] for row in nonlinearity_report(model).rows} == {"SparsePReLU(relu6)"}


@pytest.mark.parametrize(("name", "length"), [("vit", 4 * 0.5), ("mixer", 4 * 2 * 0.5)])
def test_networks_of_tokens(name, length):
    model = convnet(name, (14, 14, 3), 7, width=0.25)
    # By half of the walks past each feed-forward block.
    assert path_length(model) == pytest.approx(length)
    assert model.output_shape == (None, 7)
    assert {row["function"] for row in nonlinearity_report(model).rows} == {"SparsePReLU(gelu)"}
    plain = convnet(name, (14, 14, 3), 7, width=0.25, granularity=None)
    assert {row["function"] for row in nonlinearity_report(plain).rows} == {"gelu"}


@pytest.mark.parametrize(
    ("depth", "layers"), [(2, (0, 0, 0)), (3, (0, 0, 1)), (4, (0, 1, 1)), (7, (1, 2, 2))]
)
def test_plain_networks_of_any_depth(depth, layers):
    model = convnet(f"plain{depth}", (8, 8, 1), 10)
    names = [layer.name for layer in model.layers if isinstance(layer, SparsePReLU)]
    assert names == ["stem"] + [
        f"stage{stage}_layer{layer}"
        for stage, number in enumerate(layers, start=1)
        for layer in range(1, number + 1)
    ]
    assert path_length(model) == depth - 1


@pytest.mark.parametrize("granularity", ["channel", "layer", "element"])
def test_activations(granularity):
    model = convnet("resnet8", (8, 8, 1), 10, width=0.5, granularity=granularity)
    activations = [layer for layer in model.layers if isinstance(layer, SparsePReLU)]
    assert len(activations) == 7
    assert {layer.granularity for layer in activations} == {granularity}
    regularizers = {layer.alpha_regularizer for layer in activations}
    assert len(regularizers) == 7
    assert all(isinstance(r, NonlinearitySparsity) and r.strength == 0 for r in regularizers)


def test_the_input_is_standardized():
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 2)).astype("float32")
    outputs = []
    for shift, scale in ((0.0, 1.0), (7000.0, 20.0)):
        keras.utils.set_random_seed(0)
        model = convnet("plain8", (8, 8, 2), 3, 0.25, mean=[shift] * 2, variance=[scale**2] * 2)
        outputs.append(keras.ops.convert_to_numpy(model(shift + scale * images)))
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-3)


@pytest.mark.parametrize(
    "name",
    ["resnet", "resnet2", "resnet21", "plain-20", "plain1", "resnet20x", "vgg", "mobilenet2"],
)
def test_unknown_networks(name):
    with pytest.raises(ValueError, match="resnet8, resnet20.*" + name):
        convnet(name, (8, 8, 1), 10)
