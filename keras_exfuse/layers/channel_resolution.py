"""Explicit Channel Resolution Embedding: sub-pixel upsampling of the top score map."""

import keras
import numpy as np
from keras import ops

from keras_exfuse import _kernels
from keras_exfuse.layers._arguments import check_positive, copy_initializer


@keras.saving.register_keras_serializable(package="keras_exfuse")
class SubPixelBilinearInitializer(keras.initializers.Initializer):
    """Bilinear interpolation as the kernel (k, k, in, scale^2 * out) of a convolution before a shuffle.

    The convolution and the shuffle start as the upsampling that `BilinearInitializer` gives a deconvolution:
    output channel `o` interpolates input channel `o % in`.

    Args:
        scale: Positive int, the shuffle's factor.

    Example:
    >>> import keras_exfuse
    >>> kernel = keras_exfuse.layers.SubPixelBilinearInitializer(2)((3, 3, 1, 4))
    >>> [float(value) for value in kernel[1, :, 0, 0]]
    [0.1875, 0.5625, 0.0]
    """

    def __init__(self, scale=2):
        self.scale = check_positive("scale", scale)

    def __call__(self, shape, dtype=None):
        height, width, inputs, outputs = shape
        filters = outputs // self.scale**2
        rows, columns = _phases(height, self.scale), _phases(width, self.scale)
        kernel = np.zeros(shape, "float32")
        for channel in range(outputs):
            (row, column), output = divmod(channel // filters, self.scale), channel % filters
            kernel[:, :, output % inputs, channel] = np.outer(rows[row], columns[column])
        return ops.convert_to_tensor(kernel, dtype=dtype or keras.config.floatx())

    def get_config(self):
        return {"scale": self.scale}


def _phases(size, scale):
    """For each sub-pixel, the weights of linear interpolation over a kernel's taps; each sums to one."""
    taps = np.arange(size) - (size - 1) // 2
    places = (np.arange(scale) + 0.5) / scale - 0.5
    weights = np.clip(1 - np.abs(taps - places[:, None]), 0, None)
    return weights / weights.sum(axis=1, keepdims=True)


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
        kernel_initializer: Initializer of the kernel; by default `SubPixelBilinearInitializer`, so that the
            top level starts upsampled as smoothly as a bilinear deconvolution would. The paper does not say;
            our choice.

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

    def __init__(self, filters, scale=2, kernel_size=3, kernel_initializer=None, **kwargs):
        super().__init__(**kwargs)
        self.filters = check_positive("filters", filters)
        self.scale = check_positive("scale", scale)
        self.kernel_size = None if kernel_size is None else check_positive("kernel_size", kernel_size)
        self.kernel_initializer = keras.initializers.get(
            kernel_initializer or SubPixelBilinearInitializer(self.scale)
        )
        self.expansion = None
        if kernel_size is not None:
            self.expansion = _kernels.Conv2D(
                filters * scale**2,
                kernel_size,
                padding="same",
                kernel_initializer=copy_initializer(self.kernel_initializer),
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

    def call(self, inputs, training=None):
        expanded = inputs if self.expansion is None else self.expansion(inputs, training=training)
        return _kernels.depth_to_space(expanded, self.scale)

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
