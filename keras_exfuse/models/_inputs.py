"""Images and masks that come into a segmentation model, checked, with errors that help."""

import dataclasses
import operator
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse.data.noticing import SeenLabels
from keras_exfuse.data.python_map import python_call
from keras_exfuse.losses._pixels import has_unknown_rank, mask_expectation, sides_agree, without_last_axis
from keras_exfuse.models import _batches
from keras_exfuse.models._batches import check_images, checked_images, readable_errors

__all__ = [
    "as_label_map",
    "check_channels_last",
    "check_images",
    "check_num_classes",
    "checked",
    "checked_images",
    "readable_errors",
]


def check_num_classes(num_classes, reason) -> int:
    """Return the number of classes as an int, or raise a `ValueError` with the reason unless it is at least 2."""
    try:
        number = operator.index(num_classes)
    except TypeError:
        number = 0
    if isinstance(num_classes, bool) or number < 2:
        raise ValueError(
            f"`num_classes` must be an int of at least 2: {reason}. Received: num_classes={num_classes!r}"
        )
    return number


def check_channels_last(model: str) -> None:
    """Raise a `ValueError` if Keras is set to channels first."""
    if keras.config.image_data_format() == "channels_first":
        raise ValueError(
            f"{model} takes images with their channels last, (batch, height, width, 3), and Keras is set to "
            'channels_first. Call keras.config.set_image_data_format("channels_last"), or set "image_data_format" in '
            "~/.keras/keras.json."
        )


def as_label_map(mask, logits):
    """The mask as (B, H, W) int32, or a `ValueError` about its type or shape.

    Args:
        mask: Integer mask (B, H, W) or (B, H, W, 1).
        logits: Logits (B, H, W, C) that it belongs to.
    """
    _check_mask_type(mask)
    if has_unknown_rank(mask):
        return ops.cast(ops.reshape(mask, ops.shape(logits)[:3]), "int32")
    _check_mask_shape(tuple(mask.shape), tuple(logits.shape[:3]))
    if len(mask.shape) == 4:
        mask = without_last_axis(mask)
    return ops.cast(mask, "int32")


def _check_mask_type(mask):
    if isinstance(mask, (dict, list, tuple)) or mask is None:
        raise ValueError(
            "Expected one integer mask (batch, height, width) as the target: the auxiliary targets are "
            f"derived from it. Received: {type(mask).__name__}"
        )
    dtype = keras.backend.standardize_dtype(mask.dtype)
    if not has_unknown_rank(mask) and len(mask.shape) == 4 and mask.shape[3] not in (1, None):
        raise ValueError(
            "Masks and images must agree in batch, height and width: expected masks (batch, height, width) of class "
            f"indices. Received shape {tuple(mask.shape)}. If the masks are one-hot, take masks.argmax(-1)."
        )
    if not dtype.startswith(("int", "uint")):
        raise ValueError(
            "Masks must be of an integer type: class indices, and the ignored label where a pixel has none. "
            f"Received: {dtype}. Cast them, e.g. mask.astype('uint8')."
        )


def _check_mask_shape(shape, expected):
    map_shape = shape[:3] if len(shape) == 4 and shape[3] in (1, None) else shape
    if not sides_agree(map_shape, expected):
        raise ValueError(
            "Masks and images must agree in batch, height and width: expected a mask of shape "
            f"{expected} or {(*expected, 1)}. Received shape {shape}."
        )


@dataclasses.dataclass(frozen=True)
class MaskCheck(_batches.BatchCheck):
    """Batches of images and integer masks, 0..num_classes-1 or `ignore_class`."""

    ignore_class: int = IGNORE_CLASS
    # Counts labels in training; in the processes of a `PyDataset` a copy of it does, and nobody hears of it.
    seen: SeenLabels | None = dataclasses.field(default=None, compare=False)

    pair: ClassVar[str] = "(images, masks)"
    other_structures: ClassVar[str] = (
        "For dictionaries, see keras_exfuse.data.from_segmentation_dictionaries."
    )
    shared_axes: ClassVar[int] = 3
    shared_sides: ClassVar[str] = "batch, height and width"

    def check_type(self, targets):
        _check_mask_type(targets)

    def check_shape(self, images, targets):
        _check_mask_shape(tuple(targets.shape), tuple(getattr(images, "shape", (None,) * 3))[:3])

    def is_valid(self, targets):
        return (targets == self.ignore_class) | ((targets >= 0) & (targets < self.num_classes))

    def note(self, targets):
        if self.seen is not None:
            self.seen.add(np.bincount(targets.ravel().astype(np.int64), minlength=256))

    def noted(self, targets):
        if self.seen is None:
            return []
        import tensorflow as tf  # The user's data set is TensorFlow's, so it is there.

        labels = tf.reshape(tf.cast(targets, tf.int32), [-1])
        counts = tf.math.bincount(labels, minlength=256, maxlength=256, dtype=tf.int64)
        return python_call(self.seen.add, [counts], [tf.bool])

    @property
    def expectation(self):
        return mask_expectation(self.num_classes, self.ignore_class)

    @property
    def advice(self):
        return f"Raise `num_classes`, or map these labels to {self.ignore_class}."


def seen_labels(num_classes, ignore_class) -> SeenLabels | None:
    """What counts the labels of a training; None where 255 is not the ignored one, about which notices are."""
    return SeenLabels(num_classes) if ignore_class == IGNORE_CLASS and num_classes <= IGNORE_CLASS else None


class NoticeAfterEpoch(keras.callbacks.Callback):
    """Says after the first epoch what is suspicious about the labels.

    Args:
        seen: What counted them.
    """

    def __init__(self, seen: SeenLabels):
        super().__init__()
        self.seen = seen
        self._said = False

    def on_epoch_end(self, epoch, logs=None):
        if not self._said:
            self._said = True
            self.seen.warn()


def checked(x, y, num_classes, ignore_class, seen=None, channels=3):
    """Images and masks for `fit` and `evaluate`, checked; see `_batches.checked`.

    Args:
        x: Images, or batches of images and masks.
        y: Masks; `None` beside batches.
        num_classes: Int.
        ignore_class: Label of the pixels that are ignored.
        seen: What counts the labels, or None.
        channels: Int, of the images.

    Returns:
        `x` and `y` to pass on to Keras.

    Raises:
        ValueError: If something is wrong that is known before the first batch.
    """
    check = MaskCheck(num_classes, channels, ignore_class=ignore_class, seen=seen)
    return _batches.checked(x, y, check)
