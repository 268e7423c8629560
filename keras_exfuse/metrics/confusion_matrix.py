"""One streaming confusion matrix, exact however many pixels pass: every metric follows from it."""

import operator

import keras
import numpy as np
from keras import ops

from keras_exfuse import _kernels
from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse.losses._pixels import (
    has_unknown_rank,
    label_map,
    per_pixel_weight,
    safe_divide,
    sides_agree,
    without_last_axis,
)

_LIMB = 2**30


@keras.saving.register_keras_serializable(package="keras_exfuse")
class ConfusionMatrix(keras.metrics.Metric):
    """Counts pixels by true and predicted class over all batches.

    The counts are kept in two int32 variables of 30 bits each, so that they are exact beyond 2^31 pixels in
    a cell on every backend (Keras's own stop at 2^31 or 2^24). Sums of sample weights are float32.

    A labelled pixel that is predicted to be no class, because its label lies outside 0..num_classes-1 or one of its
    logits is NaN, is wrong: it is counted in a last column. A pixel whose true label is no class is not counted.

    Args:
        num_classes: Int, at least 2.
        ignore_class: The label of the pixels that are ignored; `None` if there is none. If it is one of the classes,
            scores that average over classes leave it out.
        name: Name of the metric in logs.
        dtype: As in `keras.metrics.Metric`.

    Call arguments of `update_state`:
        y_true: Integer labels (B, H, W) or (B, H, W, 1).
        y_pred: Logits or probabilities (B, H, W, num_classes), or integer labels (B, H, W) or (B, H, W, 1).
        sample_weight: `None`, weights of images (B,), (B, 1) or (B, 1, 1), or weights of pixels (B, H, W) or
            (B, H, W, 1): a pixel of weight w counts w times. Keras hands them to `weighted_metrics` alone.

    Raises:
        ValueError: If the logits have another number of classes, or shapes do not agree.

    Source: Everingham et al., PASCAL VOC 2012: one matrix over the data set, void pixels left out.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> matrix = keras_exfuse.metrics.ConfusionMatrix(num_classes=2)
    >>> matrix.update_state(np.array([[[0, 1, 255, 1]]]), np.array([[[0, 0, 1, 255]]]))
    >>> matrix.counts().tolist()
    [[1, 0, 0], [1, 0, 1]]
    """

    default_name = "confusion_matrix"

    def __init__(self, num_classes, ignore_class=IGNORE_CLASS, name=None, dtype=None):
        super().__init__(name=name or self.default_name, dtype=dtype)
        self.num_classes = check_int("num_classes", num_classes, 2, "an int of at least 2")
        self.ignore_class = ignore_class
        shape = (self.num_classes, self.num_classes + 1)
        self.low = self.add_variable(shape, initializer="zeros", dtype="int32", name="low")
        self.high = self.add_variable(shape, initializer="zeros", dtype="int32", name="high")
        self.weighted = self.add_variable(shape, initializer="zeros", dtype="float32", name="weighted")

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        y_true, y_pred = self._labels(y_true, y_pred)
        cells = self._cells(y_true, y_pred)
        if sample_weight is None:
            self._add_counts(cells)
            return
        weight = ops.reshape(per_pixel_weight(sample_weight, y_true), (-1,))
        sums = ops.segment_sum(weight, cells, num_segments=self._num_cells + 1)
        self.weighted.assign(self.weighted + ops.reshape(sums[:-1], self.weighted.shape))

    @property
    def _num_cells(self):
        return self.num_classes * (self.num_classes + 1)

    def _labels(self, y_true, y_pred):
        """True and predicted labels, int32 (B, H, W); -1 where a pixel has no highest score."""
        if has_unknown_rank(y_true):
            scored = y_pred.shape[-1] == self.num_classes
        else:
            rank = len(y_true.shape)
            rank -= rank == 4 and y_true.shape[-1] == 1
            scored = len(y_pred.shape) == rank + 1 and y_pred.shape[-1] != 1
        if scored:
            self._check_scores(y_pred)
            y_true = label_map(y_true, y_pred)
            # The sum over the classes is NaN if one of them is.
            unknown = ops.isnan(ops.sum(ops.cast(y_pred, "float32"), axis=-1))
            return y_true, ops.where(unknown, -1, _kernels.labels_of(y_pred))
        y_true, predicted = (_without_last_axis(ops.cast(labels, "int32")) for labels in (y_true, y_pred))
        if not sides_agree(tuple(y_true.shape), tuple(predicted.shape)):
            raise ValueError(
                f"{type(self).__name__} expects a prediction of the mask's shape: labels {tuple(y_true.shape)} or "
                f"logits {(*y_true.shape, self.num_classes)}. Received: shape {tuple(y_pred.shape)}"
            )
        return y_true, predicted

    def _check_scores(self, scores):
        if scores.shape[-1] not in (None, self.num_classes):
            raise ValueError(
                f"{type(self).__name__} has {self.num_classes} classes, and expects logits (B, H, W, "
                f"{self.num_classes}) or labels (B, H, W). Received: shape {tuple(scores.shape)}"
            )

    def _cells(self, y_true, y_pred):
        """The cell of the matrix of each pixel, int32 (B * H * W,); one cell more for pixels that are not counted."""
        classes = self.num_classes
        y_true, y_pred = ops.reshape(y_true, (-1,)), ops.reshape(y_pred, (-1,))
        y_pred = ops.where((y_pred >= 0) & (y_pred < classes), y_pred, classes)
        counted = (y_true >= 0) & (y_true < classes)
        if self.ignore_class is not None:
            counted = counted & ops.not_equal(y_true, self.ignore_class)
        return ops.where(counted, y_true * (classes + 1) + y_pred, self._num_cells)

    def _add_counts(self, cells):
        counts = ops.reshape(_kernels.count(cells, self._num_cells + 1)[:-1], self.low.shape)
        total = self.low + counts
        carry = ops.floor_divide(total, _LIMB)
        self.low.assign(total - carry * _LIMB)
        self.high.assign(self.high + carry)

    def counts(self) -> np.ndarray:
        """The matrix (num_classes, num_classes + 1) as numpy: rows the truth, columns the prediction.

        The last column holds the pixels that are predicted to be no class.

        Returns:
            Int64 array, exact; float64 once there were sample weights.
        """
        low, high, weighted = (ops.convert_to_numpy(part) for part in (self.low, self.high, self.weighted))
        exact = high.astype("int64") * _LIMB + low
        return exact + weighted.astype("float64") if weighted.any() else exact

    def result(self):
        counts = ops.cast(self.high, "float32") * float(_LIMB) + ops.cast(self.low, "float32")
        return counts + self.weighted

    def get_config(self):
        return {
            "name": self.name,
            "num_classes": self.num_classes,
            "ignore_class": self.ignore_class,
            "dtype": self.dtype,
        }


