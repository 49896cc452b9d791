"""Layers of which it is known what they multiply their variables with."""

from keras import layers

from keras_nladv.layers import SparsePReLU
from keras_nladv.tangent.structures.convolution import ConvolutionStructure
from keras_nladv.tangent.structures.dense import DenseStructure
from keras_nladv.tangent.structures.embedding import EmbeddingStructure
from keras_nladv.tangent.structures.pointwise import PointwiseStructure
from keras_nladv.tangent.structures.structure import Structure as Structure

# Types, and not their subclasses, which may compute something else.
STRUCTURES: dict[type, type[Structure]] = {
    layers.Dense: DenseStructure,
    layers.EinsumDense: DenseStructure,
    layers.Conv1D: ConvolutionStructure,
    layers.Conv2D: ConvolutionStructure,
    layers.Conv3D: ConvolutionStructure,
    layers.DepthwiseConv1D: ConvolutionStructure,
    layers.DepthwiseConv2D: ConvolutionStructure,
    layers.Embedding: EmbeddingStructure,
    layers.BatchNormalization: PointwiseStructure,
    layers.GroupNormalization: PointwiseStructure,
    layers.LayerNormalization: PointwiseStructure,
    layers.RMSNormalization: PointwiseStructure,
    layers.PReLU: PointwiseStructure,
    SparsePReLU: PointwiseStructure,
}
