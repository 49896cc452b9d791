"""SparsePReLU in models: built, trained, saved, cloned, exported."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_nladv import NonlinearitySparsity, SparsePReLU
from tests import processes
from tests.cases import once, once_but, since

SHAPE = (None, None, 3)


def activation():
    return SparsePReLU(
        alpha_initializer=keras.initializers.RandomUniform(-1, 2),
        alpha_regularizer=NonlinearitySparsity(0.01),
    )


def sequential():
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(4, 3),
            activation(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )


def deferred():
    return keras.Sequential(
        [layers.Conv2D(4, 3), activation(), layers.GlobalAveragePooling2D(), layers.Dense(2)]
    )


def functional():
    """With a layer that is shared."""
    inputs = keras.Input(SHAPE)
    shared = activation()
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(inputs))
    x = shared(x)
    x = layers.Add()([x, shared(layers.Conv2D(4, 3, padding="same")(x))])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(2)(shared(x)))


def inside_layers():
    """As the `activation` of other layers."""
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(4, 3, activation=activation()),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, activation=activation()),
            layers.Dense(2),
        ]
    )


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.convolution = layers.Conv2D(4, 3)
        self.activation = activation()
        self.pooling = layers.GlobalAveragePooling2D()
        self.head = layers.Dense(2)

    def call(self, inputs):
        return self.head(self.pooling(self.activation(self.convolution(inputs))))


def transformer():
    """Inside a block of keras-hub, which calls it without listing it."""
    keras_hub = pytest.importorskip("keras_hub")
    inputs = keras.Input((4, 3))
    x = keras_hub.layers.TransformerEncoder(8, 1, activation=activation())(inputs)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


BUILDERS = [sequential, deferred, functional, inside_layers, Subclassed, transformer]


def data(builder):
    rng = np.random.default_rng(0)
    shape = (16, 4, 3) if builder is transformer else (16, 6, 5, 3)
    return rng.normal(size=shape).astype("float32"), rng.normal(size=(16, 2)).astype("float32")


def slopes(model):
    """The slopes of every activation, also of those that the model does not list."""
    return [weight for weight in model.weights if weight.name == "alpha"]


def trained(builder):
    x, y = data(builder)
    model = builder()
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    return model, x


@pytest.mark.parametrize("builder", once_but(BUILDERS, [deferred, Subclassed]))
def test_training_and_cloning(builder):
    x, y = data(builder)
    model = builder()
    model(x)
    assert len(slopes(model)) == (2 if builder is inside_layers else 1)
    assert len(model.losses) == len(slopes(model))
    before = [np.array(ops.convert_to_numpy(alpha.value)) for alpha in slopes(model)]
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    for alpha, old in zip(slopes(model), before, strict=True):
        assert (ops.convert_to_numpy(alpha.value) != old).all()

    clone = keras.models.clone_model(model)
    clone(x)
    assert slopes(clone)[0] is not slopes(model)[0]
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone.predict(x, verbose=0), model.predict(x, verbose=0))


LOAD = """
import sys, warnings
warnings.simplefilter("error")
# Keras turns tensors into arrays in the way that NumPy 1 knew.
warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
import keras, numpy as np
import keras_nladv

folder, *names = sys.argv[1:]
for name in names:
    saved = np.load(f"{folder}/{name}.npz")
    model = keras.saving.load_model(f"{folder}/{name}.keras")
    np.testing.assert_array_equal(model.predict(saved["x"], verbose=0), saved["y"])
    fresh = keras.models.clone_model(model)
    fresh(saved["x"])
    assert (fresh.predict(saved["x"], verbose=0) != saved["y"]).any()
    fresh.load_weights(f"{folder}/{name}.weights.h5")
    np.testing.assert_array_equal(fresh.predict(saved["x"], verbose=0), saved["y"])
    assert model.losses[0] > 0
"""


@pytest.mark.once
@since("3.12", "Calling a loaded model without a warning")
def test_saved_models_load_in_another_process(tmp_path):
    builders = [functional, inside_layers]
    for builder in builders:
        model, x = trained(builder)
        model.save(tmp_path / f"{builder.__name__}.keras")
        model.save_weights(tmp_path / f"{builder.__name__}.weights.h5")
        np.savez(tmp_path / f"{builder.__name__}.npz", x=x, y=model.predict(x, verbose=0))
    names = [builder.__name__ for builder in builders]
    assert processes.run(LOAD, tmp_path, *names) == (0, "")


@pytest.mark.parametrize("builder", [deferred, once(Subclassed), once(transformer)])
def test_saving_and_loading(builder, tmp_path):
    model, x = trained(builder)
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)
    regularizer = slopes(loaded)[0].regularizer
    assert (regularizer.strength, regularizer.power) == (0.01, 0.5)

    model.save_weights(tmp_path / "model.weights.h5")
    fresh = builder()
    fresh(x)
    fresh.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(fresh.predict(x, verbose=0), expected)


def test_masks_pass():
    inputs = keras.Input((None,), dtype="int32")
    embedded = layers.Embedding(5, 4, mask_zero=True)(inputs)
    layer = activation()
    hidden = layer(embedded)
    model = keras.Model(inputs, layers.GlobalAveragePooling1D()(hidden))
    padded = np.array([[1, 2, 3, 0, 0]])
    np.testing.assert_allclose(
        model.predict(padded, verbose=0), model.predict(padded[:, :3], verbose=0), atol=1e-6
    )
    mask = ops.ones((1, 5), "bool")
    assert layer.compute_mask(hidden, mask) is mask


@pytest.mark.skipif(
    keras.backend.backend() == "torch",
    reason="Keras 3.15 exports no model of unknown batch size from torch to a SavedModel.",
)
# TensorFlow's own.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_export_to_saved_model(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    x, _ = data(functional)
    model = functional()
    model.export(tmp_path / "model", verbose=False)
    artifact = tensorflow.saved_model.load(tmp_path / "model")
    np.testing.assert_allclose(
        artifact.serve(x).numpy(), model.predict(x, verbose=0), rtol=1e-4, atol=1e-5
    )


# The converters' own.
@since("3.14", "Exporting a batch of any size")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="Keras 3.15 does not export to ONNX from JAX alone."
)
def test_export_to_onnx(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip({"tensorflow": "tf2onnx", "torch": "onnx"}[keras.backend.backend()])
    inputs = keras.Input((8,))
    x = layers.Dense(6)(inputs)
    model = keras.Model(inputs, layers.Dense(2)(activation()(x)))
    x = np.random.default_rng(0).normal(size=(5, 8)).astype("float32")
    expected = model.predict(x, verbose=0)
    model.export(str(tmp_path / "model.onnx"), format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    (actual,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
