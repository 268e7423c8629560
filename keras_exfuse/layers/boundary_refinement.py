"""Boundary refinement: a residual block on the score map."""

import keras
from keras import ops

from keras_exfuse._kernels import Conv2D
from keras_exfuse.layers._arguments import check_init, check_positive, copy_initializer


@keras.saving.register_keras_serializable(package="keras_exfuse")
class BoundaryRefinement(keras.layers.Layer):
    """Refines a score map S by a residual: S + conv3x3(ReLU(conv3x3(S))), as many channels as S.

    Args:
        groups: Positive int that divides the channels; the convolutions mix channels of one group only.
            The paper's is 1. With the nine adjacency groups of densely adjacent prediction, 9 refines
            each group by itself (our choice, for cost).
        init: `"identity"` (the second convolution starts at zero, so that the block first passes the map on)
            or `"random"`. The paper does not say; the identity is our choice, since nine of these blocks stand
            in a row and each started at random adds to the scores.
        kernel_initializer: Initializer of the first kernel, and under `init="random"` of the second.

    Call arguments:
        inputs: A tensor (B, H, W, C).

    Returns:
        A tensor of the same shape.

    Raises:
        ValueError: If `groups` does not divide the channels, or `init` is unknown.

    Source: GCN (arXiv 1703.02719), section 3.2, figure 2 C. No batch normalization in it.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> refine = keras_exfuse.layers.BoundaryRefinement()
    >>> tuple(refine(np.zeros((1, 8, 8, 21), "float32")).shape)
    (1, 8, 8, 21)
    """

    def __init__(self, groups=1, init="identity", kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.init = check_init(init)
        self.groups = check_positive("groups", groups)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        channels = input_shape[-1]
        if channels % self.groups:
            raise ValueError(
                f"`groups` must divide the input's channels. Received: groups={self.groups} with an "
                f"input of shape {tuple(input_shape)}."
            )
        start = keras.initializers.Zeros() if self.init == "identity" else self.kernel_initializer
        self.first = self._convolution(channels, "relu", self.kernel_initializer, "first")
        self.second = self._convolution(channels, None, start, "second")
        self.first.build(input_shape)
        self.second.build(input_shape)
        super().build(input_shape)

    def _convolution(self, channels, activation, initializer, name):
        return Conv2D(
            channels,
            3,
            padding="same",
            groups=self.groups,
            activation=activation,
            kernel_initializer=copy_initializer(initializer),
            dtype=self.dtype_policy,
            name=name,
        )

    def call(self, inputs, training=None):
        residual = self.second(self.first(inputs, training=training), training=training)
        return inputs + ops.cast(residual, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "groups": self.groups,
            "init": self.init,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
