"""Masks on kernels: which weights stay, and models whose other weights stay zero."""

from keras_nladv.pruning.kernel import Kernel as Kernel
from keras_nladv.pruning.kernel import prunable as prunable
from keras_nladv.pruning.largest import largest as largest
from keras_nladv.pruning.masked import masked as masked
from keras_nladv.pruning.prune import prune as prune
