"""The depthwise convolution that backbones are made of."""

import keras
from keras import ops

from keras_exfuse._kernels import dispatch
from keras_exfuse._kernels.case import case_of
from keras_exfuse._kernels.convolution import biased_and_activated, check_channels_last


@keras.saving.register_keras_serializable(package="keras_exfuse")
class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with the same arguments, weights and numbers, computed in the fastest form.

    Args:
        kernel_size, strides, ...: As for `keras.layers.DepthwiseConv2D`; channels_last only.

    Call arguments:
        inputs: A tensor (B, H, W, C).
        training: Whether gradients will be asked for, which changes what is fastest.

    Returns:
        A tensor (B, new height, new width, C * depth_multiplier).

    Raises:
        ValueError: If `data_format` is "channels_first".

    Example:
    >>> import numpy as np
    >>> from keras_exfuse._kernels import DepthwiseConv2D
    >>> tuple(DepthwiseConv2D(3, strides=2)(np.zeros((1, 9, 9, 4), "float32")).shape)
    (1, 4, 4, 4)
    """

    def __init__(self, kernel_size, *, data_format="channels_last", **kwargs):
        check_channels_last(type(self).__name__, data_format)
        super().__init__(kernel_size, data_format=data_format, **kwargs)

    def call(self, inputs, training=None):
        # As a convolution of as many groups as channels: (rows, columns, 1, channels).
        rows, columns, channels, multiplier = self.kernel.shape
        case = case_of(
            inputs,
            (rows, columns, 1, channels * multiplier),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            training=training,
        )
        form = dispatch.choose(dispatch.DEPTHWISE, case) if multiplier == 1 else None
        if form is None:
            return super().call(inputs)
        kernel = ops.transpose(ops.convert_to_tensor(self.kernel), (0, 1, 3, 2))
        return biased_and_activated(self, form.convolve(ops.convert_to_tensor(inputs), kernel, case))
