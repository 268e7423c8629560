"""What stands in the place of a convolution: batch normalization folded into it, its kernel in the best form."""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_exfuse._kernels import Conv2D, DepthwiseConv2D, dispatch
from keras_exfuse._kernels.case import case_of
from keras_exfuse._kernels.winograd import WinogradConv2D
from keras_exfuse.layers import BilinearResize, Deconvolution, SemanticEmbeddingBranch

# Where the output channels are in the last kernel. By exact type: a subclass may compute something else.
OUTPUT_AXES = {
    keras.layers.Dense: (-1,),
    keras.layers.Conv2D: (-1,),
    Conv2D: (-1,),
    keras.layers.SeparableConv2D: (-1,),
    keras.layers.Conv2DTranspose: (-2,),
    Deconvolution: (-2,),
    # (rows, columns, channels, multiplier): output channel = channel * multipliers + multiplier.
    keras.layers.DepthwiseConv2D: (-2, -1),
    DepthwiseConv2D: (-2, -1),
}


def folds(convolution, normalization, between) -> bool:
    """Whether batch normalization can become part of the layer in front of it.

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


def folded(convolution, normalization, winograd: bool):
    """A callable in the place of a convolution and the batch normalization behind it.

    Args:
        convolution: A layer of a type in `OUTPUT_AXES`.
        normalization: A `BatchNormalization`.
        winograd: As in `fuse_for_inference`.
    """

    def call(inputs, **keywords):
        weights = folded_weights(convolution, normalization)
        if takes_winograd(convolution, inputs, winograd):
            kernel, bias = weights
            return _convolved(inputs, kernel, bias, like=convolution, winograd=True)
        config = convolution.get_config()
        if not isinstance(convolution, Deconvolution):
            config["use_bias"] = True
        layer = convolution.__class__.from_config(config)
        outputs = layer(inputs)
        layer.set_weights(weights)
        return outputs

    return call


def reformed(convolution, winograd: bool):
    """A callable in the place of a convolution, in the form that is best for inference."""

    def call(inputs, **keywords):
        if isinstance(convolution, WinogradConv2D):
            weights = convolution.kernel_and_bias()
        else:
            weights = convolution.get_weights()
        kernel, bias = weights if len(weights) == 2 else (*weights, np.zeros(convolution.filters))
        chosen = takes_winograd(convolution, inputs, winograd)
        return _convolved(inputs, kernel, bias, like=convolution, winograd=chosen)

    return call


def opened_embedding(branch: SemanticEmbeddingBranch, winograd: bool):
    """A callable that computes what a semantic embedding branch does, from plain convolutions and products."""

    def call(maps, **keywords):
        low, *highs = maps
        embedded, policy = low, branch.dtype_policy
        for index, high in enumerate(highs):
            name = f"{branch.name}_{index + 1}"
            factor = _factor(branch, index, high, winograd, name)
            factor = BilinearResize(dtype=policy, name=f"{name}_resize")([factor, low])
            embedded = keras.layers.Multiply(dtype=policy, name=f"{name}_product")([embedded, factor])
        return embedded

    return call


def _factor(branch, index, high, winograd, name):
    """What a higher map contributes to a semantic embedding branch, at its own size."""
    *leading, last = branch.factor_layers(index)
    scale = branch.scales[index]
    for layer in leading:
        copy = layer.__class__.from_config({**layer.get_config(), "name": f"{name}_{layer.name}"})
        high = copy(high)
        copy.set_weights([scale * each for each in layer.get_weights()])
        scale = 1.0  # It is in the first kernel.
    if branch.normalization:
        kernel, bias = folded_weights(last, branch.normalizations[index])
    else:
        kernel, bias = last.get_weights()
    chosen = takes_winograd(last, high, winograd)
    return _convolved(high, kernel * scale, bias, like=last, winograd=chosen, name=name)


def takes_winograd(convolution, inputs, winograd: bool) -> bool:
    """Whether a convolution of a symbolic tensor is to hold its kernel transformed."""
    if not winograd or type(convolution) not in (Conv2D, WinogradConv2D):
        return False
    options = {}
    if isinstance(convolution, Conv2D):
        if convolution.activation not in (None, keras.activations.linear):
            return False
        options = {name: getattr(convolution, name) for name in ("strides", "padding", "dilation_rate")}
        kernel = (*convolution.kernel_size, inputs.shape[-1] // convolution.groups, convolution.filters)
    else:
        kernel = (3, 3, inputs.shape[-1], convolution.filters)
    case = case_of(inputs, kernel, **options)
    case = dataclasses.replace(case, dtype=convolution.compute_dtype)
    return dispatch.choose(dispatch.FUSED, case) is not None


def _convolved(inputs, kernel, bias, like, winograd, name=None):
    """Call a new convolution of stride 1 with these weights, its kernel transformed or not."""
    options = {"dtype": like.dtype_policy, "name": name or like.name}
    if winograd:
        layer = WinogradConv2D(like.filters, **options)
        outputs = layer(inputs)
        layer.set_kernel_and_bias(kernel, bias)
    else:
        layer = Conv2D(like.filters, kernel.shape[:2], padding="same", **options)
        outputs = layer(inputs)
        layer.set_weights([kernel, bias])
    return outputs


def folded_weights(convolution, normalization) -> list[np.ndarray]:
    """Kernels and the bias of a convolution that normalizes as well, in the layer's order."""
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
    """Batch normalization outside of training as `x * scale + shift`: two float64 vectors (channels,)."""
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
