"""Images as they are at hand, as arrays: files, bytes, open files, PIL images, arrays, tensors of any backend."""

import os
import re
from typing import Any

import numpy as np

from keras_exfuse.data.reading import decode_rgb, image_to_rgb, read_image
from keras_exfuse.models._values import as_array, check_values

ValueRange = tuple[float, float]

# Pillow's modes of more than eight bits: 32-bit and 16-bit integers, and floats.
_WIDE_MODES = ("I", "F")
_TAKES = (
    "Expected an image as an array (H, W, 3), a path, bytes of a file, an open file, a PIL image or a tensor; or "
    "several of them"
)


def check_range(value_range: ValueRange | None) -> ValueRange | None:
    """The range as floats, or a `ValueError` unless it is `None` or two finite numbers in order."""
    if value_range is None:
        return None
    try:
        low, high = (float(value) for value in value_range)
    except (TypeError, ValueError):
        low, high = 1.0, 0.0
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(
            f"`value_range` must be (black, white), two numbers in this order such as (0, 65535) or (-1, 1), got "
            f"{value_range!r}."
        )
    return low, high


def is_one(images: Any) -> bool:
    """Whether this is one image, not several."""
    if hasattr(images, "shape"):
        return len(images.shape) != 4
    if isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike, dict)):
        return True
    return hasattr(images, "convert") or hasattr(images, "read") or not hasattr(images, "__iter__")


def as_image(image: Any, value_range: ValueRange | None, channels: int = 3) -> np.ndarray:
    """One image as an array (H, W, channels), 0..255.

    Args:
        image: What `keras_exfuse.Predictor` takes as one image.
        value_range: What stands for black and white in arrays, tensors and PIL images of more than eight bits; `None`
            if they are 0..255, which is checked.
        channels: The model's; other than 3, only arrays and tensors have them.

    Raises:
        ValueError: If it is nothing that can be an image; the text says what it is.
    """
    if image is None:
        raise ValueError(
            f"{_TAKES}, got None. `cv2.imread` returns it for a file that it cannot read: check the path."
        )
    if isinstance(image, str) and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", image):
        raise ValueError(
            f"{image} is a URL, and only files are opened. Fetch it first, and pass its bytes: "
            "urllib.request.urlopen(url).read()."
        )
    if channels != 3 and not hasattr(image, "shape"):
        raise ValueError(
            f"The model takes images of {channels} channels, and files are read as RGB: give an array (H, W, "
            f"{channels}), or segment a GeoTIFF with keras_exfuse.inference.segment_geotiff."
        )
    if isinstance(image, (str, os.PathLike)):
        return read_image(image, value_range)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return decode_rgb(bytes(image), "the image given as bytes", value_range)
    if hasattr(image, "read"):
        return _read_open_file(image, value_range)
    if hasattr(image, "convert"):
        if not image.mode.startswith(_WIDE_MODES):
            return image_to_rgb(image)
        if value_range is None:
            raise ValueError(
                f"A PIL image of mode {image.mode} has more than 8 bits, and its range is not known. Give it, e.g. "
                "Predictor(model, value_range=(0, 65535)); for 12 bits it is (0, 4095)."
            )
        image = np.repeat(np.asarray(image)[..., None], 3, axis=-1)
    return _checked_array(image, value_range, channels)


def _read_open_file(file: Any, value_range: ValueRange | None) -> np.ndarray:
    content = file.read()
    name = str(getattr(file, "name", "the open file"))
    if isinstance(content, str):
        raise ValueError(f'{name} is opened as text. Open it as bytes: open(path, "rb").')
    if not content:
        raise ValueError(f"{name} gives no bytes: it is empty, or was read before. Call file.seek(0) first.")
    return decode_rgb(content, name, value_range)


def _checked_array(image: Any, value_range: ValueRange | None, channels: int) -> np.ndarray:
    try:
        array = as_array(image)
    except (TypeError, ValueError) as error:  # Rows of different lengths, or what numpy cannot take.
        raise ValueError(f"{_TAKES}, got {type(image).__name__}: {error}") from error
    if array.dtype.kind == "V" and "float" in array.dtype.name:
        array = array.astype("float32")  # bfloat16, which numpy does not know by itself.
    if array.dtype.kind not in "buif":
        raise ValueError(f"{_TAKES}, got {type(image).__name__}.")
    if array.ndim == 3 and array.shape[0] == channels and array.shape[-1] != channels:
        raise ValueError(
            f"An image must have the shape (H, W, {channels}), got channels first, shape {array.shape}. Move them: "
            "np.moveaxis(image, 0, -1)."
        )
    if channels != 3 and (array.ndim != 3 or array.shape[-1] != channels):
        raise ValueError(f"The model takes images of shape (H, W, {channels}), got shape {array.shape}.")
    if array.ndim != 3 or array.shape[-1] != channels or 0 in array.shape:
        raise ValueError(
            f"An image must be RGB of shape (H, W, 3), got shape {array.shape}. Repeat a gray channel three "
            "times; drop an alpha channel."
        )
    if value_range is None:
        check_values(array, remedy=" Or give the range, e.g. Predictor(model, value_range=(0, 1)).")
        return array
    return scaled(array, value_range)


def scaled(array: np.ndarray, value_range: ValueRange) -> np.ndarray:
    """Values from black to white as 0..255, float32; what lies outside is cut.

    Raises:
        ValueError: If there are NaN or infinite values.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        check_values(array)
    low, high = value_range
    return np.clip((array.astype("float32") - low) * np.float32(255 / (high - low)), 0, 255)
