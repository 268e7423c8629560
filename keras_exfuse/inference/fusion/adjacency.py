"""Deconvolution, boundary refinement and densely adjacent prediction in a row, joined: kernels and layers for it."""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_exfuse._kernels import Conv2D, dispatch
from keras_exfuse.layers import (
    BoundaryRefinement,
    ChannelResolutionEmbedding,
    Deconvolution,
    DenselyAdjacentDeconvolution,
    DenselyAdjacentPrediction,
)

# === Kernels ===


def joined_kernel(deconvolution: np.ndarray, convolution: np.ndarray) -> np.ndarray:
    """The kernel of a transposed convolution and a convolution behind it, computed as one transposed convolution.

    Args:
        deconvolution: Kernel (k, k, between, in) of a transposed convolution that is not cropped.
        convolution: Kernel (w, w, between, out), of stride 1.

    Returns:
        Kernel (k + w - 1, k + w - 1, out, in). Uncropped, its result is w - 1 pixels larger on each side than that of
        a convolution which uses no pixel from beyond the border.
    """
    size, window = len(deconvolution), len(convolution)
    total = size + window - 1
    joined = np.zeros((total, total, convolution.shape[3], deconvolution.shape[3]))
    for row in range(window):
        for column in range(window):
            top, left = window - 1 - row, window - 1 - column
            joined[top : top + size, left : left + size] += np.einsum(
                "yxbi,bo->yxoi", deconvolution, convolution[row, column], optimize=True
            )
    return joined


