from keras_nladv.layers.sparse_prelu import SparsePReLU as SparsePReLU
