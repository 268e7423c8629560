"""Batch normalization in training by TensorFlow's and PyTorch's own operation.

Keras 3.15 normalizes a batch by many operations, each of which reads the whole map. XLA fuses them by itself.
"""

import math

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
elif keras.backend.backend() == "torch":
    import torch


def applies(case) -> bool:
    """A CPU under TensorFlow or PyTorch, whose own operation refuses a single value per channel."""
    if case.dtype not in ("float32", "float16", "bfloat16"):
        return False
    several = None not in case.inputs and math.prod(case.inputs[:3]) > 1
    return case.on == ("tensorflow", "cpu") or (case.on == ("torch", "cpu") and several)


def normalize(inputs, scale, offset, epsilon):
    """Normalize maps by their own mean and variance.

    Args:
        inputs: float32 (B, H, W, C).
        scale: (C,) or None.
        offset: (C,) or None.
        epsilon: Added to the variance.

    Returns:
        The maps, and the mean and variance (C,). The variance is the mean square, of which Keras's moving variance is
        made, not the estimate with one value less that both operations give.
    """
    channels = inputs.shape[-1]
    if keras.backend.backend() == "tensorflow":
        values = tf.cast(tf.size(inputs) // channels, "float32")
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.ones(channels) if scale is None else tf.convert_to_tensor(scale),
            offset=tf.zeros(channels) if offset is None else tf.convert_to_tensor(offset),
            mean=[],
            variance=[],
            epsilon=epsilon,
        )
    else:
        values = inputs.numel() // channels
        mean, variance = inputs.new_zeros(channels), inputs.new_ones(channels)
        outputs = torch.nn.functional.batch_norm(
            inputs.permute(0, 3, 1, 2),  # Channels last in memory, as torch takes them, too.
            mean,
            variance,
            None if scale is None else ops.convert_to_tensor(scale),
            None if offset is None else ops.convert_to_tensor(offset),
            training=True,
            momentum=1.0,  # Both become those of the batch.
            eps=epsilon,
        ).permute(0, 2, 3, 1)
    return outputs, mean, variance * (values - 1.0) / values
