"""Learned upsampling: a stride-2 transposed convolution that starts as bilinear interpolation."""

import keras
import numpy as np
from keras import ops

from keras_exfuse._kernels import transposed_convolution
from keras_exfuse.layers._arguments import check_positive


@keras.saving.register_keras_serializable(package="keras_exfuse")
class BilinearInitializer(keras.initializers.Initializer):
    """Bilinear interpolation as the kernel (k, k, out, in) of a stride-2 transposed convolution.

    Output channel `o` interpolates input channel `o % in`, so that 189 outputs over 21 inputs start as nine
    copies of the 21 upsampled classes.

    Example:
    >>> import keras_exfuse
    >>> kernel = keras_exfuse.layers.BilinearInitializer()((4, 4, 1, 1))
    >>> [float(value) for value in kernel[1, :, 0, 0]]
    [0.1875, 0.5625, 0.5625, 0.1875]
    """

    def __call__(self, shape, dtype=None):
        height, width, outputs, inputs = shape
        plane = np.outer(_triangle(height), _triangle(width))
        kernel = np.zeros(shape, "float32")
        for output in range(outputs):
            kernel[:, :, output, output % inputs] = plane
        return ops.convert_to_tensor(kernel, dtype=dtype or keras.config.floatx())

    def get_config(self):
        return {}


def _triangle(size):
    """Weights of linear interpolation by 2, normalized so that each phase sums to one."""
    weights = 1.0 - np.abs(np.arange(size) - (size - 1) / 2) / 2
    weights = np.clip(weights, 0.0, None)
    for phase in (0, 1):
        total = weights[phase::2].sum()
        weights[phase::2] /= total if total else 1.0
    return weights


def check_deconvolution_kernel(name: str, value: int) -> int:
    """Return an even kernel size of a stride-2 deconvolution, or raise a `ValueError`."""
    value = check_positive(name, value)
    if value % 2:
        raise ValueError(
            f"`{name}` must be even, so that a stride-2 deconvolution doubles the size symmetrically. "
            f"Received: {name}={value}. Use {value - 1 or 2} or {value + 1}."
        )
    return value


@keras.saving.register_keras_serializable(package="keras_exfuse")
class Deconvolution(keras.layers.Layer):
    """Doubles height and width by a transposed convolution of stride 2.

    Args:
        filters: Positive int, the output channels.
        kernel_size: Even int. The paper does not say; 4 is the common reading and ours.
        crop: Whether the output is cut to exactly twice the input. Without, it keeps
            `(kernel_size - 2) / 2` more pixels on each side, for a densely adjacent prediction with
            `padding="valid"` behind it.
        kernel_initializer: Initializer of the kernel; bilinear interpolation is our choice.

    Call arguments:
        inputs: A tensor (B, H, W, C).

    Returns:
        A tensor (B, 2 * H, 2 * W, filters), or (B, 2 * H + kernel_size - 2, ..., filters) without `crop`.

    Raises:
        ValueError: If `kernel_size` is odd.

    Source: ExFuse, figure 2; GCN (arXiv 1703.02719), section 3.2: deconvolution layers, sizes not given.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> tuple(keras_exfuse.layers.Deconvolution(21)(np.zeros((1, 8, 8, 21), "float32")).shape)
    (1, 16, 16, 21)
    """

    def __init__(self, filters, kernel_size=4, crop=True, kernel_initializer=None, **kwargs):
        super().__init__(**kwargs)
        self.filters = check_positive("filters", filters)
        self.kernel_size = check_deconvolution_kernel("kernel_size", kernel_size)
        self.crop = crop
        self.kernel_initializer = keras.initializers.get(kernel_initializer or BilinearInitializer())

    def build(self, input_shape):
        kernel = (self.kernel_size, self.kernel_size, self.filters, input_shape[-1])
        self.kernel = self.add_weight(name="kernel", shape=kernel, initializer=self.kernel_initializer)
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")
        super().build(input_shape)

    def call(self, inputs, training=None):
        return transposed_convolution(inputs, self.kernel, self.crop, training) + self.bias

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        margin = 0 if self.crop else self.kernel_size - 2
        height, width = (None if size is None else 2 * size + margin for size in (height, width))
        return (batch, height, width, self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "crop": self.crop,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
