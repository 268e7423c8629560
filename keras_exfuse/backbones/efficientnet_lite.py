"""EfficientNet-Lite: EfficientNet (Tan and Le 2019) without squeeze-excite and with ReLU6.

The numbers are those of Google's lite models: TensorFlow's asymmetric "same" padding, batch normalization
with epsilon 1e-3, input (image - 127) / 128. The pyramid taps are the last block of each stride.
"""

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar

import keras
from keras import layers

from keras_exfuse._kernels import BatchNormalization, Conv2D, DepthwiseConv2D, pad_sides
from keras_exfuse.backbones.normalization import ImageNormalization
from keras_exfuse.layers.initializers import NormalKernel

# One row a stage of Lite0: blocks, kernel size, stride, expansion, output channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_CHANNELS = 32  # the lite models never scale their stem
PYRAMID_STAGES = (1, 2, 4, 6)  # the last stages at strides 4, 8, 16 and 32


def scale_channels(channels: int, width: float) -> int:
    """Scale a channel count and round it to a multiple of eight, never down by more than a tenth."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def build_efficientnet_lite(
    name: str, width: float = 1.0, depth: float = 1.0, input_channels: int = 3
) -> keras.Model:
    """Build the backbone part of EfficientNet-Lite (everything in front of the 1280-channel head).

    Args:
        name: the model's name.
        width: channel multiplier (1.0, 1.0, 1.1 for Lite0, 1, 2); the stem keeps its 32 channels.
        depth: block multiplier (1.0, 1.1, 1.2); the first and the last stage keep their one block.
        input_channels: channels of the images.

    Returns:
        A model from RGB 0..255 (batch, height, width, 3) to four maps at strides 4, 8, 16 and 32
        (Lite0: 24, 40, 112 and 320 channels; a side n becomes ceil(n / stride)).

    Example:
        >>> [shape[-1] for shape in build_efficientnet_lite("efficientnet_lite0").output_shape]
        [24, 40, 112, 320]
    """
    images = keras.Input((None, None, input_channels), name="image")
    x = ImageNormalization((127.0,) * input_channels, (128.0,) * input_channels, name="normalization")(images)
    x = SamePadding(3, name="stem_conv_pad")(x)
    x = _convolution(x, STEM_CHANNELS, 3, strides=2, name="stem_conv")
    x = _batch_norm_relu6(x, "stem")
    pyramid = []
    block = 0
    for stage, (repeats, kernel_size, strides, expansion, channels) in enumerate(STAGES):
        if 0 < stage < len(STAGES) - 1:
            repeats = math.ceil(repeats * depth)
        for repeat in range(repeats):
            x = _inverted_residual(
                x,
                channels=scale_channels(channels, width),
                expansion=expansion,
                kernel_size=kernel_size,
                strides=strides if repeat == 0 else 1,
                name=f"block{block}",
            )
            block += 1
        if stage in PYRAMID_STAGES:
            pyramid.append(x)
    return keras.Model(images, pyramid, name=name)


def _inverted_residual(x, channels: int, expansion: int, kernel_size: int, strides: int, name: str):
    """1x1 expansion, depthwise convolution, linear 1x1 projection; the identity is added where it fits."""
    shortcut = x
    expanded = x.shape[-1] * expansion
    if expansion > 1:
        x = _batch_norm_relu6(_convolution(x, expanded, 1, name=f"{name}_expand_conv"), f"{name}_expand")
    if strides > 1:
        x = SamePadding(kernel_size, name=f"{name}_depthwise_conv_pad")(x)
    x = DepthwiseConv2D(
        kernel_size,
        strides=strides,
        padding="valid" if strides > 1 else "same",
        use_bias=False,
        # He's variance for one connection per kernel cell; Keras's fans do not fit a depthwise kernel.
        depthwise_initializer=NormalKernel(math.sqrt(2.0) / kernel_size),
        name=f"{name}_depthwise_conv",
    )(x)
    x = _batch_norm_relu6(x, f"{name}_depthwise")
    x = _convolution(x, channels, 1, name=f"{name}_project_conv")
    x = _batch_norm(x, f"{name}_project_bn")
    if strides == 1 and shortcut.shape[-1] == channels:
        x = layers.Add(name=f"{name}_add")([x, shortcut])
    return x


def _convolution(x, filters: int, kernel_size: int, strides: int = 1, *, name: str):
    return Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="valid",
        use_bias=False,
        kernel_initializer=NormalKernel(),
        name=name,
    )(x)


def _batch_norm(x, name: str):
    return BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)(x)


def _batch_norm_relu6(x, name: str):
    return layers.ReLU(max_value=6.0, name=f"{name}_relu6")(_batch_norm(x, f"{name}_bn"))


# A context variable: what an export in one thread says does not reach another that predicts.
_sides_are_even: ContextVar[bool] = ContextVar("sides_are_even", default=False)


@contextlib.contextmanager
def even_sides() -> Iterator[None]:
    """What is traced inside pads by fixed amounts, for maps whose sides are known to be even, if not how long.

    Engines make such a padding a part of the convolution behind it; one that is computed stays by itself, with
    transpositions around it.
    """
    token = _sides_are_even.set(True)
    try:
        yield
    finally:
        _sides_are_even.reset(token)


@keras.saving.register_keras_serializable(package="keras_exfuse")
class SamePadding(layers.Layer):
    """The zeros TensorFlow's "same" puts around a map before a convolution of stride 2.

    An even side gets (k - 3) / 2 zeros before and (k - 1) / 2 behind, an odd side one more before, so a
    side n becomes ceil(n / 2). Exact for every size, known or not when the graph is built; a layer of its
    own because "same" itself goes wrong in some exports where height and width are unknown.

    Args:
        kernel_size: odd size of the convolution that follows, 3 or more.

    Returns:
        The map (batch, height, width, channels) with zeros around it.

    Example:
        >>> tuple(SamePadding(3)(keras.ops.ones((1, 4, 5, 2))).shape)
        (1, 5, 7, 2)
    """

    def __init__(self, kernel_size: int, **kwargs):
        super().__init__(**kwargs)
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise ValueError(f"SamePadding expects an odd kernel_size of 3 or more, got {kernel_size}.")
        self.kernel_size = kernel_size

    def call(self, inputs):
        height, width = keras.ops.shape(inputs)[1:3]
        before, behind = (self.kernel_size - 3) // 2, (self.kernel_size - 1) // 2
        odd = (0, 0) if _sides_are_even.get() else (height % 2, width % 2)
        return pad_sides(inputs, (before + odd[0], behind), (before + odd[1], behind))

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        sides = [None if n is None else n + n % 2 + self.kernel_size - 2 for n in (height, width)]
        return (batch, *sides, channels)

    def get_config(self):
        return {**super().get_config(), "kernel_size": self.kernel_size}
