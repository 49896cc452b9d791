"""Model in, model out: activations become linearizable, what is linear is merged away."""

from keras_nladv.surgery.sparsify import sparsify as sparsify
from keras_nladv.surgery.sparsify_report import SparsifyReport as SparsifyReport
