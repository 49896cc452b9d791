"""Slopes while they are trained: which are pressed, which are frozen."""

from keras_nladv.slopes.freeze_linear_units import freeze_linear_units as freeze_linear_units
