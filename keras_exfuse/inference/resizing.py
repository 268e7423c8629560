"""Bilinear resizing in numpy, for images and score maps that are on the host anyway.

A compiled resize would be traced again for every new size; this one never is.
"""

import numpy as np


def resize(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize (B, H, W, C) maps bilinearly with half-pixel centers, as the backends do without antialiasing.

    Args:
        maps: Array (B, H, W, C) of numbers.
        height: New height in pixels, 1 or more.
        width: New width in pixels, 1 or more.

    Returns:
        float32 array (B, height, width, C).
    """
    maps = np.asarray(maps, "float32")
    if maps.shape[1:3] == (height, width):
        return maps
    return _resize_axis(_resize_axis(maps, 1, height), 2, width)


def _resize_axis(maps: np.ndarray, axis: int, size: int) -> np.ndarray:
    old = maps.shape[axis]
    if old == size:
        return maps
    center = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
    low = np.floor(center).astype(int)
    high = np.minimum(low + 1, old - 1)
    share = (center - low).astype("float32").reshape([-1 if each == axis else 1 for each in range(4)])
    first = np.take(maps, low, axis)
    return first + share * (np.take(maps, high, axis) - first)
