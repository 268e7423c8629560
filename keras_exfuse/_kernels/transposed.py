"""The transposed convolution of stride 2 that the decoder is made of."""

from keras import ops

from keras_exfuse._kernels import dispatch
from keras_exfuse._kernels.case import case_of
from keras_exfuse._kernels.convolution import convolve


def transposed_convolution(inputs, kernel, crop: bool = True, training: bool = False):
    """A stride-2 transposed convolution with an even kernel, without bias, in the fastest form.

    Args:
        inputs: A tensor (B, H, W, C).
        kernel: A tensor or variable (K, K, filters, C), K even.
        crop: Whether the output is cut to twice the input's size, as `same` does, or keeps all that the kernel
            reaches, as `valid` does.
        training: Whether gradients will be asked for.

    Returns:
        A tensor (B, 2 * H, 2 * W, filters), or (B, 2 * H + K - 2, ..., filters) without `crop`.
    """
    padding = "same" if crop else "valid"
    case = case_of(inputs, kernel.shape, strides=(2, 2), padding=padding, training=training)
    form = dispatch.choose(dispatch.TRANSPOSED, case)
    if form is not None:
        return form.transpose(ops.convert_to_tensor(inputs), ops.convert_to_tensor(kernel), case, convolve)
    return ops.conv_transpose(inputs, kernel, strides=2, padding=padding, data_format="channels_last")
