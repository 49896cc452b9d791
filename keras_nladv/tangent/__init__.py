"""Derivatives with respect to the weights: kernels, and linearized training."""

from keras_nladv.tangent.derivatives import jvp as jvp
from keras_nladv.tangent.derivatives import vjp as vjp
