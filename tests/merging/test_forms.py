"""The forms in which an activation is written of which some units are linear."""

import zipfile

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_nladv import CollapsePlan, SparsePReLU, collapse, nonlinearity_report, path_length
from keras_nladv._keras import private
from keras_nladv.merging.forms import bounds_of, gate_of
from keras_nladv.merging.surgeon import Surgeon
from keras_nladv.merging.verification import runs
from keras_nladv.merging.writer import NOT_SYMBOLIC
from tests.cases import once

from .test_collapse import difference, linearized, paying_everything, randomized

CLIPPED = {
    "relu6": "relu6",
    "hard_tanh": "hard_tanh",
    "relu_to_2": layers.ReLU(max_value=2.0),
    "operation": keras.ops.relu6,
    "clip": private.producer(ops.clip(keras.KerasTensor((1,)), -0.5, 2.0)),
}
BINARY = {
    "relu": ("relu", {"maximum", "apart", "where", "prelu", "sum"}),
    "gelu": ("gelu", {"apart", "where", "sum"}),
    "sigmoid": ("sigmoid", {"where", "sum"}),
    "silu": ("silu", {"gate", "shifted", "apart", "where", "sum"}),
    "hard_silu": (keras.ops.hard_silu, {"gate", "hard_shifted", "apart", "where", "sum"}),
    "leaky": (layers.LeakyReLU(0.1), {"where", "sum"}),
    "threshold": (layers.ReLU(threshold=0.5), {"where", "sum"}),
    **{name: (function, {"clip", "apart", "where", "sum"}) for name, function in CLIPPED.items()},
}


FUNCTIONS = [
    *(keras.activations.relu, keras.activations.relu6, keras.activations.hard_tanh),
    *(keras.ops.relu, keras.ops.relu6, keras.ops.hard_tanh),
    *(keras.activations.silu, keras.activations.hard_silu, keras.ops.silu, keras.ops.hard_silu),
]


@pytest.mark.once
@pytest.mark.parametrize("function", FUNCTIONS)
def test_bounds_and_gates_are_those_of_the_function(function):
    """Of the operation, too, that is in a model where it was called."""
    x = np.linspace(-9, 9, 37).astype("float32")
    symbolic = [keras.KerasTensor((2,))] if function not in NOT_SYMBOLIC else []
    for each in (function, *(private.producer(function(tensor)) for tensor in symbolic)):
        if "silu" in function.__name__:
            y = x * keras.ops.convert_to_numpy(gate_of(each)(x))
        else:
            y = np.clip(x, *bounds_of(each))
        np.testing.assert_allclose(y, keras.ops.convert_to_numpy(function(x)), rtol=1e-6)
    assert (bounds_of(function) is None) == ("silu" in function.__name__)
    assert (gate_of(function) is None) == ("silu" not in function.__name__)


def written(model, *names):
    """A model collapsed with some candidates and no others, one a round."""
    rows = [{"round": n, "name": name, "outcome": "taken"} for n, name in enumerate(names, 1)]
    return collapse(model, CollapsePlan(rows, Surgeon(model).fingerprint(), "macs"))


def network(activation, slopes=(0.0,), axis=-1):
    """Units after a map, which their form is written with, and after what is none."""
    inputs = keras.Input((5, 6, 4))
    x = SparsePReLU(axis, activation=activation, name="one")(layers.Conv2D(6, 3)(inputs))
    x = SparsePReLU(axis, activation=activation, name="two")(layers.AveragePooling2D(1)(x))
    model = keras.Model(inputs, layers.Dense(3)(layers.AveragePooling2D(2)(x)))
    return randomized(model, 0.5, slopes=slopes)


