import gc
from collections import defaultdict
from typing import ClassVar

import keras
import numpy as np

from keras_nladv.engines.engine import Engine
from keras_nladv.engines.quiet import quiet
from keras_nladv.engines.tensorflow_graph import tensorflow_graph
from keras_nladv.engines.torch_module import torch_module

OPSET = 18
# Bytes from which weights are large, and what reads those that may be inputs of a graph.
LARGE = 2**20
READERS = {"MatMul", "GatherV2"}


class ONNXRuntime(Engine):
    """ONNX Runtime, on the CPU. Its files are ONNX."""

    name = "onnxruntime"
    packages: ClassVar = {
        "tensorflow": ("onnxruntime", "tf2onnx"),
        "torch": ("onnxruntime", "onnxscript"),
    }
    extra = "onnxruntime"
    suffix = ".onnx"
    # Channels in blocks of 8 or 16, by the processor; convolutions with others are much slower.
    multiple = 16
    # For a bound or a choice its blocks are taken apart, not for convolutions and sums.
    forms = (
        *("scaled", "shifted", "hard_shifted", "apart", "maximum", "clip", "prelu", "sum", "where"),
        "gate",
    )
    forms_at_one_position = ("scaled", "maximum", "clip", "gate", "where")

    def convert(self, model):
        import onnxruntime

        convert = _from_torch if keras.backend.backend() == "torch" else _from_tensorflow
        self.content = convert(model, self.inputs).SerializeToString()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        # Errors only: it warns of what it leaves out of a graph.
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            self.content, options, providers=["CPUExecutionProvider"]
        )
        # What the outputs do not depend on is no input of the file.
        self._names = {each.name for each in self._session.get_inputs()}

    def run(self, arrays):
        feed = {s.name: x for s, x in zip(self.inputs, arrays) if s.name in self._names}
        return self._session.run(None, feed)

    def write(self, path):
        path.write_bytes(self.content)


def _from_torch(model, specs):
    import torch

    module, samples = torch_module(model, specs)
    free = [
        {i: torch.export.Dim.DYNAMIC for i, n in enumerate(spec.shape) if n is None}
        for spec in specs
    ]
    with quiet("torch.onnx"), torch.no_grad():
        program = torch.onnx.export(
            module,
            samples,
            input_names=[spec.name for spec in specs],
            output_names=[f"output_{i}" for i in range(len(model.outputs))],
            dynamic_shapes={"inputs": tuple(free)} if any(free) else None,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        program.optimize()
    return program.model_proto


def _from_tensorflow(model, specs):
    import onnx
    import tf2onnx

    function = tensorflow_graph(model, specs)
    names = [[x.name for x in tensors] for tensors in (function.inputs, function.outputs)]
    definition = function.graph.as_graph_def()
    weights = _taken_out(definition)
    readable = [spec.name for spec in specs], [f"output_{i}" for i in range(len(names[1]))]
    with quiet("tf2onnx", "tensorflow"):
        proto, _ = tf2onnx.convert.from_graph_def(
            definition,
            input_names=[*names[0], *weights],
            output_names=names[1],
            opset=OPSET,
            custom_op_handlers={
                "Erfc": (_erfc, []),
                "Expm1": (_expm1, []),
                "Maximum": (_maximum, []),
            },
            tensors_to_rename=dict(zip([*names[0], *names[1]], [*readable[0], *readable[1]])),
        )
    inputs = [each for each in proto.graph.input if each.name not in weights]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    for name, array in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    if proto.ByteSize() > LARGE:
        # What the converter leaves refers to itself, and holds its copies of the other weights.
        gc.collect()
    return proto


def _taken_out(definition):
    """Takes large matrices out of a graph, which gets inputs in their place.

    The converter copies what is in a graph with each of its optimizations, some forty times, and
    keeps the copies until it is done: 100 MB of weights take 4 GB. Kernels of convolutions stay,
    which it transposes.

    Returns:
        Dict from names of tensors to arrays.
    """
    import tensorflow as tf

    readers = defaultdict(list)
    for node in definition.node:
        for name in node.input:
            readers[name].append(node)

    def operations(name):
        for reader in readers[name]:
            if reader.op == "Identity":
                yield from operations(reader.name)
            else:
                yield reader.op

    taken = {}
    for node in definition.node:
        value = node.attr["value"].tensor if node.op == "Const" else None
        if value is None or value.dtype != tf.float32 or len(value.tensor_content) < LARGE:
            continue
        found = set(operations(node.name))
        if found and found <= READERS:
            taken[f"{node.name}:0"] = tf.make_ndarray(value)
            node.op = "Placeholder"
            node.attr["shape"].shape.CopyFrom(value.tensor_shape)
            del node.attr["value"]
    return taken


def _erfc(graph, node, name, args):
    """Writes what ONNX has no operation for: 1 - erf(x), which is in GELU."""
    _difference(graph, node, name, "Erf", is_one_first=True)


def _expm1(graph, node, name, args):
    """The same for exp(x) - 1."""
    _difference(graph, node, name, "Exp", is_one_first=False)


def _difference(graph, node, name, operation, is_one_first):
    import tf2onnx

    (inputs,), (output,) = node.input, node.output
    shape, dtype = graph.get_shape(output), graph.get_dtype(output)
    graph.remove_node(node.name)
    one = graph.make_const(
        f"{name}_one", np.array(1, tf2onnx.utils.map_onnx_to_numpy_type(dtype))
    ).output[0]
    value = graph.make_node(operation, [inputs], shapes=[shape], dtypes=[dtype]).output[0]
    operands = [one, value] if is_one_first else [value, one]
    graph.make_node("Sub", operands, outputs=[output], name=name, shapes=[shape], dtypes=[dtype])


def _maximum(graph, node, name, args):
    """Writes two bounds for all numbers as one operation, which is computed with a convolution."""
    bounded = node.inputs[0]
    (output,) = node.output
    shape, dtype = graph.get_shape(output), graph.get_dtype(output)
    inputs, operation = node.input, "Max"
    if bounded.type in ("Minimum", "Min"):
        bounds = node.input[1], bounded.input[1]
        constants = node.inputs[1], bounded.inputs[1]
        if all(x.is_const() and graph.get_shape(y) == [] for x, y in zip(constants, bounds)):
            inputs, operation = [bounded.input[0], *bounds], "Clip"
    graph.remove_node(node.name)
    graph.make_node(operation, inputs, outputs=[output], name=name, shapes=[shape], dtypes=[dtype])
