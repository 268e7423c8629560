"""Grouped convolutions as dense ones over blocks of neighboring groups, with zeros between the groups.

XLA has no fast kernel for the gradients of groups on a CPU.
"""

import numpy as np
from keras import ops

BLOCK_CHANNELS = 64  # A dense convolution over fewer channels than this wastes the vector units.
MOST_BLOCKS = 8  # Every block is a convolution to compile: more of them cost minutes in a deep network.


def applies(case) -> bool:
    """A CPU under JAX, and under TensorFlow where its own operation cannot train (see `native_groups`)."""
    return case.on in (("jax", "cpu"), ("tensorflow", "cpu")) and case.groups > 1


def convolve(inputs, kernel, case):
    """See `keras_exfuse._kernels.convolution.convolve`.

    It computes more products than needed, but by the one kernel that every backend has made fast.
    """
    blocks = number_of_blocks(case.groups, inputs.shape[-1])
    groups_per_block = case.groups // blocks
    group_inputs, filters = kernel.shape[2:]
    # One where input and output channel of a block belong to the same group.
    same_group = np.kron(np.eye(groups_per_block), np.ones((group_inputs, filters // case.groups)))
    same_group = ops.cast(same_group, kernel.dtype)
    outputs = [
        ops.conv(
            block_inputs,
            ops.tile(block_kernel, (1, 1, groups_per_block, 1)) * same_group,
            strides=case.strides,
            padding=case.padding,
            data_format="channels_last",
            dilation_rate=case.dilation_rate,
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
