"""Semantic Embedding Branch: high-level features gate low-level ones."""

import keras

from keras_exfuse.layers._arguments import check_init
from keras_exfuse.layers.batch_normalization import BatchNormalization
from keras_exfuse.layers.resize import BilinearResize
from keras_exfuse.layers.wide_convolution import WideConvolution
from keras_exfuse.layers.winograd import LEAST_PRODUCTS, TransformedConvolution


@keras.saving.register_keras_serializable(package="keras_exfuse")
class SemanticEmbeddingBranch(keras.layers.Layer):
    """Multiplies a low-level map by every higher level: y = low * product_i Up(Conv3x3_i(high_i)).

    One convolution for each higher level, to as many channels as the low map, first the convolution and
    then the bilinear upsampling.

    Args:
        normalization: Whether batch normalisation follows each convolution. The paper does not say; ours
            is off by default.
        init: `"identity"` (factor one, so that the branch first passes the low map on unchanged and
            pre-trained features stay alive: kernels are zero, or, under normalisation, its scales) or
            `"random"` (the kernels' initializer, biases zero: the product of small numbers starts near
            zero). The paper does not say; our choice.
        transformed: Whether wide convolutions hold their kernels transformed, which is faster, for inference only:
            `keras_exfuse.fuse_for_inference` sets it.
        kernel_initializer: Initializer of the kernels, unless they start at zero.

    Call arguments:
        inputs: `[low, *highs]`: tensors (B, H, W, C), (B, H', W', C'), ..., at least two.

    Returns:
        A tensor (B, H, W, C).

    Raises:
        ValueError: If fewer than two maps come, `init` is unknown, or `transformed` goes with `normalization`.

    Source: ExFuse (arXiv 1804.03821), section 3.2, figure 4.

    Example:

    >>> import numpy as np, keras_exfuse
    >>> branch = keras_exfuse.layers.SemanticEmbeddingBranch()
    >>> low, high = np.ones((1, 8, 8, 16), "float32"), np.ones((1, 4, 4, 32), "float32")
    >>> tuple(branch([low, high]).shape)
    (1, 8, 8, 16)
    """

    def __init__(
        self,
        normalization=False,
        init="identity",
        transformed=False,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if normalization and transformed:
            raise ValueError("`transformed` is for inference, where `normalization` is part of the kernels.")
        self.normalization = normalization
        self.transformed = transformed
        self.init = check_init(init)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.resize = BilinearResize(dtype=self.dtype_policy, name="resize")

    def build(self, input_shape):
        low, *highs = _check_maps(input_shape)
        self.convolutions, self.normalizations = [], []
        for index, high in enumerate(highs, start=1):
            convolution = self._convolution(high[-1], low[-1], f"convolution_{index}")
            convolution.build(high)
            self.convolutions.append(convolution)
            if self.normalization:
                normalization = self._normalization(f"normalization_{index}")
                normalization.build((*high[:3], low[-1]))
                self.normalizations.append(normalization)
        super().build(input_shape)

    def _convolution(self, channels, filters, name):
        if self.transformed and channels * filters >= LEAST_PRODUCTS:
            return TransformedConvolution(filters, dtype=self.dtype_policy, name=name)
        # Under normalisation the kernels' size does not matter: the identity is its scales' business.
        identity = self.init == "identity" and not self.normalization
        return WideConvolution(
            filters,
            use_bias=not self.normalization,
            kernel_initializer="zeros" if identity else self.kernel_initializer.clone(),
            bias_initializer="ones" if identity else "zeros",
            dtype=self.dtype_policy,
            name=name,
        )

    def _normalization(self, name):
        # Scales grow from zero by the learning rate at most, whatever the number of inputs; without them
        # Adam's first step moves a factor by the learning rate times the sum of thousands of features.
        scale, shift = ("zeros", "ones") if self.init == "identity" else ("ones", "zeros")
        return BatchNormalization(
            gamma_initializer=scale, beta_initializer=shift, dtype=self.dtype_policy, name=name
        )

    def call(self, inputs, training=None):
        low, *highs = inputs
        embedded = low
        for index, high in enumerate(highs):
            factor = self.convolutions[index](high, training=training)
            if self.normalization:
                factor = self.normalizations[index](factor, training=training)
            embedded = embedded * self.resize([factor, low])
        return embedded

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[0])

    def get_config(self):
        return {
            **super().get_config(),
            "normalization": self.normalization,
            "init": self.init,
            "transformed": self.transformed,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _check_maps(shapes):
    if not isinstance(shapes, (list, tuple)) or len(shapes) < 2 or not isinstance(shapes[0], (list, tuple)):
        raise ValueError(
            "SemanticEmbeddingBranch is called on a list [low, *highs] of at least two maps. "
            f"Received an input of shape {shapes}."
        )
    return shapes
