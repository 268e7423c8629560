"""The paper's parts as Keras layers, one idea per module, usable alone."""

from keras_exfuse.layers.boundary_refinement import BoundaryRefinement
from keras_exfuse.layers.channel_resolution import ChannelResolutionEmbedding, SubPixelBilinearInitializer
from keras_exfuse.layers.deconvolution import BilinearInitializer, Deconvolution
from keras_exfuse.layers.densely_adjacent import DenselyAdjacentDeconvolution, DenselyAdjacentPrediction
from keras_exfuse.layers.global_convolution import GlobalConvolution
from keras_exfuse.layers.resize import BilinearResize, CropLike, PadToMultiple
from keras_exfuse.layers.semantic_embedding import SemanticEmbeddingBranch
from keras_exfuse.layers.semantic_supervision import SemanticSupervisionHead

__all__ = [
    "BilinearInitializer",
    "BilinearResize",
    "BoundaryRefinement",
    "ChannelResolutionEmbedding",
    "CropLike",
    "Deconvolution",
    "DenselyAdjacentDeconvolution",
    "DenselyAdjacentPrediction",
    "GlobalConvolution",
    "PadToMultiple",
    "SemanticEmbeddingBranch",
    "SemanticSupervisionHead",
    "SubPixelBilinearInitializer",
]
