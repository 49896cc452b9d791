"""Where networks run: made from a Keras model, called on a batch, timed."""

from keras_nladv.engines.engine import Engine as Engine
from keras_nladv.engines.keras_engine import Keras as Keras
from keras_nladv.engines.litert_engine import LiteRT as LiteRT
from keras_nladv.engines.milliseconds import milliseconds as milliseconds
from keras_nladv.engines.onnxruntime_engine import ONNXRuntime as ONNXRuntime
from keras_nladv.engines.openvino_engine import OpenVINO as OpenVINO
from keras_nladv.engines.registry import find_engine as find_engine
from keras_nladv.engines.registry import register_engine as register_engine
from keras_nladv.engines.timings import Timings as Timings
