"""Model in, model out: activations become linearizable, what is linear is merged away."""

from keras_nladv.surgery.collapse import collapse as collapse
from keras_nladv.surgery.collapse import collapse_plan as collapse_plan
from keras_nladv.surgery.collapse_plan import CollapsePlan as CollapsePlan
from keras_nladv.surgery.sparsify import sparsify as sparsify
from keras_nladv.surgery.sparsify_report import SparsifyReport as SparsifyReport
