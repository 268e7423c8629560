"""From RGB 0..255 to the numbers a backbone was trained on."""

from collections.abc import Sequence

import keras

IMAGENET_STANDARD_DEVIATION = (58.395, 57.12, 57.375)


@keras.saving.register_keras_serializable(package="keras_exfuse")
class ImageNormalization(keras.layers.Layer):
    """(image - mean) / standard deviation, a constant per channel, computed in float32.

    It is always float32, mixed precision or not: half precision would round the image before the
    network has seen it. The layers behind it cast to their own compute type.

    Args:
        mean: one number per channel, in units of the image (0..255).
        standard_deviation: one positive number per channel, same units.
        reverse_channels: hand the channels on in the opposite order, RGB as BGR; mean and standard
            deviation are those of the incoming order.

    Returns:
        A float32 tensor of the input's shape.

    Example:
        >>> ones = ImageNormalization((127,) * 3, (128,) * 3)(keras.ops.full((1, 1, 1, 3), 255.0))
        >>> float(ones[0, 0, 0, 0])
        1.0
    """

    def __init__(
        self,
        mean: Sequence[float],
        standard_deviation: Sequence[float],
        reverse_channels: bool = False,
        **kwargs,
    ):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.mean = tuple(float(value) for value in mean)
        self.standard_deviation = tuple(float(value) for value in standard_deviation)
        self.reverse_channels = reverse_channels
        if len(self.mean) != len(self.standard_deviation) or min(self.standard_deviation, default=0) <= 0:
            raise ValueError(
                "ImageNormalization expects as many positive standard deviations as means, got "
                f"mean={self.mean}, standard_deviation={self.standard_deviation}."
            )

    def call(self, images):
        mean = keras.ops.convert_to_tensor(self.mean, "float32")
        scale = keras.ops.convert_to_tensor([1 / value for value in self.standard_deviation], "float32")
        normalized = (keras.ops.cast(images, "float32") - mean) * scale
        return keras.ops.flip(normalized, axis=-1) if self.reverse_channels else normalized

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "mean": self.mean,
            "standard_deviation": self.standard_deviation,
            "reverse_channels": self.reverse_channels,
        }
