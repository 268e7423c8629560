"""Grouped convolutions by TensorFlow's own operation.

Keras compiles them with XLA, which has no fast kernel for their gradients on a CPU.
"""

import functools

import keras

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


def applies(case) -> bool:
    """TensorFlow, on every device whose kernels know groups for the dtype: cuDNN, oneDNN."""
    return case.backend == "tensorflow" and case.groups > 1 and (case.device != "cpu" or _trains(case.dtype))


def convolve(inputs, kernel, case):
    """See `keras_exfuse._kernels.convolution.convolve`."""
    return tf.nn.conv2d(
        inputs, kernel, strides=case.strides, padding=case.padding.upper(), dilations=case.dilation_rate
    )


@functools.cache
def _trains(dtype: str) -> bool:
    """Whether the CPU trains groups: tried once, on the smallest image.

    Without oneDNN (macOS, or switched off) it cannot, and oneDNN knows half precision only on CPUs that have it.
    As a graph with a bias behind it, because it is the fused kernel that such a CPU lacks. The gradients are asked for
    by name: inside of `init_scope` no tape records.
    """

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
