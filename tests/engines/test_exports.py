"""Networks compute in all engines what they compute in Keras."""

import contextlib
import io
import re

import keras
import numpy as np
import pytest
from keras import layers

from keras_nladv import SparsePReLU, collapse
from keras_nladv.engines import Engine, LiteRT, ONNXRuntime, OpenVINO
from tests.cases import once, usable
from tests.engines.models import ACTIVATIONS, every_activation, vision_transformer
from tests.merging.test_collapse import randomized
from tests.merging.test_forms import BINARY, every_form
from tests.merging.test_rescaling import by_factors, inverted_residuals

ENGINES = (ONNXRuntime, LiteRT, OpenVINO)


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.name)
def engine(request):
    return usable(request.param)


# OpenVINO takes seconds for each network, from whichever backend.
@pytest.fixture(
    params=[once(each) if each is OpenVINO else each for each in ENGINES],
    ids=lambda engine: engine.name,
)
def quick_engine(request):
    return usable(request.param)


def fixed(engine, **sizes):
    """The sizes, where an engine takes no free ones."""
    return sizes if engine is LiteRT and keras.backend.backend() == "torch" else {}


def assert_same(network, model, shape, tolerance=1e-5):
    x = np.random.default_rng(1).normal(size=shape).astype("float32")
    expected, received = (keras.tree.flatten(each(x)) for each in (model, network))
    for number, (right, other) in enumerate(zip(expected, received, strict=True)):
        right = keras.ops.convert_to_numpy(keras.ops.cast(right, "float32"))
        limit = tolerance * np.abs(right).max()
        np.testing.assert_allclose(other, right, rtol=0, atol=limit, err_msg=str(number))


def test_every_activation(engine):
    assert len(ACTIVATIONS) > 28
    sizes = fixed(engine, batch_size=3)
    # LiteRT has no operation for the sorting in it that its converter from Torch writes.
    refused = ["sparsemax"] if sizes else []
    model = every_activation([name for name in ACTIVATIONS if name not in refused])
    assert_same(engine(model, **sizes), model, (3, 6))
    for name in refused:
        with pytest.raises(ValueError, match=r"converted to litert from .*STABLEHLO_SORT"):
            engine(every_activation([name]), **sizes)


def test_vision_transformer(engine, tmp_path):
    model = vision_transformer()
    network = engine(model, batch_size=1, threads=2)
    assert_same(network, model, (1, 16, 16, 3))
    network.save(tmp_path / f"model{engine.suffix}")
    x = np.random.default_rng(0).normal(size=(1, 16, 16, 3)).astype("float32")
    received = by_itself(engine, str(tmp_path / f"model{engine.suffix}"), x)
    np.testing.assert_allclose(received, keras.ops.convert_to_numpy(model(x)), atol=1e-5)
    names = {f"model{suffix}" for suffix in (engine.suffix, *engine.others)}
    assert {path.name for path in tmp_path.iterdir()} == names


