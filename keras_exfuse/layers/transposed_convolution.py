"""A transposed convolution of stride 2, as a plain convolution and a shuffle where that is faster."""

from keras import ops

from keras_exfuse import _backend
from keras_exfuse.layers.few_filters_convolution import same_convolution


def transposed_convolution(inputs, kernel, crop: bool = True):
    """A stride-2 transposed convolution with an even kernel, without bias.

    Args:
        inputs: A tensor (B, H, W, C).
        kernel: A tensor (K, K, filters, C), K even.
        crop: Whether the output is cut to twice the input's size, as `same` does, or keeps all that the kernel
            reaches, as `valid` does.

    Returns:
        A tensor (B, 2 * H, 2 * W, filters), or (B, 2 * H + K - 2, ..., filters) without `crop`.
    """
    if _backend.shuffles_instead_of_transposing(inputs):
        return convolution_and_shuffle(inputs, kernel, crop)
    return ops.conv_transpose(
        inputs, kernel, strides=2, padding="same" if crop else "valid", data_format="channels_last"
    )


def convolution_and_shuffle(inputs, kernel, crop: bool):
    """Each of the four sub-pixels of an input pixel has a kernel of its own: every second row and column.

    All four read the same window of K / 2 pixels a side, so one convolution makes them, of four times the filters and
    as many MACs. Behind it stand 2 * H + K - 2 rows if the map got K / 2 - 1 more pixels on each side, and two
    fewer for every pixel less. Where that is not what `same` pads, it is a step of its own: within the convolution it
    makes XLA on a CPU take several times as long for the kernel's gradient.
    """
    taps = kernel.shape[0] // 2
    unwanted = taps - 1 if crop else 0
    border = (taps - 1 - unwanted // 2,) * 2
    kernels = _four_kernels(kernel, taps)
    if taps == 2 * border[0] + 1:
        convolved = same_convolution(inputs, kernels)
    else:
        padded = ops.pad(inputs, ((0, 0), border, border, (0, 0)))
        convolved = _backend.convolve(padded, kernels, padding="valid")
    shuffled = _backend.depth_to_space(convolved, 2)
    if unwanted % 2 == 0:
        return shuffled
    _, height, width, _ = ops.shape(shuffled)
    return shuffled[:, 1 : height - 1, 1 : width - 1]


def _four_kernels(kernel, taps: int):
    """(K, K, filters, C) to (K / 2, K / 2, C, 4 * filters), in the order of `depth_to_space`."""
    filters, channels = kernel.shape[2:]
    # A transposed convolution runs over its kernel backwards: row 2 * n + p makes sub-pixel p of the pixel n before.
    phases = ops.flip(ops.reshape(kernel, (taps, 2, taps, 2, filters, channels)), axis=(0, 2))
    return ops.reshape(ops.transpose(phases, (0, 2, 5, 1, 3, 4)), (taps, taps, channels, 4 * filters))
