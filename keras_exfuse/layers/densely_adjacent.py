"""Densely Adjacent Prediction: each pixel's score is the average of what its neighbors predict of it."""

import keras
from keras import ops

from keras_exfuse._kernels import transposed_convolution
from keras_exfuse.layers._arguments import check_odd, check_positive
from keras_exfuse.layers.deconvolution import BilinearInitializer, check_deconvolution_kernel

PADDINGS = ("same", "valid")


@keras.saving.register_keras_serializable(package="keras_exfuse")
class DenselyAdjacentPrediction(keras.layers.Layer):
    r"""Averages k * k groups of class scores, each shifted to the pixel it predicts.

    With input channels group-major (channel `(l * k + m) * num_classes + class`, group (l, m) predicting
    the neighbor at offset (l, m)):

        r[i, j] = 1 / k^2 * sum_{0 <= l, m < k} x^(l * k + m)[i + l - floor(k / 2), j + m - floor(k / 2)]

    It has no weights. It is not a pixel shuffle followed by average pooling: that would be a mean over the
    channels of one pixel, without any adjacency.

    Args:
        num_classes: Positive int, the channels of each group.
        window_size: Odd int k.
        padding: `"same"` (neighbors outside the map count as zero, and the divisor stays k^2) or
            `"valid"` (only pixels all of whose neighbors exist).

    Call arguments:
        inputs: A tensor (B, H, W, window_size**2 * num_classes).

    Returns:
        A tensor (B, H, W, num_classes), or (B, H - k + 1, W - k + 1, num_classes) with `"valid"`.

    Raises:
        ValueError: If `window_size` is even or the input's channels do not fit.

    Source: ExFuse (arXiv 1804.03821), section 3.4. The paper does not treat the border.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> dap = keras_exfuse.layers.DenselyAdjacentPrediction(num_classes=21)
    >>> tuple(dap(np.zeros((1, 8, 8, 189), "float32")).shape)
    (1, 8, 8, 21)
    """

    def __init__(self, num_classes, window_size=3, padding="same", **kwargs):
        super().__init__(**kwargs)
        self.num_classes = check_positive("num_classes", num_classes)
        self.window_size = check_odd("window_size", window_size)
        if padding not in PADDINGS:
            raise ValueError(f"`padding` must be one of {PADDINGS}. Received: padding={padding!r}")
        self.padding = padding

    def build(self, input_shape):
        expected = self.window_size**2 * self.num_classes
        if input_shape[-1] != expected:
            raise ValueError(
                f"DenselyAdjacentPrediction expects window_size**2 * num_classes = {expected} channels. "
                f"Received an input of shape {tuple(input_shape)}."
            )
        super().build(input_shape)

    def call(self, inputs):
        k, classes = self.window_size, self.num_classes
        if self.padding == "same":
            border = (k // 2, k // 2)
            inputs = ops.pad(inputs, ((0, 0), border, border, (0, 0)))
        _, height, width, _ = ops.shape(inputs)
        height, width = height - k + 1, width - k + 1
        total = 0.0
        for row in range(k):
            for column in range(k):
                first = (row * k + column) * classes
                total = (
                    total + inputs[:, row : row + height, column : column + width, first : first + classes]
                )
        return total / (k * k)

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        lost = 0 if self.padding == "same" else self.window_size - 1
        height, width = (None if size is None else size - lost for size in (height, width))
        return (batch, height, width, self.num_classes)

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "window_size": self.window_size,
            "padding": self.padding,
        }


@keras.saving.register_keras_serializable(package="keras_exfuse")
class DenselyAdjacentDeconvolution(keras.layers.Layer):
    """The last deconvolution and densely adjacent prediction behind it, computed as one.

    Both are linear, so `Deconvolution(k^2 * num_classes, crop=False)` followed by
    `DenselyAdjacentPrediction(num_classes, padding="valid")` is one transposed convolution with a kernel
    larger by k - 1, the sum of the groups' kernels, each moved by its offset. The weights stay those of the
    k^2 * num_classes channels (189 for 21 classes); the numbers and gradients are the same, at the border
    too; the 189 channels at full resolution are never made.

    Args:
        num_classes: Positive int, the output channels.
        window_size: Odd int k, the window of densely adjacent prediction.
        kernel_size: Even int, the deconvolution's kernel, larger than `window_size`.
        kernel_initializer: Initializer of the kernel; bilinear interpolation is our choice.

    Call arguments:
        inputs: A tensor (B, H, W, C).

    Returns:
        A tensor (B, 2 * H, 2 * W, num_classes).

    Raises:
        ValueError: If `kernel_size` is odd or not larger than `window_size`, or `window_size` is even.

    Source: ExFuse (arXiv 1804.03821), section 3.4 and figure 2; computing them as one is ours.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> layer = keras_exfuse.layers.DenselyAdjacentDeconvolution(num_classes=21)
    >>> tuple(layer(np.zeros((1, 8, 8, 21), "float32")).shape), layer.count_params()
    ((1, 16, 16, 21), 63693)
    """

    def __init__(self, num_classes, window_size=3, kernel_size=4, kernel_initializer=None, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = check_positive("num_classes", num_classes)
        self.window_size = check_odd("window_size", window_size)
        self.kernel_size = check_deconvolution_kernel("kernel_size", kernel_size)
        if kernel_size <= window_size:
            raise ValueError(
                "`kernel_size` must be larger than `window_size`, so that every neighbor of a border pixel "
                f"is predicted. Received: kernel_size={kernel_size}, window_size={window_size}."
            )
        self.kernel_initializer = keras.initializers.get(kernel_initializer or BilinearInitializer())

    def build(self, input_shape):
        channels = self.window_size**2 * self.num_classes
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, self.kernel_size, channels, input_shape[-1]),
            initializer=self.kernel_initializer,
        )
        self.bias = self.add_weight(name="bias", shape=(channels,), initializer="zeros")
        super().build(input_shape)

    def combined_kernel(self):
        """The kernel (K, K, num_classes, C) and bias (num_classes,) of the single transposed convolution."""
        k, classes = self.window_size, self.num_classes
        kernel = 0.0
        for row in range(k):
            for column in range(k):
                first = (row * k + column) * classes
                rows, columns = (k - 1 - row, row), (k - 1 - column, column)
                group = self.kernel[:, :, first : first + classes, :]
                kernel = kernel + ops.pad(group, (rows, columns, (0, 0), (0, 0)))
        bias = ops.sum(ops.reshape(self.bias, (k * k, classes)), axis=0)
        return kernel / (k * k), bias / (k * k)

    def call(self, inputs, training=None):
        kernel, bias = self.combined_kernel()
        return transposed_convolution(inputs, kernel, training=training) + bias

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        height, width = (None if size is None else 2 * size for size in (height, width))
        return (batch, height, width, self.num_classes)

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "window_size": self.window_size,
            "kernel_size": self.kernel_size,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
