"""Image-level labels that come into a classifier, checked, with errors that help."""

import dataclasses
from typing import ClassVar

import keras
from keras import ops

from keras_exfuse.losses._pixels import has_unknown_rank
from keras_exfuse.models import _batches
from keras_exfuse.models._values import as_array


def as_label_vector(labels, batch):
    """The labels as (B,) int32, or a `ValueError` about their type or shape.

    Args:
        labels: Integer tensor (B,) or (B, 1).
        batch: Int B, or None where it is not known.
    """
    _check_type(labels)
    if not has_unknown_rank(labels):
        _check_shape(tuple(labels.shape), batch)
    return ops.cast(ops.reshape(labels, (-1,)), "int32")


def _check_shape(shape, batch=None):
    known = shape and shape[0] is not None and batch is not None
    if shape[1:] not in ((), (1,)) or not shape or (known and shape[0] != batch):
        expected = "(batch,)" if batch is None else f"({batch},)"
        advice = " One-hot labels become integers with labels.argmax(-1)." if len(shape) == 2 else ""
        raise ValueError(
            f"Expected one integer label per image: labels of shape {expected}. Received shape {shape}.{advice}"
        )


def _check_type(labels):
    if labels is None or isinstance(labels, (dict, list, tuple)):
        raise ValueError(
            f"Expected one integer label per image, of shape (batch,), as the target. Received: {type(labels).__name__}"
        )
    name = keras.backend.standardize_dtype(labels.dtype)
    if not name.startswith(("int", "uint")):
        raise ValueError(
            "Labels must be of an integer type, one class index per image. "
            f"Received: {name}. Cast them, e.g. labels.astype('int32')."
        )


@dataclasses.dataclass(frozen=True)
class LabelCheck(_batches.BatchCheck):
    """Batches of images and one integer label each, 0..num_classes-1."""

    pair: ClassVar[str] = "(images, labels)"
    other_structures: ClassVar[str] = "Map it to such pairs first."
    shared_axes: ClassVar[int] = 1
    shared_sides: ClassVar[str] = "batch"

    def check_type(self, targets):
        _check_type(targets)

    def check_shape(self, images, targets):
        _check_shape(tuple(targets.shape), images.shape[0] if hasattr(images, "shape") else None)

    def is_valid(self, targets):
        return (targets >= 0) & (targets < self.num_classes)

    @property
    def expectation(self):
        return f"Labels may be 0..{self.num_classes - 1}, since num_classes={self.num_classes}"

    @property
    def advice(self):
        return "Raise `num_classes`, or leave these images out."


def checked(x, y, num_classes):
    """Images and labels for `fit` and `evaluate`, checked; see `_batches.checked`.

    Args:
        x: Images, or batches of images and labels.
        y: Labels as an array, a tensor or a list; `None` beside batches.
        num_classes: Int.

    Returns:
        `x` and `y` to pass on to Keras.

    Raises:
        ValueError: If something is wrong that is known before the first batch.
    """
    if isinstance(y, dict) or y is None:
        return _batches.checked(x, y, LabelCheck(num_classes))
    x, y = _batches.checked(x, as_array(y), LabelCheck(num_classes))
    return x, y.reshape(-1)
