"""A grouped convolution that trains at a sensible speed on every backend.

`keras.layers.Conv2D(groups=32)` is right everywhere, but on a CPU it is some hundred times too slow to
train under TensorFlow (Keras sends it through XLA, which has no fast kernel for its gradients) and under
JAX (the same XLA). torch is fine as it is.
"""

import functools

import keras
import numpy as np
from keras import ops

from keras_exfuse import _backend

BLOCK_CHANNELS = 64  # a dense convolution over fewer channels than this wastes the vector units
MOST_BLOCKS = 8  # every block is a convolution to compile: more of them cost minutes in a deep network


@keras.saving.register_keras_serializable(package="keras_exfuse")
class GroupedConvolution(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with `groups`, the same weights and numbers, by a fast way on each backend.

    - TensorFlow: `tf.nn.conv2d` directly, whose oneDNN and cuDNN kernels know groups.
    - JAX on a CPU, and TensorFlow without oneDNN for the type: dense convolutions over blocks of neighbouring groups,
      with zeros between the groups (`blockwise_convolution`).
    - torch, and JAX on an accelerator: the backend's own grouped convolution.

    Args:
        filters: number of output channels, a multiple of `groups`.
        kernel_size, strides, padding, ...: as for `keras.layers.Conv2D`; channels_last only.
        groups: number of groups; input channels must be a multiple of it.

    Returns:
        What `keras.layers.Conv2D` returns: (batch, new height, new width, filters).

    Raises:
        ValueError: `data_format="channels_first"`, or channels that the groups do not divide.

    Source:
        Xie et al. 2017, "Aggregated Residual Transformations for Deep Neural Networks": the ResNeXt block,
        which ExFuse's best backbones are made of.

    Example:
        >>> layer = GroupedConvolution(64, 3, groups=32, padding="same", use_bias=False)
        >>> tuple(layer(keras.ops.ones((1, 8, 8, 128))).shape)
        (1, 8, 8, 64)
    """

    def __init__(self, filters: int, kernel_size, *, groups: int = 1, **kwargs):
        super().__init__(filters, kernel_size, groups=groups, **kwargs)
        if self.data_format != "channels_last":
            raise ValueError(
                f"GroupedConvolution expects data_format='channels_last', got {self.data_format!r}."
            )

    def convolution_op(self, inputs, kernel):
        """Called by `keras.layers.Conv2D`, which adds the bias and the activation."""
        if self.groups == 1:
            return super().convolution_op(inputs, kernel)
        backend = keras.backend.backend()
        if backend == "tensorflow" and _tensorflow_trains_groups(inputs.dtype.name):
            import tensorflow as tf

            return tf.nn.conv2d(
                inputs,
                kernel,
                strides=self.strides,
                padding=self.padding.upper(),
                dilations=self.dilation_rate,
            )
        if backend == "tensorflow" or (backend == "jax" and _jax_runs_on_cpu()):
            return blockwise_convolution(
                inputs, kernel, self.groups, self.strides, self.padding, self.dilation_rate
            )
        return _backend.convolve(inputs, kernel, self.strides, self.padding, self.dilation_rate)


def blockwise_convolution(inputs, kernel, groups: int, strides, padding: str, dilation_rate):
    """A grouped convolution out of dense ones.

    Neighbouring groups are joined to blocks of about 64 channels, at most eight of them. A block is one
    dense convolution whose kernel is zero between different groups. It computes more products than needed,
    but by the one kernel that every backend has made fast.

    Args:
        inputs: (batch, height, width, channels).
        kernel: (kernel height, kernel width, channels / groups, filters).
        groups: number of groups.
        strides, padding, dilation_rate: as for `keras.layers.Conv2D`.

    Returns:
        (batch, new height, new width, filters).
    """
    blocks = number_of_blocks(groups, inputs.shape[-1])
    groups_per_block = groups // blocks
    group_inputs, filters = kernel.shape[2:]
    # One where input and output channel of a block belong to the same group.
    same_group = np.kron(np.eye(groups_per_block), np.ones((group_inputs, filters // groups)))
    same_group = ops.cast(same_group, kernel.dtype)
    outputs = [
        ops.conv(
            block_inputs,
            ops.tile(block_kernel, (1, 1, groups_per_block, 1)) * same_group,
            strides=strides,
            padding=padding,
            data_format="channels_last",
            dilation_rate=dilation_rate,
        )
        for block_inputs, block_kernel in zip(
            ops.split(inputs, blocks, axis=-1), ops.split(kernel, blocks, axis=-1), strict=True
        )
    ]
    return ops.concatenate(outputs, axis=-1) if blocks > 1 else outputs[0]


def number_of_blocks(groups: int, channels: int) -> int:
    """The most blocks of whole groups, up to eight, with 64 input channels or more in each."""
    most = min(MOST_BLOCKS, groups, max(1, channels // BLOCK_CHANNELS))
    return max(blocks for blocks in range(1, most + 1) if groups % blocks == 0)


def _jax_runs_on_cpu() -> bool:
    import jax

    return jax.default_backend() == "cpu"


@functools.cache
def _tensorflow_trains_groups(dtype: str) -> bool:
    """Try it once, on the smallest image: without oneDNN (macOS, or switched off) a CPU cannot, and oneDNN knows
    half precision only on processors that have it.

    As a graph with a bias behind it, because it is the fused kernel that such a CPU lacks. The gradients are asked for
    by name: inside of `init_scope` no tape records.
    """
    import tensorflow as tf

    @tf.function(autograph=False)
    def gradient_step(inputs, kernel, bias):
        options = {"strides": [1, 1, 1, 1], "padding": "SAME"}
        outputs = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(inputs, kernel, **options), bias))
        return (
            outputs,
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=inputs.shape, filter=kernel, out_backprop=outputs, **options
            ),
            tf.raw_ops.Conv2DBackpropFilter(
                input=inputs, filter_sizes=kernel.shape, out_backprop=outputs, **options
            ),
        )

    with tf.init_scope():  # eagerly, also while the graph of a model is being traced
        try:
            gradient_step(*(tf.ones(shape, dtype) for shape in ((1, 3, 3, 2), (3, 3, 1, 2), (2,))))
        except (tf.errors.OpError, ValueError):
            return False
    return True
