"""Convolutions to few filters, their kernel's gradient computed in another way.

For this gradient XLA on a CPU multiplies matrices of as many columns as there are filters, and is slow where that is
not a multiple of its block: with 32 filters, some of them zero, it takes half the time that it takes with 21. Where
the input has more channels than the kernel has taps and filters, as in global convolutions, it takes about half the
time of that again as one product of the input with shifted copies of the gradient, side by side.
"""

import functools

import keras

if keras.backend.backend() == "jax":
    import jax
    import jax.numpy as jnp

# 16 would fill a register, but the gradient of 21 filters takes no less with 24 than with 21.
FILTERS_AT_ONCE = 32


def applies(case) -> bool:
    """A CPU under JAX, where the filters are no multiple of 32, or few beside the channels."""
    applicable = case.kernel[-1] % FILTERS_AT_ONCE != 0 or _are_few(case.kernel)
    return case.on == ("jax", "cpu") and case.is_plain and applicable


def convolve(inputs, kernel, case):
    """See `keras_exfuse._kernels.convolution.convolve`."""
    return _convolution()(inputs, kernel)


def _are_few(kernel) -> bool:
    """Whether a kernel of this shape has no more taps times filters than channels."""
    rows, columns, channels, filters = kernel
    return rows * columns * filters <= channels


@functools.cache
def _convolution():
    """The JAX function with a backward pass of its own for the kernel."""

    def convolution(inputs, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(inputs, kernel, (1, 1), "SAME", dimension_numbers=layout)

    @jax.custom_vjp
    def convolve(inputs, kernel):
        return convolution(inputs, kernel)

    def forward(inputs, kernel):
        return convolution(inputs, kernel), (inputs, kernel)

    def backward(residuals, gradient):
        inputs, kernel = residuals
        _, to_inputs = jax.vjp(lambda inputs: convolution(inputs, kernel), inputs)
        to_kernel = by_shifts if _are_few(kernel.shape) else with_more_filters
        return *to_inputs(gradient), to_kernel(inputs, kernel, gradient)

    def with_more_filters(inputs, kernel, gradient):
        filters = kernel.shape[-1]
        more = ((0, 0), (0, 0), (0, 0), (0, -filters % FILTERS_AT_ONCE))
        _, to_kernel = jax.vjp(lambda kernel: convolution(inputs, kernel), jnp.pad(kernel, more))
        return to_kernel(jnp.pad(gradient, more))[0][..., :filters]

    def by_shifts(inputs, kernel, gradient):
        (rows, columns, channels, filters), (_, height, width, _) = kernel.shape, inputs.shape
        top, left = (rows - 1) // 2, (columns - 1) // 2  # What `same` pads before.
        border = ((0, 0), (rows - 1 - top, top), (columns - 1 - left, left), (0, 0))
        padded = jnp.pad(gradient, border)
        shifted = [
            padded[:, row : row + height, column : column + width]
            for row in reversed(range(rows))
            for column in reversed(range(columns))
        ]
        beside = jnp.concatenate(shifted, axis=-1).reshape(-1, rows * columns * filters)
        products = jnp.dot(inputs.reshape(-1, channels).T, beside).astype(kernel.dtype)
        return products.reshape(channels, rows, columns, filters).transpose(1, 2, 0, 3)

    convolve.defvjp(forward, backward)
    return convolve
