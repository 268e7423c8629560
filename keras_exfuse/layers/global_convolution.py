"""Global Convolutional Network block: a large kernel from two pairs of one-dimensional convolutions."""

import keras

from keras_exfuse._kernels import Conv2D
from keras_exfuse.layers._arguments import check_odd, check_positive, copy_initializer


@keras.saving.register_keras_serializable(package="keras_exfuse")
class GlobalConvolution(keras.layers.Layer):
    """A k x k receptive field from (k x 1 then 1 x k) + (1 x k then k x 1), without non-linearity.

    Args:
        filters: Positive int, the output channels of all four convolutions (the paper: the classes).
        kernel_size: Odd int k. The GCN paper uses 15 for VOC at 512; ExFuse does not state its own.
        use_bias: Whether the convolutions have biases. The published weight counts are without.
        kernel_initializer: Initializer of the kernels.

    Call arguments:
        inputs: A tensor (B, H, W, C).

    Returns:
        A tensor (B, H, W, filters).

    Raises:
        ValueError: If `filters` is not positive or `kernel_size` is even.

    Source: GCN (arXiv 1703.02719), section 3.1, figure 3 B; ExFuse, figure 2.

    Example:
    >>> import keras, keras_exfuse
    >>> block = keras_exfuse.layers.GlobalConvolution(21, kernel_size=7, use_bias=False)
    >>> block.build((None, 16, 16, 2048))
    >>> block.count_params()
    608286
    """

    def __init__(self, filters, kernel_size=7, use_bias=True, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.filters = check_positive("filters", filters)
        self.kernel_size = check_odd("kernel_size", kernel_size)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        k = self.kernel_size
        self.column_first = self._convolution((k, 1), "column_first")
        self.then_row = self._convolution((1, k), "then_row")
        self.row_first = self._convolution((1, k), "row_first")
        self.then_column = self._convolution((k, 1), "then_column")

    def _convolution(self, kernel_size, name):
        return Conv2D(
            self.filters,
            kernel_size,
            padding="same",
            use_bias=self.use_bias,
            kernel_initializer=copy_initializer(self.kernel_initializer),
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, input_shape):
        self.column_first.build(input_shape)
        self.row_first.build(input_shape)
        between = (*input_shape[:3], self.filters)
        self.then_row.build(between)
        self.then_column.build(between)
        super().build(input_shape)

    def call(self, inputs, training=None):
        columns = self.column_first(inputs, training=training)
        rows = self.row_first(inputs, training=training)
        return self.then_row(columns, training=training) + self.then_column(rows, training=training)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:3], self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
