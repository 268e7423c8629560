"""Stride-2 transposed convolutions as a plain convolution and `depth_to_space`.

JAX's and PyTorch's transposed convolutions have slow gradients on a CPU. TensorFlow's are as fast as this, or faster.
"""

from keras import ops

from keras_exfuse._kernels.operations import depth_to_space


def applies(case) -> bool:
    """A CPU under JAX or PyTorch."""
    return case.on in (("jax", "cpu"), ("torch", "cpu"))


def transpose(inputs, kernel, case, convolve):
    """See `keras_exfuse._kernels.transposed.transposed_convolution`; `convolve` is that of the package.

    Each of the four sub-pixels of an input pixel has a kernel of its own: every second row and column. All four read
    the same window of K / 2 pixels a side, so one convolution makes them, of four times the filters and as many MACs.
    Its output has 2 * H + K - 2 rows if the map got K / 2 - 1 more pixels on each side, and two fewer for every
    pixel less. Where that is not what `same` pads, it is a step of its own: within the convolution it makes XLA on a
    CPU take several times as long for the kernel's gradient.
    """
    taps = kernel.shape[0] // 2
    unwanted = taps - 1 if case.padding == "same" else 0
    border = (taps - 1 - unwanted // 2,) * 2
    kernels = four_kernels(kernel)
    if taps == 2 * border[0] + 1:
        convolved = convolve(inputs, kernels, training=case.training)
    else:
        padded = ops.pad(inputs, ((0, 0), border, border, (0, 0)))
        convolved = convolve(padded, kernels, padding="valid", training=case.training)
    shuffled = depth_to_space(convolved, 2)
    if unwanted % 2 == 0:
        return shuffled
    _, height, width, _ = ops.shape(shuffled)
    return shuffled[:, 1 : height - 1, 1 : width - 1]


def four_kernels(kernel):
    """(K, K, filters, C) to (K / 2, K / 2, C, 4 * filters), in the order of `depth_to_space`."""
    taps, (filters, channels) = kernel.shape[0] // 2, kernel.shape[2:]
    # A transposed convolution runs over its kernel backwards: row 2 * n + p makes sub-pixel p of the pixel n before.
    phases = ops.flip(ops.reshape(kernel, (taps, 2, taps, 2, filters, channels)), axis=(0, 2))
    return ops.reshape(ops.transpose(phases, (0, 2, 5, 1, 3, 4)), (taps, taps, channels, 4 * filters))
