"""Batch normalisation as part of the layer in front of it: its weights computed once, in float64."""

import keras
import numpy as np
from keras import ops

from keras_exfuse.layers import (
    Convolution,
    Deconvolution,
    DepthwiseConvolution,
    GroupedConvolution,
    SemanticEmbeddingBranch,
    TransformedConvolution,
    WideConvolution,
)

# Where the output channels are in the last kernel. By exact type: a subclass may compute something else.
OUTPUT_AXES = {
    keras.layers.Dense: (-1,),
    keras.layers.Conv2D: (-1,),
    Convolution: (-1,),
    GroupedConvolution: (-1,),
    WideConvolution: (-1,),
    keras.layers.SeparableConv2D: (-1,),
    keras.layers.Conv2DTranspose: (-2,),
    Deconvolution: (-2,),
    # (rows, columns, channels, multiplier): output channel = channel * multipliers + multiplier.
    keras.layers.DepthwiseConv2D: (-2, -1),
    DepthwiseConvolution: (-2, -1),
}


def folds(convolution, normalization, between) -> bool:
    """Whether batch normalisation can become part of the layer in front of it.

    Args:
        convolution: The layer in front, which nothing else reads.
        normalization: A `BatchNormalization`.
        between: The symbolic tensor between the two.
    """
    if type(convolution) not in OUTPUT_AXES:
        return False
    if getattr(convolution, "activation", None) not in (None, keras.activations.linear):
        return False
    if getattr(convolution, "quantization_mode", None) or getattr(convolution, "lora_enabled", False):
        return False
    channels_first = getattr(convolution, "data_format", "channels_last") == "channels_first"
    channel_axis = 1 if channels_first else len(between.shape) - 1
    return (
        normalization.axis % len(between.shape) == channel_axis
        and normalization.compute_dtype == convolution.compute_dtype
    )


class Folded:
    """A layer that takes the place of a convolution and the batch normalisation behind it.

    Args:
        convolution: A layer of a type in `OUTPUT_AXES`.
        normalization: A `BatchNormalization`.
    """

    def __init__(self, convolution, normalization):
        self.convolution, self.normalization = convolution, normalization

    def __call__(self, inputs, **keywords):
        """Make the layer by calling it on a symbolic tensor, then set its weights."""
        config = self.convolution.get_config()
        if not isinstance(self.convolution, Deconvolution):
            config["use_bias"] = True
        layer = self.convolution.__class__.from_config(config)
        outputs = layer(inputs)
        layer.set_weights(folded_weights(self.convolution, self.normalization))
        return outputs


def plain_embedding(branch: SemanticEmbeddingBranch, transform_kernels: bool):
    """A branch that computes what one with batch normalisation computes, its wide kernels transformed if wanted."""
    # Half precision would lose digits in the sums of the transforms.
    transformed = transform_kernels and branch.compute_dtype == "float32"

    def call(maps):
        changed = {"normalization": False, "transformed": transformed}
        plain = SemanticEmbeddingBranch.from_config({**branch.get_config(), **changed})
        outputs = plain(maps)
        weights = [_kernel_and_bias(each) for each in branch.convolutions]
        if branch.normalization:
            pairs = zip(branch.convolutions, branch.normalizations, strict=True)
            weights = [folded_weights(*pair) for pair in pairs]
        for convolution, (kernel, bias) in zip(plain.convolutions, weights, strict=True):
            if isinstance(convolution, TransformedConvolution):
                convolution.set_kernel_and_bias(kernel, bias)
            else:
                convolution.set_weights([kernel, bias])
        return outputs

    return call


def _kernel_and_bias(convolution) -> list[np.ndarray]:
    if isinstance(convolution, TransformedConvolution):
        return convolution.kernel_and_bias()
    return convolution.get_weights()


def folded_weights(convolution, normalization) -> list[np.ndarray]:
    """Kernels and the bias of a convolution that normalises as well, in the layer's order."""
    scale, shift = scale_and_shift(normalization)
    *kernels, last = [np.asarray(each, "float64") for each in convolution.get_weights()]
    bias = np.zeros(1)
    if getattr(convolution, "use_bias", True):
        bias = last
        *kernels, last = kernels
    shape = [1] * last.ndim
    for axis in OUTPUT_AXES[type(convolution)]:
        shape[axis] = last.shape[axis]
    return [*kernels, last * scale.reshape(shape), bias * scale + shift]


def scale_and_shift(normalization) -> tuple[np.ndarray, np.ndarray]:
    """Batch normalisation outside of training as `x * scale + shift`: two float64 vectors (channels,)."""
    mean, variance = (
        ops.convert_to_numpy(each).astype("float64")
        for each in (normalization.moving_mean, normalization.moving_variance)
    )
    scale = 1 / np.sqrt(variance + normalization.epsilon)
    if normalization.scale:
        scale = scale * ops.convert_to_numpy(normalization.gamma)
    shift = -mean * scale
    if normalization.center:
        shift = shift + ops.convert_to_numpy(normalization.beta)
    return scale, shift
