"""Convolutions with a kernel of 1x1 as a matrix product.

XLA on a CPU takes several times as long for the gradient of such a kernel by convolutions (`benchmarks/NOTES.md`).
"""

from keras import ops


def applies(case) -> bool:
    """A CPU under JAX; no padding to be done."""
    return case.on == ("jax", "cpu") and case.kernel[:2] == (1, 1) and case.groups == 1


def convolve(inputs, kernel, case):
    """See `keras_exfuse._kernels.convolution.convolve`."""
    inputs = inputs[:, :: case.strides[0], :: case.strides[1]]
    batch, height, width, channels = ops.shape(inputs)
    # One large matrix: the gradient is slower with the maps' four axes.
    products = ops.matmul(ops.reshape(inputs, (batch * height * width, channels)), kernel[0, 0])
    return ops.reshape(products, (batch, height, width, kernel.shape[-1]))
