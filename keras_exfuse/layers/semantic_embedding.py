"""Semantic Embedding Branch: high-level features gate low-level ones."""

import math

import keras

from keras_exfuse._kernels import BatchNormalization, Conv2D, DepthwiseConv2D
from keras_exfuse.layers._arguments import check_init, copy_initializer
from keras_exfuse.layers.resize import BilinearResize

CONVOLUTIONS = ("dense", "separable", "bottleneck")


def fan_in_scale(fan_in: int) -> float:
    """What a map is multiplied by in front of a convolution of so large a fan-in: about 8 / sqrt(fan-in), at most 1.

    A power of two, so that multiplying by it rounds nothing.
    """
    return min(1.0, 2.0 ** (3 - round(math.log2(fan_in) / 2)))


@keras.saving.register_keras_serializable(package="keras_exfuse")
class SemanticEmbeddingBranch(keras.layers.Layer):
    """Multiplies a low-level map by every higher level: y = low * product_i Up(Conv3x3_i(high_i)).

    One convolution for each higher level, to as many channels as the low map, first the convolution and
    then the bilinear upsampling.

    Args:
        normalization: Whether batch normalization follows each convolution. The paper does not say; ours
            is off by default.
        init: `"identity"` (each factor starts at one, so that the branch first passes the low map on unchanged and
            pre-trained features stay alive: kernels are zero, or, under normalization, its scales) or
            `"random"` (the kernels' initializer, biases zero: the product of small numbers starts near
            zero). The paper does not say; our choice.
        scaled: Whether each higher map is multiplied by `fan_in_scale(fan_in)`, 1/2 to 1/16 on the usual
            backbones, in front of its convolution. It changes no function that the branch can learn, only how far a
            step moves it: Adam's first step moves every weight by the learning rate, and so a factor by the rate
            times the sum of 9 * channels features; three factors multiply, and the loss explodes at a rate of 1e-3.
            Without effect under normalization. The paper does not say; our choice, measured by
            `benchmarks/accuracy/first_steps.py`.
        convolution: What each higher map goes through. `"dense"` is the paper's 3x3 convolution. Two lean choices
            are ours; without an activation inside, each is a 3x3 convolution of fewer weights: `"separable"` (a
            depthwise 3x3 and a 1x1 convolution) and `"bottleneck"` (1x1 to a quarter of the low map's channels, 3x3,
            1x1).
        kernel_initializer: Initializer of the kernels, unless they start at zero.

    Call arguments:
        inputs: `[low, *highs]`: tensors (B, H, W, C), (B, H', W', C'), ..., at least two.

    Returns:
        A tensor (B, H, W, C).

    Raises:
        ValueError: If fewer than two maps come, or `init` or `convolution` is unknown.

    Source: ExFuse (arXiv 1804.03821), section 3.2, figure 4.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> branch = keras_exfuse.layers.SemanticEmbeddingBranch()
    >>> low, high = np.ones((1, 8, 8, 16), "float32"), np.ones((1, 4, 4, 32), "float32")
    >>> tuple(branch([low, high]).shape)
    (1, 8, 8, 16)
    """

    def __init__(
        self,
        normalization=False,
        init="identity",
        scaled=True,
        convolution="dense",
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.normalization = normalization
        self.init = check_init(init)
        self.scaled = scaled
        if convolution not in CONVOLUTIONS:
            raise ValueError(f"`convolution` must be one of {CONVOLUTIONS}. Received: {convolution!r}")
        self.convolution = convolution
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.resize = BilinearResize(dtype=self.dtype_policy, name="resize")

    def build(self, input_shape):
        low, *highs = _check_maps(input_shape)
        # Of each higher map: what leads to its last convolution (in one list, as Keras saves no lists of lists).
        self.leading, self.convolutions, self.normalizations, self.scales = [], [], [], []
        for index, high in enumerate(highs, start=1):
            leading, last, shape = self._leading(low[-1], index), self._last(low[-1], index), tuple(high)
            for layer in (*leading, last):
                layer.build(shape)
                shape = layer.compute_output_shape(shape)
            self.leading.extend(leading)
            self.convolutions.append(last)
            fan_in = (9 if self.convolution == "dense" else 1) * high[-1]
            self.scales.append(fan_in_scale(fan_in) if self.scaled and not self.normalization else 1.0)
            if self.normalization:
                normalization = self._normalization(f"normalization_{index}")
                normalization.build(shape)
                self.normalizations.append(normalization)
        super().build(input_shape)

    def _leading(self, filters, index):
        """The layers between a higher map and the last convolution."""
        options = {"use_bias": False, "dtype": self.dtype_policy}
        if self.convolution == "separable":
            # Nine weights see each channel; Keras's own initializers would count all channels.
            start = keras.initializers.RandomNormal(stddev=1 / 3)
            depthwise = DepthwiseConv2D(
                3, padding="same", depthwise_initializer=start, name=f"depthwise_{index}", **options
            )
            return [depthwise]
        if self.convolution == "bottleneck":
            width = -(-filters // 4)
            kernels = [copy_initializer(self.kernel_initializer) for _ in range(2)]
            return [
                Conv2D(width, 1, kernel_initializer=kernels[0], name=f"reduction_{index}", **options),
                Conv2D(
                    width,
                    3,
                    padding="same",
                    kernel_initializer=kernels[1],
                    name=f"middle_{index}",
                    **options,
                ),
            ]
        return []

    def _last(self, filters, index):
        # Under normalization the kernels' size does not matter: the identity is its scales' business.
        identity = self.init == "identity" and not self.normalization
        return Conv2D(
            filters,
            3 if self.convolution == "dense" else 1,
            padding="same",
            use_bias=not self.normalization,
            kernel_initializer="zeros" if identity else copy_initializer(self.kernel_initializer),
            bias_initializer="ones" if identity else "zeros",
            dtype=self.dtype_policy,
            name=f"convolution_{index}",
        )

    def _normalization(self, name):
        scale, shift = ("zeros", "ones") if self.init == "identity" else ("ones", "zeros")
        return BatchNormalization(
            gamma_initializer=scale, beta_initializer=shift, dtype=self.dtype_policy, name=name
        )

    def factor_layers(self, index):
        """The convolutions behind higher map number `index`, from 0, the last one included."""
        leading = len(self.leading) // len(self.convolutions)
        return [*self.leading[index * leading : (index + 1) * leading], self.convolutions[index]]

    def call(self, inputs, training=None):
        low, *highs = inputs
        embedded = low
        for index, high in enumerate(highs):
            factor = high if self.scales[index] == 1.0 else high * self.scales[index]
            for layer in self.factor_layers(index):
                factor = layer(factor, training=training)
            if self.normalization:
                factor = self.normalizations[index](factor, training=training)
            embedded = embedded * self.resize([factor, low])
        return embedded

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[0])

    def get_config(self):
        return {
            **super().get_config(),
            "normalization": self.normalization,
            "init": self.init,
            "scaled": self.scaled,
            "convolution": self.convolution,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _check_maps(shapes):
    if not isinstance(shapes, (list, tuple)) or len(shapes) < 2 or not isinstance(shapes[0], (list, tuple)):
        raise ValueError(
            "SemanticEmbeddingBranch is called on a list [low, *highs] of at least two maps. "
            f"Received an input of shape {shapes}."
        )
    return shapes
