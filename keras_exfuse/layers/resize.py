"""Sizes: bilinear resize to another map's size, padding to a multiple, and the crop that undoes it."""

import keras
from keras import ops

from keras_exfuse import _kernels
from keras_exfuse._constants import MEAN_COLOR


@keras.saving.register_keras_serializable(package="keras_exfuse")
class BilinearResize(keras.layers.Layer):
    """Resizes a map to the height and width of another one.

    Half-pixel centers (`align_corners=False` in PyTorch), computed in float32 under any dtype policy.
    It works with sizes known only at run time on every backend and every supported Keras version.

    Call arguments:
        inputs: `[map, like]`: the map (B, H, W, C) to resize, and a map (B, H', W', any) of the wanted size.

    Returns:
        A tensor (B, H', W', C).

    Source: our choice; ExFuse (section 3.2) says bilinear upsampling and leaves the corner convention open.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> resize = keras_exfuse.layers.BilinearResize()
    >>> tuple(resize([np.zeros((1, 4, 5, 3), "float32"), np.zeros((1, 9, 7, 1), "float32")]).shape)
    (1, 9, 7, 3)
    """

    def call(self, inputs):
        images, like = inputs
        _, height, width, _ = ops.shape(like)
        return _kernels.resize_bilinear(images, height, width)

    def compute_output_shape(self, input_shape):
        images, like = input_shape
        return (images[0], like[1], like[2], images[3])

    def get_config(self):
        # Keras's own puts the constructor's arguments in as they are, also a dtype policy.
        return super().get_config()


@keras.saving.register_keras_serializable(package="keras_exfuse")
class PadToMultiple(keras.layers.Layer):
    """Pads images at the bottom and right until both sides are multiples of a number.

    A backbone of stride 32 then halves its maps exactly, so that every upsampling meets its skip
    connection without cropping, for any image size. The border is filled with one color.

    Args:
        multiple: Positive int, the sides' divisor.
        color: The filling, one float a channel. Defaults to ImageNet's mean RGB color, 0..255, which is
            close to zero after any backbone's normalization.

    Call arguments:
        inputs: A tensor (B, H, W, C).

    Returns:
        A tensor (B, H', W', C), H' and W' rounded up.

    Source: our choice; the papers pad training images to 512 or 640 with an unstated value.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> tuple(keras_exfuse.layers.PadToMultiple(32)(np.zeros((1, 33, 47, 3), "float32")).shape)
    (1, 64, 64, 3)
    """

    def __init__(self, multiple=32, color=MEAN_COLOR, **kwargs):
        super().__init__(**kwargs)
        if isinstance(multiple, bool) or not isinstance(multiple, int) or multiple < 1:
            raise ValueError(f"`multiple` must be a positive int. Received: multiple={multiple!r}")
        self.multiple = multiple
        self.color = tuple(float(value) for value in color)

    def call(self, inputs):
        _, height, width, _ = ops.shape(inputs)
        if self._is_multiple(height) and self._is_multiple(width):
            return inputs
        color = ops.convert_to_tensor(self.color, dtype=inputs.dtype)
        # Pad by the most that can be needed, then slice: a pad of a size known only at run time is not
        # to be had on every backend, a slice is.
        most = self.multiple - 1
        padded = ops.pad(inputs, ((0, 0), (0, most), (0, most), (0, 0)))
        padded = padded[:, : self._round_up(height), : self._round_up(width), :]
        # The color is put in, not added to what is there: sums of half precision would round the image.
        rows, columns = (ops.arange(self._round_up(size)) < size for size in (height, width))
        inside = ops.logical_and(rows[:, None, None], columns[None, :, None])
        return ops.where(inside, padded, color)

    def _round_up(self, size):
        return (size + self.multiple - 1) // self.multiple * self.multiple

    def _is_multiple(self, size):
        return isinstance(size, int) and size % self.multiple == 0

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        height, width = (None if size is None else self._round_up(size) for size in (height, width))
        return (batch, height, width, channels)

    def get_config(self):
        return {**super().get_config(), "multiple": self.multiple, "color": self.color}


@keras.saving.register_keras_serializable(package="keras_exfuse")
class CropLike(keras.layers.Layer):
    """Cuts a map at the bottom and right to the height and width of another: undoes `PadToMultiple`.

    Call arguments:
        inputs: `[map, like]`: the map (B, H, W, C) to cut, and a map (B, H', W', any), H' <= H and W' <= W.

    Returns:
        A tensor (B, H', W', C).

    Source: our choice, see `PadToMultiple`.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> crop = keras_exfuse.layers.CropLike()
    >>> tuple(crop([np.zeros((1, 64, 64, 21), "float32"), np.zeros((1, 33, 47, 3), "float32")]).shape)
    (1, 33, 47, 21)
    """

    def call(self, inputs):
        images, like = inputs
        _, height, width, _ = ops.shape(like)
        return images[:, :height, :width, :]

    def compute_output_shape(self, input_shape):
        images, like = input_shape
        return (images[0], like[1], like[2], images[3])

    def get_config(self):
        # Keras's own puts the constructor's arguments in as they are, also a dtype policy.
        return super().get_config()
