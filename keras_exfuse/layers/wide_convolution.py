"""A 3x3 convolution of very many channels, computed as one matrix product where that is faster."""

import contextlib
import math
from collections.abc import Iterator

import keras
from keras import ops

from keras_exfuse import _backend

# From so many products of channels and filters on, the matrix product is the faster way, outside of training and in
# it: measured by `benchmarks/kernels/wide_convolution.py`, whose tables are in `benchmarks/results/`.
LIMITS = {
    "tensorflow": (2**18, 2**20),
    "jax": (2**20, 2**19),
    "torch": (2**18, 2**20),
}


@contextlib.contextmanager
def kept_as_convolutions() -> Iterator[None]:
    """What is traced inside stays a convolution: for files of other engines, which have kernels and int8 for those."""
    before = dict(LIMITS)
    LIMITS.clear()
    try:
        yield
    finally:
        LIMITS.update(before)


@keras.saving.register_keras_serializable(package="keras_exfuse")
class WideConvolution(keras.layers.Conv2D):
    """`keras.layers.Conv2D`, 3x3 and `same`, with the same weights and numbers, and fast with very many channels.

    Small maps of very many channels, such as a backbone's last ones, are what the backends' convolutions on a CPU
    are worst at. There the patches, side by side, times the kernel as one matrix, take less time; with fewer
    channels the copies of the patches cost more than they bring, and then this is Keras's convolution.

    Args:
        filters: Positive int.
        **kwargs: As for `keras.layers.Conv2D`.

    Call arguments:
        inputs: A tensor (B, H, W, C).
        training: Whether gradients will be asked for, which changes what is faster.

    Returns:
        A tensor (B, H, W, filters).

    Example:

    >>> import numpy as np, keras_exfuse
    >>> layer = keras_exfuse.layers.WideConvolution(16)
    >>> tuple(layer(np.zeros((1, 4, 5, 2048), "float32")).shape)
    (1, 4, 5, 16)
    """

    def __init__(self, filters, **kwargs):
        for fixed in ("kernel_size", "strides", "padding", "data_format", "dilation_rate", "groups", "rank"):
            kwargs.pop(fixed, None)  # As `get_config` of the base class gives them.
        super().__init__(filters, 3, padding="same", data_format="channels_last", **kwargs)

    def call(self, inputs, training=None):
        # Other backends have no such limits: none was measured.
        limits = LIMITS.get(_backend.BACKEND, (math.inf, math.inf))
        if inputs.shape[-1] * self.filters < limits[bool(training)]:
            return super().call(inputs)
        _, height, width, channels = ops.shape(inputs)
        border = (1, 1)
        padded = ops.pad(inputs, ((0, 0), border, border, (0, 0)))
        patches = ops.concatenate(
            [
                padded[:, row : row + height, column : column + width]
                for row in range(3)
                for column in range(3)
            ],
            axis=-1,
        )
        outputs = ops.matmul(patches, ops.reshape(self.kernel, (9 * channels, self.filters)))
        if self.use_bias:
            outputs = outputs + self.bias
        return self.activation(outputs) if self.activation is not None else outputs

    def convolution_op(self, inputs, kernel):
        """Called by `keras.layers.Conv2D`, which adds the bias and the activation."""
        return _backend.convolve(inputs, kernel)
