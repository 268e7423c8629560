"""ResNet and ResNeXt as torchvision and timm have them, and the ExFuse paper's rearranged ones.

He et al. 2016 and Xie et al. 2017 with the stride on the 3x3 convolution ("version 1.5"), no bias in any
convolution, batch normalization with epsilon 1e-5, and explicit symmetric padding: public torch weights
fit exactly. The stages are called res2..res5, as in Fig. 2 of the ExFuse paper.
"""

from collections.abc import Sequence

import keras
from keras import layers

from keras_exfuse._constants import MEAN_COLOR, cycled
from keras_exfuse._kernels import BatchNormalization, Conv2D
from keras_exfuse.backbones.normalization import IMAGENET_STANDARD_DEVIATION, ImageNormalization
from keras_exfuse.layers.initializers import NormalKernel

EXPANSION = 4  # a bottleneck block returns four times its stage's base width


def build_resnet(
    name: str,
    depths: Sequence[int],
    cardinality: int = 1,
    width_per_group: int = 64,
    input_channels: int = 3,
) -> keras.Model:
    """Build a bottleneck ResNet (cardinality 1) or ResNeXt.

    Args:
        name: the model's name.
        depths: blocks in res2, res3, res4 and res5, e.g. (3, 4, 23, 3).
        cardinality: number of groups of the 3x3 convolutions (32 in ResNeXt-101 32x4d).
        width_per_group: channels of one group in res2 (4 in ResNeXt-101 32x4d); doubles at each stage.
        input_channels: channels of the images.

    Returns:
        A model from RGB 0..255 (batch, height, width, 3) to four maps of 256, 512, 1024 and 2048 channels
        at strides 4, 8, 16 and 32 (a side n becomes ceil(n / stride)).

    Source:
        ExFuse section 3.2 for the depths {8, 8, 9, 8}; the other depths are He et al. 2016, table 1.

    Example:
        >>> backbone = build_resnet("resnet50", (3, 4, 6, 3))
        >>> [shape[-1] for shape in backbone.output_shape]
        [256, 512, 1024, 2048]
    """
    images = keras.Input((None, None, input_channels), name="image")
    mean = cycled(MEAN_COLOR, input_channels)
    deviation = cycled(IMAGENET_STANDARD_DEVIATION, input_channels)
    x = ImageNormalization(mean, deviation, name="normalization")(images)
    x = _convolution(x, 64, kernel_size=7, strides=2, name="stem_conv")
    x = _batch_norm(x, "stem_bn")
    x = layers.ReLU(name="stem_relu")(x)
    # torch pads its max pool with -infinity; behind a ReLU a zero never beats the window's own maximum.
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, padding="valid", name="stem_pool")(x)
    pyramid = []
    for stage, depth in enumerate(depths):
        for block in range(depth):
            x = _bottleneck(
                x,
                channels=64 * 2**stage * EXPANSION,
                width=cardinality * width_per_group * 2**stage,
                cardinality=cardinality,
                strides=2 if stage > 0 and block == 0 else 1,
                project=block == 0,
                name=f"res{stage + 2}_block{block + 1}",
            )
        pyramid.append(x)
    return keras.Model(images, pyramid, name=name)


def _bottleneck(x, channels: int, width: int, cardinality: int, strides: int, project: bool, name: str):
    """1x1 down, 3x3 (grouped, strided), 1x1 up, plus the identity or its projection."""
    shortcut = x
    if project:
        shortcut = _convolution(x, channels, 1, strides, name=f"{name}_downsample_conv")
        shortcut = _batch_norm(shortcut, f"{name}_downsample_bn")
    x = _convolution(x, width, 1, name=f"{name}_conv1")
    x = layers.ReLU(name=f"{name}_relu1")(_batch_norm(x, f"{name}_bn1"))
    x = _convolution(x, width, 3, strides, groups=cardinality, name=f"{name}_conv2")
    x = layers.ReLU(name=f"{name}_relu2")(_batch_norm(x, f"{name}_bn2"))
    x = _batch_norm(_convolution(x, channels, 1, name=f"{name}_conv3"), f"{name}_bn3")
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, shortcut]))


def _convolution(x, filters: int, kernel_size: int, strides: int = 1, groups: int = 1, *, name: str):
    """A convolution padded by kernel_size // 2 on each side, as torch does it.

    Without a stride that is Keras's "same". With one, "same" pads differently from torch, and with unknown
    height and width it goes wrong in some exports: there the padding is a layer of its own.
    """
    padding = "same"
    if strides > 1:
        padding = "valid"
        if kernel_size > 1:
            x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
    return Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        groups=groups,
        use_bias=False,
        kernel_initializer=NormalKernel(),
        name=name,
    )(x)


def _batch_norm(x, name: str):
    return BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)
