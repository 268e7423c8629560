"""The decoder of figure 2: GCN scores of four levels, fused from the top down to the score map."""

import keras

from keras_exfuse import layers
from keras_exfuse._kernels import Conv2D
from keras_exfuse.layers.initializers import NormalKernel


class Decoder:
    """Makes the right half of figure 2 from its boxes.

    Args:
        config: The model's `ModelConfig`.
    """

    def __init__(self, config):
        self.config = config
        # Channels of a score map: one for each class, as in the paper, unless another number was asked for.
        self.score_channels = config.score_channels or config.num_classes
        self.classifier = None
        if config.score_channels:
            self.classifier = Conv2D(config.num_classes, 1, name="classifier")
        self.dap = config.densely_adjacent_prediction
        self.groups = config.window_size**2
        everywhere = self.dap and config.adjacent_channels == "all"
        self.channels = self.score_channels * (self.groups if everywhere else 1)
        small = config.decoder_init == "small"
        self.gcn_initializer = NormalKernel(0.01) if small else "glorot_uniform"
        self.expansion_initializer = None if small else "glorot_uniform"  # None: bilinear upsampling
        self.refinement_init = "identity" if small else "random"
        self.gcn_expands = config.channel_resolution_embedding and config.expansion == "global_convolution"

    def __call__(self, stages):
        """The backbone's four maps to the score map at the image's size, and ECRE's supervised map or None."""
        features = stages
        if self.config.semantic_embedding:
            features = [*(self._embed(stages, level) for level in (1, 2, 3)), stages[3]]
        scores = [self._global_convolution(feature, level) for level, feature in enumerate(features, start=1)]
        return self._fuse(scores)

    def _embed(self, stages, level):
        """SEB of one level: its own stage, gated by every higher one."""
        branch = layers.SemanticEmbeddingBranch(
            normalization=self.config.embedding_normalization,
            init=self.config.embedding_init,
            scaled=self.config.embedding_scaled,
            convolution=self.config.embedding_convolution,
            name=f"semantic_embedding_{level}",
        )
        return branch(stages[level - 1 :])

    def _global_convolution(self, feature, level):
        """GCN and, behind it, boundary refinement."""
        expands = level == 4 and self.gcn_expands
        filters = self.channels * (4 if expands else 1)
        score = layers.GlobalConvolution(
            filters,
            self.config.kernel_sizes[level - 1],
            kernel_initializer=self.gcn_initializer,
            name=f"global_convolution_{level}",
        )(feature)
        # A GCN that feeds the shuffle is refined behind it, at the decoder's own channels.
        return score if expands else self._refine(score, f"refine_level_{level}")

    def _fuse(self, scores):
        """Score maps of levels 1..4 to the score map at the image's size, and ECRE's supervised map."""
        level_1, level_2, level_3, level_4 = scores
        top, supervised = self._top(level_4)
        fused = self._refine(keras.layers.Add(name="add_level_3")([top, level_3]), "refine_sum_3")
        fused = self._deconvolution(fused, "deconvolution_8")
        fused = self._refine(keras.layers.Add(name="add_level_2")([fused, level_2]), "refine_sum_2")
        fused = self._deconvolution(fused, "deconvolution_4")
        fused = self._refine(keras.layers.Add(name="add_level_1")([fused, level_1]), "refine_sum_1")
        fused = self._refine(self._deconvolution(fused, "deconvolution_2"), "refine_2")
        return self._classified(self._last(fused)), supervised

    def _top(self, score):
        if not self.config.channel_resolution_embedding:
            return self._deconvolution(score, "deconvolution_16"), None
        kernel_size = None if self.gcn_expands else 3
        embed = layers.ChannelResolutionEmbedding(
            self.channels,
            kernel_size=kernel_size,
            kernel_initializer=self.expansion_initializer,
            name="channel_resolution_embedding",
        )
        top = embed(score)
        if self.gcn_expands:
            top = self._refine(top, "refine_level_4")
        supervised = top
        if self.channels != self.score_channels:
            supervised = self._average(top, padding="same", name="adjacent_prediction_16")
        float32 = keras.layers.Activation("linear", dtype="float32", name="channel_resolution")
        return top, float32(self._classified(supervised))

    def _classified(self, score):
        return score if self.classifier is None else self.classifier(score)

    def _last(self, score):
        """The last deconvolution, DAP and boundary refinement, in the chosen order."""
        kernel_size = self.config.deconvolution_kernel_size
        if not self.dap:
            return self._refine(self._deconvolution(score, "deconvolution_1"), "refine_1")
        if self.config.refinement == "after":
            score = layers.DenselyAdjacentDeconvolution(
                self.score_channels, self.config.window_size, kernel_size, name="adjacent_deconvolution_1"
            )(score)
            return self._refine(score, "refine_1")
        # Not cropped, so that `valid` DAP finds every neighbor of a border pixel, also beyond the border.
        channels = self.score_channels * self.groups
        score = layers.Deconvolution(channels, kernel_size, crop=False, name="deconvolution_1")(score)
        groups = self.groups if self.config.refinement == "before_grouped" else 1
        score = self._refine(score, "refine_1", groups)
        spare = (kernel_size - 2) // 2 - self.config.window_size // 2
        if spare:
            score = keras.layers.Cropping2D(spare, data_format="channels_last", name="crop_margin")(score)
        return self._average(score, padding="valid", name="adjacent_prediction_1")

    def _average(self, score, padding, name):
        return layers.DenselyAdjacentPrediction(
            self.score_channels, self.config.window_size, padding=padding, name=name
        )(score)

    def _refine(self, score, name, groups=1):
        return layers.BoundaryRefinement(groups, self.refinement_init, name=name)(score)

    def _deconvolution(self, score, name):
        kernel_size = self.config.deconvolution_kernel_size
        return layers.Deconvolution(self.channels, kernel_size, name=name)(score)