class Score(ConfusionMatrix):
    """A number from the confusion matrix, better when greater. Subclasses give it in `score`."""

    default_name = "score"
    # For the callbacks of Keras that monitor it with `mode="auto"`.
    _direction = "up"

    def score(self, counts):
        """The number, from the matrix (num_classes, num_classes + 1) as float32."""
        raise NotImplementedError

    def result(self):
        return self.score(super().result())

    def mean_of_present(self, part, whole):
        """Mean of the quotients over the classes whose whole is not empty and that are not ignored; 0 if none is."""
        scored = np.arange(self.num_classes) != self.ignore_class
        present = ops.cast((whole > 0) & ops.convert_to_tensor(scored), "float32")
        return safe_divide(ops.sum(present * safe_divide(part, whole)), ops.sum(present))


def intersection_and_union(counts):
    """Right pixels of each class, and those that are of the class in truth or prediction: (C,) each."""
    right = ops.diagonal(counts)
    return right, ops.sum(counts[:, :-1], axis=0) + ops.sum(counts, axis=1) - right


def _without_last_axis(labels):
    return without_last_axis(labels) if len(labels.shape) == 4 and labels.shape[-1] == 1 else labels


def check_int(name, value, least, expected):
    """Return a whole number as an int, or raise a `ValueError` that says what was expected."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise ValueError(f"`{name}` must be {expected}. Received: {value!r}")
    return number