def every_form(functions):
    """Some functions in all forms in one network, beside each other."""
    inputs = keras.Input((4, 4, 3))
    forms, outputs = [], []
    for function, names in functions.values():
        for form in sorted(names):
            name = f"units_{len(forms)}"
            forms.append(f"{name} as {form}")
            x = SparsePReLU(activation=function, name=name)(layers.Dense(4)(inputs))
            outputs.append(layers.GlobalAveragePooling2D()(x))
    model = randomized(keras.Model(inputs, layers.concatenate(outputs)), 0.5)
    known = {each.name for each in Surgeon(model).forms()}
    return written(model, *(form for form in forms if form in known))


def counts(model):
    """The units, in all and nonlinear, of the activations of a model."""
    return [(row["units"], row["nonlinear"]) for row in nonlinearity_report(model).rows]


@pytest.mark.parametrize("name", BINARY)
def test_forms_are_equal(name, tmp_path):
    function, forms = BINARY[name]
    model = network(function)
    names = [each.name for each in Surgeon(model).forms()]
    default = {"relu": "maximum"}.get(name, "where")
    assert {each for each in names if each.startswith("one")} == {
        f"one as {form}" for form in forms - {default}
    }
    for form in sorted(forms):
        both = [each for each in names if each.endswith(f"as {form}")]
        collapsed = written(model, *both)
        assert difference(model, collapsed, (2, 5, 6, 4)) < 1e-6
        assert path_length(collapsed) == pytest.approx(path_length(model)), form
        if form in ("maximum", "clip", "prelu", "gate", "shifted", "hard_shifted"):
            assert counts(collapsed) == counts(model), form
        collapsed.save(tmp_path / "model.keras")
        with zipfile.ZipFile(tmp_path / "model.keras") as file:
            assert b"keras_nladv" not in file.read("config.json")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert difference(collapsed, loaded, (2, 5, 6, 4)) == 0


@pytest.mark.once
@pytest.mark.parametrize("bound", [ops.minimum, ops.maximum, lambda x, y: ops.clip(x, -y, y)])
def test_bounds_beside_units_stay_activations_of_their_own(bound):
    """Whatever form the units have: no bound of theirs makes one of both."""
    inputs = keras.Input((4, 4, 3))
    outputs = []
    for function in ("relu", "relu6", "hard_tanh", "silu"):
        x = bound(layers.Dense(4)(inputs), 0.5)
        x = SparsePReLU(activation=function)(x)
        x = SparsePReLU(activation=function)(bound(x, 0.25))
        outputs.append(layers.GlobalAveragePooling2D()(SparsePReLU(activation="relu6")(x)))
    model = randomized(keras.Model(inputs, layers.concatenate(outputs)), 0.5)
    forms: dict[str, list[str]] = {}
    for form in Surgeon(model).forms():
        forms.setdefault(form.name.rpartition(" ")[2], []).append(form.name)
    assert {"clip", "prelu", "where", "apart"} <= forms.keys()
    for names in ([], *forms.values()):
        collapsed = written(model, *names)
        assert path_length(collapsed) == pytest.approx(path_length(model)), names
        assert difference(model, collapsed, (2, 4, 4, 3)) < 1e-6


