from keras_nladv.regularizers.nonlinearity_sparsity import (
    NonlinearitySparsity as NonlinearitySparsity,
)
