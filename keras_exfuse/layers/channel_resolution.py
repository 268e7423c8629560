"""Explicit Channel Resolution Embedding: sub-pixel upsampling of the top score map."""

import keras

from keras_exfuse import _backend
from keras_exfuse.layers._arguments import check_positive


@keras.saving.register_keras_serializable(package="keras_exfuse")
class ChannelResolutionEmbedding(keras.layers.Layer):
    """Upsamples by a sub-pixel shuffle: a convolution to scale^2 times the channels, then depth to space.

    It stands for the first (top) deconvolution. The idea's other half is an auxiliary segmentation loss on
    its output (`keras_exfuse.losses.ExFuseLoss`); the paper's table 4 shows that both halves are needed.

    Args:
        filters: Positive int, the output channels (the paper: the classes).
        scale: Positive int, the upsampling factor.
        kernel_size: The expanding convolution's kernel, or `None` when the input already has
            `filters * scale**2` channels (a `GlobalConvolution` that emits them). Which convolution stands
            before the shuffle the paper does not say; 3 is our choice.
        kernel_initializer: Initializer of the kernel.

    Call arguments:
        inputs: A tensor (B, H, W, C).

    Returns:
        A tensor (B, scale * H, scale * W, filters).

    Raises:
        ValueError: If `kernel_size` is `None` and the input's channels do not fit.

    Source: ExFuse (arXiv 1804.03821), section 3.3, figure 2, table 4.

    Example:

    >>> import numpy as np, keras_exfuse
    >>> embed = keras_exfuse.layers.ChannelResolutionEmbedding(21)
    >>> tuple(embed(np.zeros((1, 16, 16, 21), "float32")).shape)
    (1, 32, 32, 21)
    """

    def __init__(self, filters, scale=2, kernel_size=3, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.filters = check_positive("filters", filters)
        self.scale = check_positive("scale", scale)
        self.kernel_size = None if kernel_size is None else check_positive("kernel_size", kernel_size)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.expansion = None
        if kernel_size is not None:
            self.expansion = keras.layers.Conv2D(
                filters * scale**2,
                kernel_size,
                padding="same",
                kernel_initializer=self.kernel_initializer.clone(),
                data_format="channels_last",
                dtype=self.dtype_policy,
                name="expansion",
            )

    def build(self, input_shape):
        expected = self.filters * self.scale**2
        if self.expansion is not None:
            self.expansion.build(input_shape)
        elif input_shape[-1] != expected:
            raise ValueError(
                f"Without an expanding convolution (kernel_size=None) the input must have filters * scale**2 "
                f"= {expected} channels. Received an input of shape {tuple(input_shape)}."
            )
        super().build(input_shape)

    def call(self, inputs):
        expanded = inputs if self.expansion is None else self.expansion(inputs)
        return _backend.depth_to_space(expanded, self.scale)

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        height, width = (None if size is None else size * self.scale for size in (height, width))
        return (batch, height, width, self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "scale": self.scale,
            "kernel_size": self.kernel_size,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
