"""The paper's parts as Keras layers, a file an idea, usable alone."""

from keras_exfuse.layers.batch_normalization import BatchNormalization
from keras_exfuse.layers.boundary_refinement import BoundaryRefinement
from keras_exfuse.layers.channel_resolution import ChannelResolutionEmbedding, SubPixelBilinearInitializer
from keras_exfuse.layers.convolution import Convolution
from keras_exfuse.layers.deconvolution import BilinearInitializer, Deconvolution
from keras_exfuse.layers.densely_adjacent import DenselyAdjacentDeconvolution, DenselyAdjacentPrediction
from keras_exfuse.layers.depthwise_convolution import DepthwiseConvolution
from keras_exfuse.layers.global_convolution import GlobalConvolution
from keras_exfuse.layers.grouped_convolution import GroupedConvolution
from keras_exfuse.layers.resize import BilinearResize, CropLike, PadToMultiple
from keras_exfuse.layers.semantic_embedding import SemanticEmbeddingBranch
from keras_exfuse.layers.semantic_supervision import SemanticSupervisionHead
from keras_exfuse.layers.wide_convolution import WideConvolution
from keras_exfuse.layers.winograd import TransformedConvolution

__all__ = [
    "BatchNormalization",
    "BilinearInitializer",
    "BilinearResize",
    "BoundaryRefinement",
    "ChannelResolutionEmbedding",
    "Convolution",
    "CropLike",
    "Deconvolution",
    "DenselyAdjacentDeconvolution",
    "DenselyAdjacentPrediction",
    "DepthwiseConvolution",
    "GlobalConvolution",
    "GroupedConvolution",
    "PadToMultiple",
    "SemanticEmbeddingBranch",
    "SemanticSupervisionHead",
    "SubPixelBilinearInitializer",
    "TransformedConvolution",
    "WideConvolution",
]
