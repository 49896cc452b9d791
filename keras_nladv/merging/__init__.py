"""Linearizable model in, plain and faster model out, in four steps: read, plan, write, verify."""

from keras_nladv.merging.collapse import collapse as collapse
from keras_nladv.merging.collapse import collapse_plan as collapse_plan
from keras_nladv.merging.collapse_plan import CollapsePlan as CollapsePlan
from keras_nladv.merging.pressure import pressure_weights as pressure_weights
from keras_nladv.merging.pressure_weights import PressureWeights as PressureWeights
