"""Depthwise convolutions as a sum of shifted, scaled copies of the input, forwards and backwards.

XLA has no fast kernel for the gradients of depthwise convolutions on a CPU.
"""

import functools

import keras
from keras import ops

if keras.backend.backend() == "jax":
    import jax
    import jax.numpy as jnp


def applies(case) -> bool:
    """A CPU under JAX, square kernels and strides, no dilation, and sides that are known."""
    rows, columns = case.kernel[:2]
    return (
        case.on == ("jax", "cpu")
        and rows == columns
        and case.strides[0] == case.strides[1]
        and case.dilation_rate == (1, 1)
        and (case.padding == "valid" or (case.strides == (1, 1) and rows % 2 == 1))
        and None not in case.inputs[1:3]
    )


def convolve(inputs, kernel, case):
    """See `keras_exfuse._kernels.convolution.convolve`."""
    if case.padding == "same":
        border = (case.kernel[0] // 2,) * 2
        inputs = ops.pad(inputs, ((0, 0), border, border, (0, 0)))
    return _depthwise(case.strides[0])(inputs, kernel)


def _products(inputs, kernel, stride: int):
    """A depthwise `valid` convolution; the kernel is (size, size, 1, C)."""
    size = kernel.shape[0]
    height, width = ((side - size) // stride + 1 for side in inputs.shape[1:3])
    total = 0
    for rows, columns, row, column in _windows(size, height, width, stride):
        total = total + inputs[:, rows, columns] * kernel[row, column, 0]
    return total


def _windows(size, height, width, stride):
    """For each cell of a kernel, the slices of the input that it multiplies, and the cell."""
    for row in range(size):
        for column in range(size):
            rows = slice(row, row + (height - 1) * stride + 1, stride)
            columns = slice(column, column + (width - 1) * stride + 1, stride)
            yield rows, columns, row, column


@functools.cache
def _depthwise(stride: int):
    """The JAX function for one stride, with its backward pass written out as shifted products as well.

    JAX's own derivative of the slices is a chain of padded additions that XLA does not fuse on a CPU; this is the
    textbook form: correlate the spread-out gradient with the flipped kernel.
    """

    @jax.custom_vjp
    def convolve(inputs, kernel):
        return _products(inputs, kernel, stride)

    def forward(inputs, kernel):
        return _products(inputs, kernel, stride), (inputs, kernel)

    def backward(residuals, gradient):
        inputs, kernel = residuals
        size = kernel.shape[0]
        height, width = gradient.shape[1:3]
        cells = []
        for rows, columns, _, _ in _windows(size, height, width, stride):
            product = inputs[:, rows, columns].astype("float32") * gradient.astype("float32")
            cells.append(jnp.sum(product, axis=(0, 1, 2)))
        kernel_gradient = jnp.stack(cells).reshape(kernel.shape).astype(kernel.dtype)
        # Rows and columns at the far edge which no window reached get no gradient: pad them with zeros.
        unused = [inputs.shape[i + 1] - ((n - 1) * stride + size) for i, n in enumerate((height, width))]
        spread = [(size - 1, size - 1 + unused[i], stride - 1) for i in range(2)]
        zero = jnp.zeros((), gradient.dtype)
        spread_gradient = jax.lax.pad(gradient, zero, ((0, 0, 0), *spread, (0, 0, 0)))
        return _products(spread_gradient, kernel[::-1, ::-1], 1), kernel_gradient

    convolve.defvjp(forward, backward)
    # Compiled as a whole also where a layer is called outside of a compiled model.
    return jax.jit(convolve)
