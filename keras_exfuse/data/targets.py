"""What the auxiliary losses learn, as functions of the mask: presence of classes, and smaller masks."""

from typing import Any

import numpy as np

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse._optional import require


def class_presence(mask: np.ndarray, num_classes: int) -> np.ndarray:
    """Which classes are in each mask (numpy).

    Args:
        mask: Integer array (..., height, width); 255 is never counted.
        num_classes: Number of classes.

    Returns:
        Array (..., num_classes) of float32: 1 where the class has at least one pixel, else 0.

    Raises:
        ValueError: If a label is neither a class nor 255, or `num_classes` is over 255.

    Source: paper Fig. 3 and Sec. 3.2 train the semantic supervision on image labels; taking them from the
    mask is an adaptation of this package.

    Example:
    >>> class_presence(np.array([[0, 2], [255, 2]]), 4).tolist()
    [1.0, 0.0, 1.0, 0.0]
    """
    _check_num_classes(num_classes)
    mask = np.asarray(mask)
    if not np.issubdtype(mask.dtype, np.integer):
        raise ValueError(f"Expected an integer mask, got {mask.dtype}.")
    wrong = ((mask < 0) | (mask >= num_classes)) & (mask != IGNORE_CLASS)
    if wrong.any():
        raise ValueError(f"Expected labels in 0..{num_classes - 1} or 255, got {int(mask[wrong][0])}.")
    classes = np.arange(num_classes)
    return (mask[..., None] == classes).any(axis=(-3, -2)).astype(np.float32)


def _check_num_classes(num_classes: int) -> None:
    if not 1 <= num_classes <= IGNORE_CLASS:
        raise ValueError(f"num_classes must lie in 1..255, got {num_classes}: the label 255 is no class.")


def class_presence_tf(mask: Any, num_classes: int) -> Any:
    """`class_presence` in graph, for `Dataset.map`.

    Args:
        mask: Integer tensor (batch, height, width) or (height, width).
        num_classes: Number of classes.

    Returns:
        float32 tensor (batch, num_classes) or (num_classes,).
    """
    _check_num_classes(num_classes)
    tf = require("tensorflow", extra="data")
    classes = tf.range(num_classes, dtype=tf.int32)
    return tf.cast(tf.reduce_any(tf.cast(mask, tf.int32)[..., None] == classes, axis=[-3, -2]), tf.float32)


def resized_labels(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask at another size, by nearest neighbor about half-pixel centers (numpy).

    No label is mixed or invented; 255 stays 255.

    Args:
        mask: Integer array (..., height, width).
        size: New height and width.

    Returns:
        Array (..., new height, new width) of the same type.

    Example:
    >>> resized_labels(np.array([[1, 1, 2, 2], [1, 1, 2, 255]]), (1, 2)).tolist()
    [[1, 255]]
    """
    mask = np.asarray(mask)
    height, width = mask.shape[-2:]
    rows = _nearest(height, size[0])
    columns = _nearest(width, size[1])
    return mask[..., rows[:, None], columns]


def _nearest(old: int, new: int) -> np.ndarray:
    """Source index of each target index; exact arithmetic, as floor((i + 1/2) * old / new)."""
    return np.minimum((2 * np.arange(new) + 1) * old // (2 * new), old - 1)


def resized_labels_tf(mask: Any, size: tuple[int, int]) -> Any:
    """`resized_labels` in graph, for `Dataset.map`.

    Args:
        mask: Integer tensor (..., height, width).
        size: New height and width; numbers or scalar tensors.

    Returns:
        Tensor (..., new height, new width) of the same type.
    """
    tf = require("tensorflow", extra="data")
    old = tf.shape(mask)

    def nearest(side: Any, new: Any) -> Any:
        return tf.minimum((2 * tf.range(new) + 1) * side // (2 * new), side - 1)

    # Columns first: rows are copied in one piece, so the larger plane should be made by them.
    picked = tf.gather(mask, nearest(old[-1], size[1]), axis=-1)
    return tf.gather(picked, nearest(old[-2], size[0]), axis=-2)
