"""The convolution that the network is made of."""

import keras
from keras import ops

from keras_exfuse._kernels import dispatch
from keras_exfuse._kernels.case import case_of
from keras_exfuse._kernels.forms import channels_last


def convolve(inputs, kernel, *, strides=(1, 1), padding="same", dilation_rate=(1, 1), training=False):
    """`keras.ops.conv` of channels-last maps, in the fastest form.

    Args:
        inputs: A tensor (B, H, W, C).
        kernel: A tensor or variable (rows, columns, C / groups, filters); the groups follow from the shapes.
        strides: As for `keras.layers.Conv2D`.
        padding: As for `keras.layers.Conv2D`.
        dilation_rate: As for `keras.layers.Conv2D`.
        training: Whether gradients will be asked for.

    Returns:
        A tensor (B, new height, new width, filters).
    """
    options = {"strides": tuple(strides), "padding": padding, "dilation_rate": tuple(dilation_rate)}
    case = case_of(inputs, kernel.shape, training=training, **options)
    form = dispatch.choose(dispatch.CONVOLUTION, case)
    if form is not None:
        return form.convolve(ops.convert_to_tensor(inputs), ops.convert_to_tensor(kernel), case)
    return ops.conv(inputs, kernel, data_format="channels_last", **options)


@keras.saving.register_keras_serializable(package="keras_exfuse")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with the same arguments, weights and numbers, computed in the fastest form.

    Args:
        filters, kernel_size, ...: As for `keras.layers.Conv2D`; channels_last only.

    Call arguments:
        inputs: A tensor (B, H, W, C).
        training: Whether gradients will be asked for, which changes what is fastest.

    Returns:
        A tensor (B, new height, new width, filters).

    Raises:
        ValueError: If `data_format` is "channels_first".

    Example:
    >>> import numpy as np
    >>> from keras_exfuse._kernels import Conv2D
    >>> tuple(Conv2D(16, 3, strides=2)(np.zeros((1, 9, 9, 4), "float32")).shape)
    (1, 4, 4, 16)
    """

    def __init__(self, filters, kernel_size, *, data_format="channels_last", **kwargs):
        check_channels_last(type(self).__name__, data_format)
        super().__init__(filters, kernel_size, data_format=data_format, **kwargs)

    def build(self, input_shape):
        super().build(input_shape)
        channels_last.lay_out_kernel(self._kernel)

    def call(self, inputs, training=None):
        outputs = convolve(
            inputs,
            self.kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            training=training,
        )
        return biased_and_activated(self, outputs)


def biased_and_activated(layer, outputs):
    """What a layer of `keras.layers` does behind its convolution."""
    if layer.use_bias:
        outputs = ops.add(outputs, layer.bias)
    return outputs if layer.activation is None else layer.activation(outputs)


def check_channels_last(name: str, data_format: str) -> None:
    """Raise a `ValueError` unless a layer's data format is channels_last."""
    if data_format != "channels_last":
        raise ValueError(f'{name} expects data_format="channels_last". Received: data_format={data_format!r}')
