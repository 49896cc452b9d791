import contextlib
import io
from typing import ClassVar

import keras

from keras_nladv._common.arguments import flag
from keras_nladv.engines.engine import Engine
from keras_nladv.engines.quiet import quiet
from keras_nladv.engines.tensorflow_graph import tensorflow_graph
from keras_nladv.engines.torch_module import torch_module
from keras_nladv.engines.unrolled import unrolled

# The largest difference from Keras that is taken for rounding, where weights are in int8.
IN_INT8 = 0.1


class LiteRT(Engine):
    """LiteRT, once TensorFlow Lite, on the CPU. Its files are `.tflite`.

    From Torch, all sizes have to be fixed, that of the batch too.

    Args:
        dynamic_range: Whether weights are quantized to int8, and what they are multiplied with
            while it runs. Outputs may then differ from those of Keras by a tenth of the largest.
    """

    name = "litert"
    packages: ClassVar = {
        "tensorflow": ("ai_edge_litert",),
        "torch": ("ai_edge_litert", "litert_torch"),
    }
    extra: ClassVar = {"tensorflow": "litert", "torch": "litert-torch"}
    suffix = ".tflite"
    # It clips what a convolution puts out at once, and has no other function for that. Its networks
    # often run in int8 or float16, without anybody's asking on GPUs.
    forms = (
        *("maximum", "clip", "prelu", "hard_shifted", "gate", "apart", "sum", "where", "shifted"),
    )
    forms_in_float32 = ("centered", "bounded", "maximum", "clip", "prelu", "scaled", *forms)

    def __init__(self, model, *, dynamic_range=False, **kwargs):
        self.dynamic_range = flag("dynamic_range", dynamic_range)
        if self.dynamic_range:
            self.tolerance = IN_INT8
        super().__init__(model, **kwargs)

    def convert(self, model):
        from ai_edge_litert.interpreter import Interpreter

        convert = _from_torch if keras.backend.backend() == "torch" else _from_tensorflow
        self.content, names = convert(model, self.inputs, self.dynamic_range)
        self._interpreter = Interpreter(model_content=self.content, num_threads=self.threads)
        # What the outputs do not depend on is no input of the file.
        indices = {x["name"]: x["index"] for x in self._interpreter.get_input_details()}
        self._indices = {
            spec.name: indices[name] for spec, name in zip(self.inputs, names) if name in indices
        }
        self._outputs_at = [x["index"] for x in self._interpreter.get_output_details()]
        self._shapes: list[tuple[int, ...]] = []

    def run(self, arrays):
        interpreter = self._interpreter
        feed = [
            (self._indices[spec.name], array)
            for spec, array in zip(self.inputs, arrays)
            if spec.name in self._indices
        ]
        shapes = [array.shape for _, array in feed]
        if shapes != self._shapes:
            for index, array in feed:
                interpreter.resize_tensor_input(index, array.shape)
            interpreter.allocate_tensors()
            self._shapes = shapes
        for index, array in feed:
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in self._outputs_at]

    def write(self, path):
        path.write_bytes(self.content)

    def _advice(self, model):
        if not self.dynamic_range:
            return super()._advice(model)
        return " What `collapse` has made is for int8 if it was told so: `for_int8=True`."


def _from_tensorflow(model, specs, dynamic_range):
    """The content of a file, and what each input is called there."""
    import tensorflow as tf

    # In loops it needs the number of samples.
    is_free = any(spec.shape[0] is None for spec in specs)
    with quiet("tensorflow", "absl"):
        with unrolled(model, specs) if is_free else contextlib.nullcontext():
            function = tensorflow_graph(model, specs)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
        if dynamic_range:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        return converter.convert(), [spec.name for spec in specs]


def _from_torch(model, specs, dynamic_range):
    """The same from Torch."""
    import torch

    if any(None in spec.shape for spec in specs):
        # It makes files for any size, too, but what is reshaped in them keeps that of the sample.
        raise ValueError(
            "From Torch, LiteRT needs the sizes of all inputs. Received: shapes "
            f"{', '.join(str(spec.shape) for spec in specs)}"
        )
    module, samples = torch_module(model, specs)
    # They print how far they are.
    with contextlib.redirect_stdout(io.StringIO()), quiet("litert_torch", "torch", "absl"):
        import litert_torch

        with torch.no_grad():
            content = litert_torch.convert(module, samples).model_content()
        if dynamic_range:
            from ai_edge_quantizer import quantizer, recipe

            quantized = quantizer.Quantizer(content, recipe.dynamic_wi8_afp32()).quantize()
            content = bytes(quantized.quantized_model)
    return content, [f"serving_default_args_{i}" for i in range(len(specs))]
