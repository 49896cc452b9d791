import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from keras import layers, ops

from keras_nladv import FixedMask
from tests import processes
from tests.cases import once

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 6, 6, 2)).astype("float32")
Y = RNG.normal(size=(32, 3)).astype("float32")
MASKS = {"depthwise": (2, 2, 2, 3), "conv": (3, 3, 6, 4), "einsum": (4, 5), "dense": (5, 3)}
MASKS = {name: RNG.random(shape) < 0.4 for name, shape in MASKS.items()}


def network():
    """Each kind of kernel, behind a mask."""
    depthwise, conv, einsum, dense = map(FixedMask, MASKS.values())
    return keras.Sequential(
        [
            keras.Input(X.shape[1:]),
            layers.DepthwiseConv2D(2, depth_multiplier=3, depthwise_constraint=depthwise),
            layers.Conv2D(4, 3, kernel_constraint=conv, activation="relu"),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.EinsumDense("ab,bc->ac", 5, kernel_constraint=einsum),
            layers.Dense(3, kernel_constraint=dense, dtype="float32"),
        ]
    )


def kernels(model):
    found = [layer.kernel for layer in model.layers if hasattr(layer, "kernel")]
    return dict(zip(MASKS, map(ops.convert_to_numpy, found), strict=True))


def assert_masked(model):
    """Checks that what is masked is zero exactly, and that hardly anything else is."""
    for name, kernel in kernels(model).items():
        assert (kernel[~MASKS[name]] == 0).all(), name
        assert (kernel[MASKS[name]] != 0).mean() > 0.9, name


@settings(max_examples=25)
@given(arrays(bool, array_shapes(max_dims=4, max_side=9)))
def test_masks_survive_their_configuration(mask):
    constraint = FixedMask(mask, keras.constraints.NonNeg())
    loaded = keras.constraints.get(keras.constraints.serialize(constraint))
    assert (loaded.mask == mask).all()
    assert loaded.mask.shape == mask.shape
    weights = np.where(mask, -1.0, np.inf).astype("float32")
    assert (ops.convert_to_numpy(loaded(weights)) == 0).all()
    assert (ops.convert_to_numpy(loaded(-weights)) == mask).all()


OPTIMIZERS = {
    "SGD": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    "Adam": {"amsgrad": True, "global_clipnorm": 1.0},
    "AdamW": {"weight_decay": 0.1, "gradient_accumulation_steps": 2},
    "Lion": {"weight_decay": 0.1},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "Ftrl": {"learning_rate_power": -0.4},
    "Adagrad": {},
    "Lamb": {},
    "Muon": {},
}


@pytest.mark.parametrize(
    ("optimizer", "precision"),
    [
        *(once(name, "float32") for name in OPTIMIZERS if name != "AdamW"),
        ("AdamW", "float32"),
        ("SGD", "mixed_float16"),
        once("Adam", "mixed_bfloat16"),
        once("SGD", "float16"),
    ],
)
def test_whatever_trains_them(optimizer, precision):
    keras.config.set_dtype_policy(precision)
    try:
        model = network()
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(getattr(keras.optimizers, optimizer)(0.01, **OPTIMIZERS[optimizer]), "mse")
    before = kernels(model)
    model.fit(X, Y, batch_size=4, epochs=1, verbose=0)
    assert_masked(model)
    assert all((value != before[name]).any() for name, value in kernels(model).items())


@pytest.mark.slow
def test_saved_and_trained_on_in_another_process(tmp_path):
    """Loaded from a file, compiled anew or not, copied: the masks are there."""
    model = network()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "masked.keras")
    np.savez(tmp_path / "data.npz", x=X, y=Y)
    code = f"""
import keras, numpy as np, keras_nladv
data = np.load({str(tmp_path / "data.npz")!r})
for compiled in (True, False):
    model = keras.models.load_model({str(tmp_path / "masked.keras")!r}, compile=compiled)
    model = model if compiled else keras.models.clone_model(model)
    if not compiled:
        model.compile(keras.optimizers.AdamW(0.01), "mse")
    model.fit(data["x"], data["y"], epochs=2, verbose=0)
    model.save({str(tmp_path)!r} + f"/trained-{{compiled}}.keras")
"""
    assert processes.run(code) == (0, "")
    for compiled in (True, False):
        trained = keras.models.load_model(tmp_path / f"trained-{compiled}.keras")
        assert_masked(trained)
        assert (kernels(trained)["conv"] != kernels(model)["conv"]).any()


def test_averages_are_masked_as_the_docstring_says():
    model = network()
    model.compile(keras.optimizers.Adam(0.01, use_ema=True), "mse")
    model.fit(X, Y, batch_size=4, verbose=0)
    for variable in model.trainable_variables:
        if variable.constraint is not None:
            variable.assign(variable.constraint(variable))
    assert_masked(model)


@pytest.mark.once
def test_checkpoints_of_averages_are_masked_as_the_page_says(tmp_path):
    class MaskedAverages(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            for weight in self.model.trainable_weights:
                if weight.constraint is not None:
                    weight.assign(weight.constraint(weight))

        def on_train_end(self, logs=None):
            self.on_epoch_end(None)

    model = network()
    model.compile(keras.optimizers.Adam(0.01, use_ema=True), "mse")
    path = str(tmp_path / "{epoch}.weights.h5")
    callbacks = [
        keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
        MaskedAverages(),
        keras.callbacks.ModelCheckpoint(path, save_weights_only=True),
    ]
    model.fit(X, Y, batch_size=4, epochs=2, callbacks=callbacks, verbose=0)
    assert_masked(model)
    for epoch in (1, 2):
        model.load_weights(path.format(epoch=epoch))
        assert_masked(model)


def test_what_a_diverged_step_leaves_is_zero_too():
    weights = np.array([np.nan, np.inf, -1.0], "float32")
    masked = ops.convert_to_numpy(FixedMask([0, 0, 1])(weights))
    assert masked.tolist() == [0.0, 0.0, -1.0]
    assert not np.signbit(masked[:2]).any()


def test_masks_cannot_be_changed():
    mask = np.ones(3, bool)
    constraint = FixedMask(mask)
    mask[:] = False
    assert constraint.mask.all()
    with pytest.raises(ValueError, match="read-only"):
        constraint.mask[0] = False


@pytest.mark.parametrize("mask", [[0.0, 0.5], [2, 0], [np.nan], ["yes"]])
def test_other_numbers_are_refused(mask):
    with pytest.raises(ValueError, match="`mask` must hold bools, or zeros and ones"):
        FixedMask(mask)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"shape of the mask, \(3, 1\). Received: weights of"):
        FixedMask(np.ones((3, 1)))(np.ones((3, 2)))
    layer = layers.Dense(2, kernel_constraint=FixedMask(np.ones((3, 3))))
    model = keras.Sequential([keras.Input((3,)), layer])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"shape of the mask, \(3, 3\). Received: weights of"):
        model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