def by_itself(engine, path, x):
    """Runs a file in its engine, without this library."""
    if engine is ONNXRuntime:
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        (name,) = (each.name for each in session.get_inputs())
        return session.run(None, {name: x})[0]
    if engine is LiteRT:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(path)
        (index,) = (each["index"] for each in interpreter.get_input_details())
        interpreter.resize_tensor_input(index, x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(index, x)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    import openvino

    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(path, "CPU", exact)(x)[0]


def test_partly_linear(quick_engine):
    """Whatever a collapsed network is written with."""
    inputs = x = keras.Input((8, 8, 3))
    for number, function in enumerate(("relu", "relu6", "gelu", "silu", "tanh")):
        x = layers.Conv2D(6, 3, padding="same")(x)
        x = SparsePReLU(activation=function, name=f"{function}_{number}")(x)
    x = layers.ZeroPadding2D(1)(layers.BatchNormalization(beta_initializer="ones")(x))
    x = SparsePReLU(name="between")(layers.DepthwiseConv2D(3)(x))
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    for layer in model.layers:
        if isinstance(layer, SparsePReLU):
            layer.alpha.assign(np.arange(6) % 2 * (0.5 if layer.name == "between" else 1.0))
    collapsed = collapse(model, cost="macs")
    assert_same(quick_engine(collapsed, **fixed(quick_engine, batch_size=2)), model, (2, 8, 8, 3))


@pytest.mark.parametrize("kind", [LiteRT, once(OpenVINO)])
def test_every_form(kind):
    """The same in all forms that there are for it; those in ONNX stand with the forms."""
    names = ("relu", "relu6", "gelu", "silu", "hard_silu")
    model = every_form({name: BINARY[name] for name in names})
    assert_same(usable(kind)(model, **fixed(kind, batch_size=2)), model, (2, 4, 4, 3))


@pytest.mark.parametrize("kind", [ONNXRuntime, once(OpenVINO)])
@pytest.mark.parametrize("function", ["silu", "relu6", *map(once, ("gelu", "hard_silu", "relu"))])
def test_linear_units_by_factors(kind, function):
    """What is straight around 0 in Keras is straight there in an engine."""
    model = randomized(inverted_residuals(function), 0.5)
    network = usable(kind)(by_factors(model, kind.name))
    assert_same(network, model, (2, 11, 11, 4))


@pytest.mark.parametrize("function", ["silu", "relu6", *map(once, ("hard_silu", "hard_tanh"))])
def test_linear_units_by_factors_in_litert(function):
    """Where weights stay in float32. Bounds of -1 and 1 are part of the convolutions."""
    model = randomized(inverted_residuals(function), 0.5)
    network = usable(LiteRT)(by_factors(model, "litert", for_int8=False), batch_size=2)
    assert_same(network, model, (2, 11, 11, 4))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            tf.lite.experimental.Analyzer.analyze(model_content=network.content)
        made = re.findall(r"Op#\d+ (\w+)\(", said.getvalue())
        assert not {"MINIMUM", "RELU", "RELU6"} & set(made)
        assert made.count("MAXIMUM") == (4 if function == "relu6" else 0)


def test_bounds_are_one_operation_in_onnx():
    """Which is computed with the convolution before it."""
    onnx = pytest.importorskip("onnx")
    model = randomized(inverted_residuals("relu6"), 0.5)
    graph = onnx.load_from_string(usable(ONNXRuntime)(by_factors(model)).content).graph
    made = [node.op_type for node in graph.node]
    assert made.count("Clip") == 6
    assert not {"Max", "Min"} & set(made)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="Its converter copies what it is given."
)
def test_large_matrices_are_not_copied_by_the_converter(monkeypatch):
    """A table and two kernels, one of which is used twice; that of a sum of products stays."""
    tf2onnx = pytest.importorskip("tf2onnx")
    sizes = []
    convert = tf2onnx.convert.from_graph_def

    def counted(definition, **options):
        sizes.append(definition.ByteSize())
        return convert(definition, **options)

    monkeypatch.setattr(tf2onnx.convert, "from_graph_def", counted)
    inputs = keras.Input((4,), dtype="int32")
    x = layers.Embedding(700, 520)(inputs)
    shared = layers.Dense(520, activation="relu")
    x = layers.GlobalAveragePooling1D()(shared(shared(x)))
    model = keras.Model(inputs, [layers.Dense(600)(x), layers.EinsumDense("ab,cb->ac", 600)(x)])
    network = usable(ONNXRuntime)(model)
    # One matrix is what is left.
    assert 520 * 600 * 4 < sizes[0] < 520 * 600 * 4 + 50_000
    tokens = np.arange(8, dtype="int32").reshape(2, 4) * 99
    for right, received in zip(model(tokens), network(tokens), strict=True):
        np.testing.assert_allclose(received, right, rtol=0, atol=1e-5 * np.abs(right).max())


