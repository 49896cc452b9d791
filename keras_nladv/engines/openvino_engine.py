import functools
from typing import ClassVar

import keras

from keras_nladv.engines.engine import Engine
from keras_nladv.engines.quiet import quiet
from keras_nladv.engines.tensorflow_graph import tensorflow_graph
from keras_nladv.engines.torch_module import torch_module
from keras_nladv.engines.unrolled import unrolled


class OpenVINO(Engine):
    """OpenVINO, on the CPU. Its files are `.xml`, with the weights in a `.bin` beside each.

    Args:
        precision: What it computes in: `"f32"`, as Keras does; `"bf16"`, `"f16"`; or `None` for
            what it takes by itself, which is bfloat16 on processors that are made for it. The file
            is the same; where it runs this is said by `INFERENCE_PRECISION_HINT`.
    """

    name = "openvino"
    packages: ClassVar = {"tensorflow": ("openvino",), "torch": ("openvino",)}
    extra = "openvino"
    suffix = ".xml"
    others = (".bin",)
    forms = ("scaled", *Engine.forms)
    forms_at_one_position = ("scaled", "maximum", "clip", "gate", "where")

    def __init__(self, model, *, precision="f32", **kwargs):
        if precision not in ("f32", "bf16", "f16", None):
            raise ValueError(
                '`precision` must be "f32", "bf16", "f16" or None. Received: '
                f"precision={precision!r}"
            )
        self.precision = precision
        super().__init__(model, **kwargs)

    def convert(self, model):
        convert = _from_torch if keras.backend.backend() == "torch" else _from_tensorflow
        with quiet("openvino"):
            self._network = convert(model, self.inputs)
        config = {
            "INFERENCE_NUM_THREADS": self.threads,
            "PERFORMANCE_HINT": "LATENCY",
            # A thread that may run on one core only waits for it while others are idle.
            "ENABLE_CPU_PINNING": False,
        }
        if self.precision is not None:
            config["INFERENCE_PRECISION_HINT"] = self.precision
        compiled = _core().compile_model(self._network, "CPU", config)
        self._request = compiled.create_infer_request()

    def run(self, arrays):
        feed = {spec.name: array for spec, array in zip(self.inputs, arrays)}
        return list(self._request.infer(feed).to_tuple())

    def write(self, path):
        import openvino

        openvino.save_model(self._network, path, compress_to_fp16=False)


@functools.cache
def _core():
    import openvino

    return openvino.Core()


def _from_tensorflow(model, specs):
    import openvino

    with unrolled(model, specs):
        graph = tensorflow_graph(model, specs)
    network = openvino.convert_model(graph.graph)
    # Inputs that nothing depends on have become outputs, too.
    outputs = [network.output(f"output_{i}:0") for i in range(len(graph.outputs))]
    inputs = [network.input(tensor.name).get_node() for tensor in graph.inputs]
    return _named(openvino.Model(outputs, inputs), specs)


def _from_torch(model, specs):
    import openvino
    import torch

    module, samples = torch_module(model, specs)
    with torch.no_grad():
        traced = torch.jit.trace(module, samples, check_trace=False)
    shapes = [tuple(-1 if n is None else n for n in spec.shape) for spec in specs]
    return _named(openvino.convert_model(traced, input=shapes), specs)


def _named(network, specs):
    """Names inputs and outputs as in the other engines' files. Returns the network."""
    for port, spec in zip(network.inputs, specs, strict=True):
        port.get_node().set_friendly_name(spec.name)
        port.tensor.set_names({spec.name})
    for number, port in enumerate(network.outputs):
        port.tensor.set_names({f"output_{number}"})
    return network
