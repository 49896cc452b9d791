"""Model in, model out: activations become linearizable."""

from keras_nladv.conversion.sparsify import sparsify as sparsify
from keras_nladv.conversion.sparsify_report import SparsifyReport as SparsifyReport