@pytest.mark.parametrize(
    "before",
    [
        layers.Dense(6),
        layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False),
        layers.DepthwiseConv2D(3, depth_multiplier=2),
        layers.BatchNormalization(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_hard_gates_need_no_factor_behind_a_map(before):
    """What it comes to six times as much of is divided by six in the layer before."""
    inputs = keras.Input((5, 6, 4))
    x = layers.Conv2D(4, 1)(inputs) if isinstance(before, layers.BatchNormalization) else inputs
    x = SparsePReLU(activation=keras.ops.hard_silu, name="units")(before(x))
    model = randomized(keras.Model(inputs, layers.AveragePooling2D(2)(x)), 0.5)
    collapsed = written(model, "units as hard_shifted")
    made = [type(operation).__name__ for operation in collapsed.operations]
    assert made.count("Multiply") == 1
    assert difference(model, collapsed, (2, 5, 6, 4)) < 1e-6
    assert path_length(collapsed) == pytest.approx(path_length(model))
    assert counts(collapsed) == counts(model)


@pytest.mark.parametrize("name", BINARY)
def test_what_is_left_of_a_form_when_linear_units_are_merged(name):
    """Those that are left are nonlinear, and in a chain of three both kinds."""
    function, forms = BINARY[name]
    inputs = keras.Input((4,))
    one = SparsePReLU(activation=function, name="one")(layers.Dense(6, name="a")(inputs))
    two = SparsePReLU(activation=function, name="two")(layers.Dense(5, name="b")(one))
    model = randomized(keras.Model(inputs, layers.Dense(3, name="c")(two)), 0.5)
    known = {each.name for each in Surgeon(model).forms()}
    for form in forms:
        both = [each for each in (f"one as {form}", f"two as {form}") if each in known]
        collapsed = written(model, *both, "a + b")
        assert difference(model, collapsed, (2, 4)) < 1e-6, form


@pytest.mark.once
def test_hard_gates_keep_their_factor_where_the_map_has_other_readers():
    inputs = keras.Input((5, 6, 4))
    x = layers.Conv2D(6, 3)(inputs)
    y = SparsePReLU(activation=keras.ops.hard_silu, name="units")(x)
    model = randomized(keras.Model(inputs, [x, y]), 0.5)
    collapsed = written(model, "units as hard_shifted")
    made = [type(operation).__name__ for operation in collapsed.operations]
    assert made.count("Multiply") == 2
    assert difference(model, collapsed, (2, 5, 6, 4)) < 1e-6


def test_slopes_between():
    """Only PReLU and the sum have them."""
    for function, default, other in (("relu", "prelu", "sum"), ("gelu", "sum", None)):
        model = network(function, slopes=(0.0, 0.25), axis=1)
        names = [each.name for each in Surgeon(model).forms()]
        assert names == ([f"one as {other}", f"two as {other}"] if other else [])
        assert difference(model, written(model, *names), (2, 5, 6, 4)) < 1e-6, default


@pytest.mark.once
def test_shared_activations_have_a_form_in_each_place():
    inputs = keras.Input((4,))
    units = SparsePReLU(name="units")
    x = units(layers.Dense(6, name="second")(units(layers.Dense(6, name="first")(inputs))))
    model = keras.Model(inputs, layers.Softmax()(x))
    units.alpha.assign([1, 0, 1, 0, 0, 0])
    names = [each.name for each in Surgeon(model).forms()]
    assert {"first + units as where", "second + units as where"} <= set(names)
    collapsed = written(model, "second + units as where")
    found = [type(operation).__name__ for operation in collapsed.operations]
    assert found.index("Maximum") < found.index("Where")
    assert difference(model, collapsed, (3, 4)) < 1e-6


@pytest.mark.parametrize("activation", ["relu6", "gelu"])
def test_in_two(activation):
    """The layers around are divided, also where borders keep them from being merged."""
    inputs = keras.Input((7, 7, 4))
    units = SparsePReLU(activation=activation, name="units")
    x = units(layers.Conv2D(6, 3, padding="same", name="one")(inputs))
    x = layers.Conv2D(5, 3, padding="same", name="two")(x)
    model = randomized(keras.Model(inputs, x), 0.0)
    units.alpha.assign([1, 0, 1, 0, 0, 0])
    collapsed = written(model, "one + two in two")
    assert difference(model, collapsed, (2, 7, 7, 4)) < 1e-6
    widths = {x.name: x.filters for x in collapsed.layers if isinstance(x, layers.Conv2D)}
    # The sum has the name of what was put out.
    assert widths == {"one": 4, "two_linear_1": 5, "one_linear": 2, "two_linear": 5}
    assert collapsed.count_params() == model.count_params() - 2 * 6  # The slopes.
    # Their activation is fused with the layer, the sum is all that is new.
    assert len(collapsed.operations) == 6
    assert collapsed.get_layer("one").activation is getattr(keras.activations, activation)


@pytest.mark.once
def test_in_two_around_a_depthwise_convolution():
    inputs = keras.Input((7, 7, 4))
    x = SparsePReLU(name="a", activation="relu6")(layers.Conv2D(6, 1, name="one")(inputs))
    x = layers.DepthwiseConv2D(3, padding="same", name="deep")(x)
    x = SparsePReLU(name="b", activation="relu6")(x)
    x = layers.Conv2D(4, 1, name="two")(x)
    model = randomized(keras.Model(inputs, layers.Add()([x, inputs])), 0.0)
    model.get_layer("a").alpha.assign([1, 1, 0, 0, 1, 0])
    model.get_layer("b").alpha.assign([1, 1, 0, 0, 0, 1])
    collapsed = written(model, "one + deep + two in two", "a as clip", "b as sum")
    assert difference(model, collapsed, (2, 7, 7, 4)) < 1e-6
    assert collapsed.get_layer("deep_linear").kernel.shape == (3, 3, 2, 1)
    # What it is divided into can still be merged.
    merged = written(
        model, "one + deep + two in two", "one_linear + deep_linear + two_linear", "a as clip"
    )
    assert difference(model, merged, (2, 7, 7, 4)) < 1e-6
    assert merged.get_layer("two_linear").kernel.shape == (3, 3, 4, 4)


@pytest.mark.once
@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="TensorFlow has no groups on a CPU."
)
def test_in_two_with_groups():
    inputs = keras.Input((7, 4))
    x = SparsePReLU(name="act")(layers.Conv1D(6, 3, groups=2, name="one")(inputs))
    model = randomized(keras.Model(inputs, layers.Conv1D(2, 3, groups=2, name="two")(x)), 0.0)
    model.get_layer("act").alpha.assign([1, 1, 0, 0, 1, 0])
    collapsed = written(model, "one + two in two")
    assert difference(model, collapsed, (2, 7, 4)) < 1e-6
    assert collapsed.get_layer("one_linear").filters == 2


@pytest.mark.parametrize("strides", [once(1), 2])
def test_a_constant_border(strides):
    model = linearized(inverted_residual_of(strides), 0.7)
    with paying_everything():
        surgeon = Surgeon(model)
        names = ["conv + deep + out"]
        for name in names:
            surgeon.carry_out([each for each in surgeon.candidates() if each.name == name])
        (border,) = (x.name for x in surgeon.forms() if x.name.endswith("with a constant border"))
    collapsed = written(model, *names, border)
    assert difference(model, collapsed, (2, 9, 8, 4)) < 1e-5
    assert not any("OnesLike" in type(x).__name__ for x in collapsed.operations)
    computed = written(model, *names)
    assert difference(computed, collapsed, (2, 9, 8, 4)) < 1e-6


def inverted_residual_of(strides):
    inputs = keras.Input((9, 8, 4))
    x = layers.ReLU()(layers.Conv2D(8, 1, name="conv")(inputs))
    x = layers.ReLU()(layers.DepthwiseConv2D(3, strides, padding="same", name="deep")(x))
    return keras.Model(inputs, layers.Conv2D(4, 1, name="out")(x))


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="Keras 3.15 does not export to ONNX from JAX alone."
)
@pytest.mark.filterwarnings("ignore")  # The converters' own.
def test_constants_stay_constants_in_onnx(tmp_path):
    """All forms in one network: its file has one input, and agrees."""
    onnxruntime = pytest.importorskip("onnxruntime")
    # What onnxruntime has no operation for when TensorFlow writes it, in any network.
    collapsed = every_form({key: value for key, value in BINARY.items() if key != "gelu"})
    x, expected = next(runs(collapsed, collapsed, size=4, samples=2))
    path = str(tmp_path / "model.onnx")
    collapsed.export(path, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path)
    (given,) = session.get_inputs()
    (actual,) = session.run(None, {given.name: x})
    np.testing.assert_allclose(actual, keras.ops.convert_to_numpy(expected), rtol=1e-4, atol=1e-5)