def test_one_unit_of_a_sequence(quick_engine):
    """A sum of tensors of shape (1, n, 1), which Keras writes as one with a bias on TensorFlow."""
    inputs = keras.Input((5, 4))
    x = layers.Dense(1)(inputs)
    model = keras.Model(inputs, layers.Dense(3)(layers.Add()([x, layers.Rescaling(0.5)(x)])))
    assert_same(quick_engine(model, batch_size=1), model, (1, 5, 4))


def test_several_inputs_and_free_sizes(engine):
    """Inputs that nothing depends on, of whole numbers, and in an order that is not theirs."""
    inputs = {
        "z": keras.Input((None, None, 3), name="z"),
        "a": keras.Input((4,), dtype="int32", name="a"),
        "unused": keras.Input((2,), name="unused"),
    }
    x = layers.Conv2D(5, 3, 2, padding="same")(inputs["z"])
    pooled = layers.GlobalMaxPooling2D()(layers.MaxPooling2D(3, 2, padding="same")(x))
    embedded = layers.GlobalAveragePooling1D()(layers.Embedding(9, 3)(inputs["a"]))
    model = keras.Model(inputs, {"second": pooled, "first": [embedded, 2 * pooled]})
    shapes = ((1, 9, 12), (3, 16, 10))
    sizes = fixed(engine, batch_size=3, size=16)
    if sizes:
        with pytest.raises(ValueError, match="free: this may need them fixed, with `size="):
            engine(model)
        shapes = ((3, 16, 16),)
    network = engine(model, **sizes)
    rng = np.random.default_rng(0)
    for samples, height, width in shapes:
        x = {
            "z": rng.normal(size=(samples, height, width, 3)).astype("float32"),
            "a": rng.integers(9, size=(samples, 4)),
            "unused": np.zeros((samples, 2)),
        }
        expected, received = model(x), network(x)
        assert received.keys() == expected.keys()
        keras.tree.map_structure(
            lambda right, other: np.testing.assert_allclose(
                other, keras.ops.convert_to_numpy(right), atol=1e-5
            ),
            expected,
            received,
        )
    with pytest.raises(ValueError, match=r"Input 'z' must be of shape .* Received: shape \(3, 4\)"):
        network({**x, "z": np.zeros((3, 4))})
    with pytest.raises(ValueError, match="must be 3 arrays"):
        network([x["z"]])


def test_arithmetic(quick_engine):
    """Of floats and whole numbers, by all names that functions have."""
    inputs, whole = keras.Input((4,), name="a"), keras.Input((4,), dtype="int32", name="b")
    names = ["add", "subtract", "multiply", "divide", "maximum", "minimum"]
    names += ["greater", "greater_equal", "less", "less_equal", "equal", "not_equal"]
    outputs = [2 * inputs, inputs - 1, 3 / inputs, inputs**2, abs(inputs), -inputs]
    for name in names:
        for other in (2, whole, keras.ops.flip(inputs, 1)):
            outputs.append(keras.ops.cast(getattr(keras.ops, name)(inputs, other), "float32"))
    model = keras.Model([inputs, whole], outputs)
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(3, 4)).astype("float32"), rng.integers(1, 3, size=(3, 4))]
    network = quick_engine(model, **fixed(quick_engine, batch_size=3))
    for right, other in zip(model(x), network(x), strict=True):
        np.testing.assert_allclose(other, keras.ops.convert_to_numpy(right), rtol=1e-6)


def test_what_converters_do_not_know_or_take_for_sizes(quick_engine):
    """Sizes that are in tensors on Torch, what TensorFlow compiles by itself, and others."""
    inputs = keras.Input((6, 6, 4))
    x = layers.Conv2D(6, 1, activity_regularizer="l2")(inputs)
    x = layers.ActivityRegularization(0.1)(x)
    first, second, third = keras.ops.split(x, [1, 3], axis=-1)
    sequence = layers.Reshape((36, 6))(x)
    outputs = [
        *(layers.Conv2D(2, 3)(part) for part in (first, second, third)),
        layers.Conv2D(2, 1)(keras.ops.take(x, [0, 2, 5], axis=-1)),
        layers.Conv2D(2, 1)(keras.ops.swapaxes(x, 1, 3)),
        keras.ops.squeeze(first, axis=-1),
        layers.Attention()([sequence, sequence]),
        layers.Conv2D(4, 3, groups=2)(x),
        keras.ops.roll(keras.ops.roll(x, (1, -2), axis=(1, 2)), 13, axis=1),
        keras.ops.cast(keras.ops.argmax(x, axis=-1), "float32"),
    ]
    model = keras.Model(inputs, outputs)
    regularizer = model.layers[1].activity_regularizer
    network = quick_engine(model, **fixed(quick_engine, batch_size=3))
    assert_same(network, model, (3, 6, 6, 4))
    assert model.layers[1].activity_regularizer is regularizer is not None


