"""Parameters and MACs of a Keras model, the latter counted layer by layer while it is traced.

Counted are convolutions, transposed convolutions and dense layers, as they are computed: an output pixel of a
convolution costs one MAC a kernel cell it sees (a group sees its own channels only), an input pixel of
a transposed convolution one a kernel cell. A convolution whose kernel is transformed counts as the convolution that
it is, as everywhere, though it multiplies less. A pixel of the border counts like any other. Not counted are sums,
products of maps, resizing, pooling, normalization and activations, as is the custom.
"""

import dataclasses
import math
from unittest import mock

import keras

from keras_exfuse import ExFuse, layers
from keras_exfuse._kernels.winograd import WinogradConv2D

DENSELY = layers.DenselyAdjacentDeconvolution
TRANSPOSED = (keras.layers.Conv2DTranspose, layers.Deconvolution)
CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


@dataclasses.dataclass(frozen=True)
class Row:
    """The cost of one call of one layer."""

    layer: keras.layers.Layer
    macs: int

    @property
    def name(self) -> str:
        return self.layer.path


class _Traced(keras.layers.Layer):
    """Around a model, so that its `call` is traced: no number is computed, and inside all sizes are known."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, image):
        return self.model(image, training=False)


def count(model: keras.Model, height: int, width: int, channels: int = 3) -> list[Row]:
    """MACs of every layer that has any, for one image.

    Args:
        model: A model with one image as its input.
        height: Height of the image.
        width: Width of the image.
        channels: Channels of the image.

    Returns:
        A row a call of a layer, in the order of the computation.
    """
    rows = []
    original = keras.layers.Layer.__call__

    def recorded(layer, *args, **kwargs):
        outputs = original(layer, *args, **kwargs)
        cost = _cost(layer, args[0], outputs) if args else 0
        if cost:
            rows.append(Row(layer, cost))
        return outputs

    with mock.patch.object(keras.layers.Layer, "__call__", recorded):
        _Traced(model)(keras.KerasTensor((1, height, width, channels)))
    return rows


def total(rows: list[Row]) -> int:
    """The sum of all rows."""
    return sum(row.macs for row in rows)


def parameters(model: keras.Model) -> int:
    """Trained numbers of a model: running statistics of batch normalization are none."""
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def stand_in(channels: tuple[int, ...]) -> keras.Model:
    """Four maps with these channels from almost nothing, to count a decoder without building its backbone."""
    image = keras.Input((None, None, 3))
    maps = []
    for stride, filters in zip((4, 8, 16, 32), channels, strict=True):
        pooled = keras.layers.AveragePooling2D(stride)(image)
        maps.append(keras.layers.Conv2D(filters, 1, kernel_initializer="zeros")(pooled))
    return keras.Model(image, maps, name="stand_in")


def count_decoder(
    channels: tuple[int, ...], size: int, num_classes: int = 21, **variant
) -> tuple[int, list[Row]]:
    """Parameters and rows of MACs of an ExFuse without its backbone.

    Args:
        channels: Channels of the backbone's four maps.
        size: Height and width of the image, a multiple of 32.
        num_classes: As in `ExFuse`.
        **variant: Other arguments of `ExFuse`.

    Returns:
        Trained parameters, and a row a call of a layer.
    """
    model = ExFuse(num_classes, backbone=stand_in(channels), **variant)
    backbone = {id(layer) for layer in model.backbone.layers}
    rows = [row for row in count(model, size, size) if id(row.layer) not in backbone]
    return parameters(model) - parameters(model.backbone), rows


def _cost(layer, inputs, outputs) -> int:
    if isinstance(layer, DENSELY):
        return _pixels(inputs) * _combined_kernel_size(layer, inputs)
    if isinstance(layer, TRANSPOSED):
        return _pixels(inputs) * math.prod(layer.kernel.shape)
    if isinstance(layer, WinogradConv2D):
        return _pixels(outputs) * 9 * inputs.shape[-1] * layer.filters
    if isinstance(layer, CONVOLUTIONS):
        return _pixels(outputs) * math.prod(layer.kernel.shape)
    if isinstance(layer, keras.layers.Dense):
        return math.prod(outputs.shape[:-1]) * math.prod(layer.kernel.shape)
    if any(len(weight.shape) > 1 for weight in layer._trainable_variables):
        raise ValueError(
            f"Counting MACs knows convolutions, transposed convolutions and dense layers. {layer.path} "
            f"is a {type(layer).__name__} with kernels of its own; teach `_cost` what it costs."
        )
    return 0


def _pixels(tensor) -> int:
    batch, height, width, _ = tensor.shape
    return batch * height * width


def _combined_kernel_size(layer, inputs) -> int:
    """Cells of the one kernel that deconvolution and densely adjacent prediction are computed with."""
    size = layer.kernel_size + layer.window_size - 1
    return size * size * layer.num_classes * inputs.shape[-1]
