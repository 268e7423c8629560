"""A convolution to few filters on a large map that trains at a sensible speed on JAX too."""

import functools

import keras
from keras import ops

from keras_exfuse import _backend
from keras_exfuse.layers.convolution import Convolution

# 16 would fill a register, but the gradient of 21 filters takes no less with 24 than with 21.
FILTERS_AT_ONCE = 32


def same_convolution(inputs, kernel):
    """A convolution of stride 1, `same`, without bias: (B, H, W, C) and (K, K, C, filters) to (B, H, W, filters)."""
    if _backend.forms_few_filters_gradients():
        return _jax_convolution()(inputs, ops.convert_to_tensor(kernel))
    return _backend.convolve(inputs, kernel)


@functools.cache
def _jax_convolution():
    """The JAX function; of its gradients, the kernel's is computed in another way.

    For this gradient XLA on a CPU multiplies matrices of as many columns as there are filters, and is slow where that
    is not a multiple of its block: with 32 filters, some of them zero, it takes half the time that it takes with 21.
    Where the input has more channels than the kernel has taps and filters, as in global convolutions, it takes about
    half the time of that again as one product of the input with shifted copies of the gradient, side by side.
    """
    import jax
    import jax.numpy as jnp

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
        rows, columns, channels, filters = kernel.shape
        few = rows * columns * filters <= channels
        return *to_inputs(gradient), (by_shifts if few else with_more_filters)(inputs, kernel, gradient)

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


@keras.saving.register_keras_serializable(package="keras_exfuse")
class FewFiltersConvolution(Convolution):
    """`keras.layers.Conv2D`, `same` and of stride 1, with the same weights and numbers, and faster to train on JAX.

    Args:
        filters, kernel_size, ...: As for `keras.layers.Conv2D`.

    Call arguments:
        inputs: A tensor (B, H, W, C).

    Returns:
        A tensor (B, H, W, filters).

    Example:

    >>> import numpy as np
    >>> from keras_exfuse.layers.few_filters_convolution import FewFiltersConvolution
    >>> tuple(FewFiltersConvolution(21, 3)(np.zeros((1, 4, 5, 21), "float32")).shape)
    (1, 4, 5, 21)
    """

    def __init__(self, filters, kernel_size, **kwargs):
        for fixed in ("strides", "padding", "data_format", "dilation_rate", "groups", "rank"):
            kwargs.pop(fixed, None)  # As `get_config` of the base class gives them.
        super().__init__(filters, kernel_size, padding="same", **kwargs)

    def convolution_op(self, inputs, kernel):
        """Called by `keras.layers.Conv2D`, which adds the bias and the activation."""
        return same_convolution(inputs, kernel)
