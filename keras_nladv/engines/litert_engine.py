from typing import ClassVar

from keras_nladv.engines.engine import Engine
from keras_nladv.engines.quiet import quiet
from keras_nladv.engines.tensorflow_graph import tensorflow_graph

# The largest difference from Keras that is taken for rounding, where weights are in int8.
IN_INT8 = 0.1


class LiteRT(Engine):
    """LiteRT, once TensorFlow Lite, on the CPU. Its files are `.tflite`.

    Args:
        dynamic_range: Whether weights are quantized to int8, and what they are multiplied with
            while it runs. Outputs may then differ from those of Keras by a tenth of the largest.
    """

    name = "litert"
    packages: ClassVar = {"tensorflow": ("ai_edge_litert",)}
    extra = "litert"
    suffix = ".tflite"

    def __init__(self, model, *, dynamic_range=False, **kwargs):
        self.dynamic_range = dynamic_range
        if dynamic_range:
            self.tolerance = IN_INT8
        super().__init__(model, **kwargs)

    def convert(self, model):
        import tensorflow as tf
        from ai_edge_litert.interpreter import Interpreter

        with quiet("tensorflow", "absl"):
            function = tensorflow_graph(model, self.inputs)
            converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
            if self.dynamic_range:
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            self.content = converter.convert()
        self._interpreter = Interpreter(model_content=self.content, num_threads=self.threads)
        # What the outputs do not depend on is no input of the file.
        self._indices = {x["name"]: x["index"] for x in self._interpreter.get_input_details()}
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
