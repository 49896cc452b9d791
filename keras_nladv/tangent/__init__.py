"""Derivatives with respect to the weights: kernels, and linearized training."""

from keras_nladv.tangent.derivatives import jvp as jvp
from keras_nladv.tangent.derivatives import vjp as vjp
from keras_nladv.tangent.empirical_ntk import empirical_ntk as empirical_ntk
from keras_nladv.tangent.iterative_linearization import (
    IterativeLinearization as IterativeLinearization,
)
from keras_nladv.tangent.kernel_distance import kernel_distance as kernel_distance
from keras_nladv.tangent.kernel_distance import kernel_velocity as kernel_velocity
from keras_nladv.tangent.linearized_model import LinearizedModel as LinearizedModel
from keras_nladv.tangent.neural_tangent_transfer import (
    NeuralTangentTransfer as NeuralTangentTransfer,
)
from keras_nladv.tangent.ntk_callback import NTKCallback as NTKCallback
from keras_nladv.tangent.ntk_estimate import NTKEstimate as NTKEstimate
from keras_nladv.tangent.ntk_estimate import estimate_ntk as estimate_ntk
from keras_nladv.tangent.ntk_vector_product import ntk_vector_product as ntk_vector_product
from keras_nladv.tangent.snip import snip as snip
from keras_nladv.tangent.synflow import synflow as synflow
