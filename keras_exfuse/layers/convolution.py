"""A convolution whose maps are not copied on PyTorch."""

import keras

from keras_exfuse import _backend


@keras.saving.register_keras_serializable(package="keras_exfuse")
class Convolution(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with the same weights and numbers, and without two copies of its input on PyTorch.

    Args:
        filters, kernel_size, ...: As for `keras.layers.Conv2D`; channels_last only.

    Call arguments:
        inputs: A tensor (B, H, W, C).

    Returns:
        A tensor (B, new height, new width, filters).

    Example:

    >>> import numpy as np, keras_exfuse
    >>> layer = keras_exfuse.layers.Convolution(16, 3, strides=2)
    >>> tuple(layer(np.zeros((1, 9, 9, 4), "float32")).shape)
    (1, 4, 4, 16)
    """

    def __init__(self, filters, kernel_size, **kwargs):
        super().__init__(filters, kernel_size, **{**kwargs, "data_format": "channels_last"})

    def build(self, input_shape):
        super().build(input_shape)
        _backend.lay_out_kernel(self._kernel)

    def convolution_op(self, inputs, kernel):
        """Called by `keras.layers.Conv2D`, which adds the bias and the activation."""
        return _backend.convolve(inputs, kernel, self.strides, self.padding, self.dilation_rate)
