"""What a form of a computation is chosen by."""

import dataclasses
import math

import keras

BACKEND = keras.backend.backend()

if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "jax":
    import jax
elif BACKEND == "torch":
    import torch


@dataclasses.dataclass(frozen=True)
class Case:
    """One call of a convolution, or of batch normalization.

    Args:
        inputs: Shape (B, H, W, C) of the maps; None for sides that are only known at run time.
        kernel: Shape of the kernel, (rows, columns, C / groups, filters) for a convolution.
        dtype: Name of the maps' dtype.
        device: "cpu", "gpu", or whatever else the backend computes on.
        training: Whether gradients will be asked for.
        strides, padding, dilation_rate: As for `keras.layers.Conv2D`.
        backend: "tensorflow", "jax", "torch" or another of Keras's.
    """

    inputs: tuple[int | None, ...]
    kernel: tuple[int, ...] = ()
    dtype: str = "float32"
    device: str = "cpu"
    training: bool = False
    strides: tuple[int, int] = (1, 1)
    padding: str = "same"
    dilation_rate: tuple[int, int] = (1, 1)
    backend: str = BACKEND

    @property
    def on(self) -> tuple[str, str]:
        """Backend and device."""
        return self.backend, self.device

    @property
    def groups(self) -> int:
        """Groups of a convolution; its channels and the kernel's shape tell."""
        return (self.inputs[-1] or 0) // self.kernel[2]

    @property
    def is_plain(self) -> bool:
        """Whether a convolution is dense, of stride 1, without dilation, and keeps the size."""
        return (
            self.groups == 1
            and self.strides == (1, 1)
            and self.dilation_rate == (1, 1)
            and (self.padding == "same" or self.kernel[:2] == (1, 1))
        )

    @property
    def products(self) -> int:
        """A kernel's channels times its filters: what the size of a matrix product depends on."""
        return math.prod(self.kernel[2:])


def case_of(
    inputs, kernel=(), *, strides=(1, 1), padding="same", dilation_rate=(1, 1), training=False
) -> Case:
    """The case of a tensor (B, H, W, C) and a kernel's shape."""
    return Case(
        inputs=tuple(side if isinstance(side, int) else None for side in inputs.shape),
        kernel=tuple(kernel),
        dtype=keras.backend.standardize_dtype(inputs.dtype),
        device=device_of(inputs),
        training=bool(training),
        strides=tuple(strides),
        padding=padding,
        dilation_rate=tuple(dilation_rate),
    )


def device_of(tensor=None) -> str:
    """Where a tensor is computed on, or would be by default: "cpu", "gpu", ..."""
    if BACKEND == "tensorflow":
        return "gpu" if tf.config.list_physical_devices("GPU") else "cpu"
    if BACKEND == "jax":
        return jax.default_backend()
    if BACKEND == "torch":
        device = getattr(tensor, "device", None)
        kind = device.type if device is not None else ("cuda" if torch.cuda.is_available() else "cpu")
        return "gpu" if kind == "cuda" else kind
    return "other"