@pytest.mark.parametrize("is_masked", [False, True])
def test_recurrent_layers_on_any_number_of_samples(is_masked, quick_engine):
    inputs = keras.Input((5, 3))
    if is_masked:
        x = layers.Masking()(inputs)
        recurrent = [layers.SimpleRNN(4, return_sequences=True), layers.GRU(4, activation="relu")]
    else:
        x = inputs
        cells = [layers.GRUCell(3), layers.LSTMCell(4)]
        recurrent = [
            *(layers.SimpleRNN(4), layers.RNN(cells, return_sequences=True)),
            layers.Bidirectional(layers.SimpleRNN(2, activation="relu", return_sequences=True)),
        ]
    model = keras.Model(inputs, [layer(x) for layer in recurrent])
    network = quick_engine(model, **fixed(quick_engine, batch_size=4))
    x = np.random.default_rng(1).normal(size=(4, 5, 3)).astype("float32")
    x[1, 3:] = x[2, 1:] = 0
    for right, other in zip(model(x), network(x), strict=True):
        right = keras.ops.convert_to_numpy(right)
        np.testing.assert_allclose(other, right, rtol=0, atol=1e-5)
    assert not recurrent[0].unroll


def test_half_precision(quick_engine):
    policy = keras.DTypePolicy("mixed_bfloat16")
    model = keras.Sequential(
        [
            *(keras.Input((8,)), layers.Dense(16, activation="relu", dtype=policy)),
            layers.Dense(4, dtype="float32"),
        ]
    )
    try:
        network = quick_engine(model, **fixed(quick_engine, batch_size=3))
    except ValueError as error:
        # Not all that converters write can be run.
        assert "it may need float32 in all" in str(error)  # noqa: PT017
    else:
        assert_same(network, model, (3, 8), tolerance=2e-2)


@pytest.mark.once
def test_openvino_in_bfloat16():
    usable(OpenVINO)
    model = keras.Sequential([keras.Input((64,)), layers.Dense(64), layers.Dense(4)])
    for precision in ("bf16", None):
        assert_same(OpenVINO(model, precision=precision, verify=False), model, (2, 64), 2e-2)
    with pytest.raises(ValueError, match="`precision` must be"):
        OpenVINO(model, precision="int4")


def test_what_computes_something_else_is_refused(quick_engine, monkeypatch):
    """Of a converter that takes a size for a constant, say."""
    run = quick_engine.run
    monkeypatch.setattr(
        quick_engine, "run", lambda self, arrays: [1.1 * x for x in run(self, arrays)]
    )
    model = keras.Sequential([keras.Input((None, 8)), layers.Dense(16)])
    sizes = fixed(quick_engine, batch_size=3, size=4)
    advice = "" if sizes else r".*`size=\.\.\.`"
    with pytest.raises(ValueError, match=rf"differ by 0\.1 of the largest{advice}"):
        quick_engine(model, **sizes)


def test_what_cannot_be_converted_is_said(engine):
    inputs = keras.Input((4, 4))
    model = keras.Model(inputs, keras.ops.svd(inputs, compute_uv=False))
    with pytest.raises(ValueError, match=f"cannot be converted to {engine.name} from the backend"):
        engine(model)


def test_engines_are_engines():
    assert all(issubclass(engine, Engine) and engine.suffix for engine in ENGINES)
