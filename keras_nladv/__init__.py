"""Measure how much of a network's nonlinearity is needed, and remove the rest."""

from keras_nladv import tangent as tangent
from keras_nladv.callbacks import LinearizationSchedule as LinearizationSchedule
from keras_nladv.callbacks import PathLengthCallback as PathLengthCallback
from keras_nladv.callbacks import core_image as core_image
from keras_nladv.constraints import FixedMask as FixedMask
from keras_nladv.conversion import sparsify as sparsify
from keras_nladv.engines import milliseconds as milliseconds
from keras_nladv.engines import register_engine as register_engine
from keras_nladv.graph import nonlinearity_report as nonlinearity_report
from keras_nladv.graph import path_length as path_length
from keras_nladv.graph import register_path_rule as register_path_rule
from keras_nladv.layers import SparsePReLU as SparsePReLU
from keras_nladv.merging import CollapsePlan as CollapsePlan
from keras_nladv.merging import collapse as collapse
from keras_nladv.merging import collapse_plan as collapse_plan
from keras_nladv.merging import pressure_weights as pressure_weights
from keras_nladv.pruning import prune as prune
from keras_nladv.regularizers import NonlinearitySparsity as NonlinearitySparsity
from keras_nladv.slopes import freeze_linear_units as freeze_linear_units

__all__ = [
    "CollapsePlan",
    "FixedMask",
    "LinearizationSchedule",
    "NonlinearitySparsity",
    "PathLengthCallback",
    "SparsePReLU",
    "collapse",
    "collapse_plan",
    "core_image",
    "freeze_linear_units",
    "milliseconds",
    "nonlinearity_report",
    "path_length",
    "pressure_weights",
    "prune",
    "register_engine",
    "register_path_rule",
    "sparsify",
    "tangent",
]

__version__ = "0.2.0"
