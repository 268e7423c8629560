"""An image with its mask, checked against each other."""

from typing import Any

import numpy as np

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse.data.masks import AS_STORED, MaskFormat
from keras_exfuse.data.reading import PathLike, ValueRange, decode_image, read_bytes


def explain_pair(
    image_path: PathLike, mask_path: PathLike, num_classes: int, **mask_options: Any
) -> str | None:
    """Say what is wrong with an image and its mask.

    Args:
        image_path: The image.
        mask_path: Its mask; empty for none.
        num_classes: Labels must lie in 0..num_classes-1, or be 255.
        **mask_options: How to read the mask, as in `MaskFormat`.

    Returns:
        One line that names the file, or `None` if nothing is wrong.
    """
    try:
        checked_pair(image_path, mask_path, num_classes, MaskFormat(**mask_options))
    except ValueError as error:
        return str(error)
    return None


def checked_pair(
    image_path: PathLike,
    mask_path: PathLike,
    num_classes: int,
    mask_format: MaskFormat = AS_STORED,
    value_range: ValueRange | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Read an image and its mask, and check that they fit.

    Args:
        image_path: The image.
        mask_path: Its mask; empty for none, which gives a mask of 255.
        num_classes: Labels must lie in 0..num_classes-1, or be 255.
        mask_format: How to read the mask.
        value_range: As in `read_image`.

    Returns:
        Image (height, width, 3) and mask (height, width), both uint8.

    Raises:
        ValueError: If something is wrong; one line that names the file.
    """
    try:
        image = decode_image(read_bytes(image_path), image_path, value_range)
        if mask_path:
            stored = mask_format.stored(read_bytes(mask_path), mask_path)
        else:
            stored = np.full(image.shape[:2], IGNORE_CLASS, np.uint8)
    except ValueError as error:
        raise ValueError(" ".join(str(error).split())) from error
    if image.shape[:2] != stored.shape:
        raise ValueError(
            f"{mask_path}: the mask is {stored.shape[1]}x{stored.shape[0]}, its image {image_path} is "
            f"{image.shape[1]}x{image.shape[0]} (width x height, EXIF orientation applied); "
            "expected the same size."
        )
    table = mask_format.table() if mask_path else None
    mask = stored if table is None else table[stored]
    # The ignore label wraps to 0 when 1 is added, so one maximum checks all labels.
    if int((mask + np.uint8(1)).max(initial=0)) > num_classes:
        wrong = (mask >= num_classes) & (mask != IGNORE_CLASS)
        row, column = (int(v) for v in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
        found = int(mask[row, column])
        label = f"label {found}"
        if table is not None:
            label += f" (stored as {int(stored[row, column])})"
        raise ValueError(
            f"{mask_path}: {label} at row {row}, column {column} (the first of {int(wrong.sum())} pixels); "
            f"expected 0..{num_classes - 1} or 255 (ignored). Is num_classes={num_classes} right for these masks? If "
            f"{found} is no class, pass remap={{{found}: 255}} (--remap {found}:255)."
        )
    return image, mask