def joined_convolutions(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The kernel (a + b - 1, a + b - 1, in, out) of two convolutions, (a, a, in, between) and (b, b, between, out)."""
    size, window = len(first), len(second)
    total = size + window - 1
    joined = np.zeros((total, total, first.shape[2], second.shape[3]))
    for row in range(window):
        for column in range(window):
            joined[row : row + size, column : column + size] += np.einsum(
                "yxib,bo->yxio", first, second[row, column], optimize=True
            )
    return joined


def averaging_kernel(num_classes: int, window_size: int) -> np.ndarray:
    """Densely adjacent prediction as a kernel (k, k, k * k * num_classes, num_classes)."""
    groups = np.eye(window_size**2).reshape(window_size, window_size, window_size**2, 1, 1)
    kernel = groups * np.eye(num_classes) / window_size**2
    return kernel.reshape(window_size, window_size, -1, num_classes)


def dense_kernel(kernel: np.ndarray, groups: int) -> np.ndarray:
    """A grouped convolution's kernel with the zeros between the groups written out."""
    height, width, inputs, outputs = kernel.shape
    dense = np.zeros((height, width, inputs * groups, outputs))
    share = outputs // groups
    for group in range(groups):
        channels = slice(group * share, (group + 1) * share)
        dense[:, :, group * inputs : (group + 1) * inputs, channels] = kernel[..., channels]
    return dense


# === Layers ===


def single_deconvolution(layer: DenselyAdjacentDeconvolution):
    """Stores the kernel that the layer computes from its weights at each call."""

    def call(inputs):
        kernel, bias = (ops.convert_to_numpy(each) for each in layer.combined_kernel())
        return _deconvolve(inputs, kernel, bias, layer, layer.name)

    return call


def _deconvolve(inputs, kernel, bias, like, name, crop=True):
    """Call a new transposed convolution of stride 2 with these weights.

    With a kernel of 6, 10, ... rows it is a convolution of 3, 5, ... rows to four times the channels and a shuffle:
    the same products in an operation that every backend has a well-tuned kernel for.
    """
    rows, filters, policy = len(kernel), kernel.shape[2], like.dtype_policy
    if rows % 4 == 2:
        if not crop:
            inputs = keras.layers.ZeroPadding2D(
                rows // 4, data_format="channels_last", dtype=policy, name=f"{name}_pad"
            )(inputs)
        layer = ChannelResolutionEmbedding(filters, kernel_size=rows // 2, dtype=policy, name=name)
        outputs = layer(inputs)
        layer.set_weights([shuffled_kernel(kernel), np.tile(bias, 4)])
        return outputs
    layer = Deconvolution(filters, rows, crop=crop, dtype=policy, name=name)
    outputs = layer(inputs)
    layer.set_weights([kernel, bias])
    return outputs


def shuffled_kernel(kernel: np.ndarray) -> np.ndarray:
    """The kernel of the convolution in front of a shuffle by 2 that computes what a transposed convolution does.

    Args:
        kernel: (4 * n + 2, 4 * n + 2, out, in), of stride 2, cropped to twice the input's size.

    Returns:
        (2 * n + 1, 2 * n + 1, in, 4 * out).
    """
    # Row r of the sub-pixel y reads the row 4 * n + y - 2 * r: every other row, from the last to the first.
    phases = [kernel[-2 + y :: -2, -2 + x :: -2] for y in (0, 1) for x in (0, 1)]
    return np.concatenate([phase.transpose(0, 1, 3, 2) for phase in phases], axis=-1)


@dataclasses.dataclass
class AdjacentChain:
    """A deconvolution, boundary refinement or none, a crop or none, and densely adjacent prediction, in a row.

    Args:
        deconvolution: `Deconvolution(crop=False)`.
        refinement: `BoundaryRefinement` or None.
        crop: `keras.layers.Cropping2D` or None.
        prediction: `DenselyAdjacentPrediction(padding="valid")`.
    """

    deconvolution: Deconvolution
    refinement: BoundaryRefinement | None
    crop: keras.layers.Cropping2D | None
    prediction: DenselyAdjacentPrediction

    @classmethod
    def ending_with(cls, prediction, graph) -> "AdjacentChain | None":
        """The chain behind which an operation stands, if it is such a chain's last one and nothing else reads of it.

        Args:
            prediction: An operation of the model.
            graph: The model's `Graph`.
        """
        if not isinstance(prediction, DenselyAdjacentPrediction) or prediction.padding != "valid":
            return None
        previous = graph.before(graph.node(prediction))
        found: dict[str, Any] = {"prediction": prediction, "crop": None, "refinement": None}
        for name, kind in (("crop", keras.layers.Cropping2D), ("refinement", BoundaryRefinement)):
            if previous is not None and isinstance(previous.operation, kind):
                found[name] = previous.operation
                previous = graph.before(previous)
        if previous is None or not isinstance(previous.operation, Deconvolution):
            return None
        chain = cls(deconvolution=previous.operation, **found)
        return chain if chain.fits() else None

    def fits(self) -> bool:
        """Whether joining is exact, the result having twice the size of the input as in `ExFuse`, and worth it."""
        grouped = self.refinement is not None and self.refinement.groups > 1
        if grouped and dispatch.has_native_groups():
            # Joining would write out the zeros between the groups.
            return False
        margin = self.deconvolution.kernel_size - 2
        wanted = margin // 2 - self.prediction.window_size // 2
        cropped = 0
        if self.crop is not None:
            if (
                self.crop.data_format != "channels_last"
                or len({*self.crop.cropping[0], *self.crop.cropping[1]}) > 1
            ):
                return False
            cropped = self.crop.cropping[0][0]
        return not self.deconvolution.crop and cropped == wanted

    @property
    def operations(self):
        """All layers of the chain, in order."""
        return [
            each
            for each in (self.deconvolution, self.refinement, self.crop, self.prediction)
            if each is not None
        ]

    def rebuilt(self):
        """What computes the same from the deconvolution's input."""
        return self._call_plain if self.refinement is None else self._call_refined

    def _call_plain(self, inputs):
        kernel, bias = _weights(self.deconvolution)
        averaging = averaging_kernel(self.prediction.num_classes, self.prediction.window_size)
        joined = joined_kernel(kernel, averaging)
        bias = np.einsum("b,yxbo->o", bias, averaging)
        return _deconvolve(inputs, joined, bias, self.deconvolution, self.deconvolution.name)

    def _call_refined(self, inputs):
        """DAP(S + second(ReLU(first(S)))), S the deconvolution's result, as DAP(S) + DAP(second(ReLU(first(S)))).

        DAP(S) is one transposed convolution, so is first(S), and DAP(second(...)) is one convolution.
        """
        assert self.refinement is not None
        scores = self._call_plain(inputs)
        hidden = self._first(inputs)
        averaging = averaging_kernel(self.prediction.num_classes, self.prediction.window_size)
        kernel, bias = _weights(self.refinement.second)
        joined = joined_convolutions(dense_kernel(kernel, self.refinement.groups), averaging)
        policy, name = self.refinement.dtype_policy, self.refinement.name
        second = Conv2D(
            self.prediction.num_classes,
            len(joined),
            padding="same",
            dtype=policy,
            name=f"{name}_second",
        )
        residual = second(hidden)
        second.set_weights([joined, np.einsum("b,yxbo->o", bias, averaging)])
        margin = self.deconvolution.kernel_size // 2 - 1
        residual = keras.layers.Cropping2D(
            margin, data_format="channels_last", dtype=policy, name=f"{name}_crop"
        )(residual)
        return keras.layers.Add(dtype=policy, name=name)([scores, residual])

    def _first(self, inputs):
        """ReLU(first(S)) without S."""
        assert self.refinement is not None
        policy, name = self.refinement.dtype_policy, self.refinement.name
        kernel, bias = _weights(self.deconvolution)
        first, first_bias = _weights(self.refinement.first)
        first = dense_kernel(first, self.refinement.groups)
        # `first` reads zeros, not the deconvolution's bias, beyond the border: what the bias adds depends on
        # the place.
        hidden = _deconvolve(
            inputs,
            joined_kernel(kernel, first),
            np.zeros(len(bias)),
            self.refinement,
            f"{name}_first",
            crop=False,
        )
        hidden = keras.layers.Cropping2D(
            1, data_format="channels_last", dtype=policy, name=f"{name}_first_crop"
        )(hidden)
        place = BorderBias(3, dtype=policy, name=f"{name}_first_bias")
        hidden = place(hidden)
        place.set_weights([np.einsum("b,yxbo->yxo", bias, first)[:, :, None], first_bias])
        return keras.layers.ReLU(dtype=policy, name=f"{name}_relu")(hidden)


def _weights(layer) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias as float64."""
    kernel, bias = layer.get_weights()
    return kernel.astype("float64"), bias.astype("float64")


@keras.saving.register_keras_serializable(package="keras_exfuse")
class BorderBias(keras.layers.Layer):
    """Adds what a `same` convolution makes of a constant map: a bias that differs at the border.

    Args:
        kernel_size: Odd int, the convolution's kernel.

    Call arguments:
        inputs: A tensor (B, H, W, C).

    Returns:
        A tensor of the same shape.
    """

    def __init__(self, kernel_size, **kwargs):
        super().__init__(**kwargs)
        self.kernel_size = kernel_size

    def build(self, input_shape):
        self.convolution = Conv2D(
            input_shape[-1],
            self.kernel_size,
            padding="same",
            dtype=self.dtype_policy,
            name="convolution",
        )
        self.convolution.build((*input_shape[:-1], 1))
        super().build(input_shape)

    def call(self, inputs):
        return inputs + self.convolution(ops.ones_like(inputs[:1, :, :, :1]))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "kernel_size": self.kernel_size}
