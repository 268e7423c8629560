"""Numbers that several parts share, each once."""

__version__ = "0.1.0"

#: The label of pixels that are ignored, in losses, metrics and masks.
IGNORE_CLASS = 255
#: The stride of the last of a backbone's four maps: sides are padded to its multiples.
STRIDE = 32
#: ImageNet's mean RGB color, 0..255: close to zero after any backbone's normalization.
MEAN_COLOR = (123.675, 116.28, 103.53)
#: The same for uint8 images, which are padded with it.
MEAN_COLOR_UINT8 = (124, 116, 104)


def cycled(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """A number for each of red, green and blue, for another number of channels: their mean for one, else in turns."""
    if channels == 1:
        return (sum(values) / len(values),)
    return tuple(values[channel % len(values)] for channel in range(channels))


def cycled_color(channels: int) -> tuple[float, ...]:
    """The mean color for images of this many channels."""
    return cycled(MEAN_COLOR, channels)
