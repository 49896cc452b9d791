"""A Keras model read as a graph of channels."""

from keras_nladv.graph.activation import Activation as Activation
from keras_nladv.graph.call import Call as Call
from keras_nladv.graph.path_length import activations as activations
from keras_nladv.graph.path_length import path_length as path_length
from keras_nladv.graph.report import NonlinearityReport as NonlinearityReport
from keras_nladv.graph.report import nonlinearity_report as nonlinearity_report
from keras_nladv.graph.rules import register_path_rule as register_path_rule
