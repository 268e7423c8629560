"""Segmentation metrics from one streaming confusion matrix, exact however many pixels pass."""

import keras
import numpy as np
from keras import ops

IGNORE_CLASS = 255

_LIMB = 2**30


@keras.saving.register_keras_serializable(package="keras_exfuse")
class ConfusionMatrix(keras.metrics.Metric):
    """Counts pixels by true and predicted class over all batches.

    The counts are kept in two int32 variables of 30 bits each, so that they are exact beyond 2^31 pixels in
    a cell on every backend (Keras's own stop at 2^31 or 2^24).

    Args:
        num_classes: Int, at least 2.
        ignore_class: The label that is not counted.
        name: Name of the metric in logs.

    Call arguments of `update_state`:
        y_true: Integer labels (B, H, W) or (B, H, W, 1).
        y_pred: Logits or probabilities (B, H, W, num_classes), or integer labels (B, H, W).

    Source: Everingham et al., PASCAL VOC 2012: one matrix over the data set, void pixels left out.

    Example:

    >>> import numpy as np, keras_exfuse
    >>> matrix = keras_exfuse.metrics.ConfusionMatrix(num_classes=2)
    >>> matrix.update_state(np.array([[[0, 1, 255]]]), np.array([[[0, 0, 1]]]))
    >>> matrix.counts().tolist()
    [[1, 0], [1, 0]]
    """

    def __init__(self, num_classes, ignore_class=IGNORE_CLASS, name="confusion_matrix", dtype=None):
        super().__init__(name=name, dtype=dtype)
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
            raise ValueError(f"`num_classes` must be an int of at least 2. Received: {num_classes!r}")
        self.num_classes = num_classes
        self.ignore_class = ignore_class
        shape = (num_classes, num_classes)
        self.low = self.add_variable(shape, initializer="zeros", dtype="int32", name="low")
        self.high = self.add_variable(shape, initializer="zeros", dtype="int32", name="high")

    def update_state(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            raise ValueError(
                f"{type(self).__name__} counts pixels and takes no `sample_weight`. Mark pixels that are not "
                f"to be counted with the label {self.ignore_class} in the mask."
            )
        total = self.low + self._batch_counts(y_true, y_pred)
        carry = ops.floor_divide(total, _LIMB)
        self.low.assign(total - carry * _LIMB)
        self.high.assign(self.high + carry)

    def _batch_counts(self, y_true, y_pred):
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        if len(y_true.shape) == 4:
            y_true = ops.squeeze(y_true, axis=-1)
        if len(y_pred.shape) == len(y_true.shape) + 1:
            y_pred = ops.argmax(y_pred, axis=-1)
        classes = self.num_classes
        y_true = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        y_pred = ops.reshape(ops.cast(y_pred, "int32"), (-1,))
        # Ignored pixels fall into one more cell, which is cut off.
        cell = ops.where(ops.equal(y_true, self.ignore_class), classes * classes, y_true * classes + y_pred)
        counts = ops.segment_sum(ops.ones_like(cell), cell, num_segments=classes * classes + 1)
        return ops.reshape(ops.cast(counts, "int32")[:-1], (classes, classes))

    def counts(self) -> np.ndarray:
        """The matrix (num_classes, num_classes) as numpy int64: rows the truth, columns the prediction."""
        low, high = (ops.convert_to_numpy(limb).astype("int64") for limb in (self.low, self.high))
        return high * _LIMB + low

    def _float_counts(self):
        return ops.cast(self.high, "float32") * float(_LIMB) + ops.cast(self.low, "float32")

    def result(self):
        return self._float_counts()

    def get_config(self):
        return {"name": self.name, "num_classes": self.num_classes, "ignore_class": self.ignore_class}


@keras.saving.register_keras_serializable(package="keras_exfuse")
class MeanIoU(ConfusionMatrix):
    """Mean intersection over union of the classes that occur in the truth or the prediction.

    Args:
        num_classes: Int, at least 2.
        ignore_class: The label that is not counted.
        name: Name of the metric in logs.

    Source: Everingham et al., PASCAL VOC 2012; a class with no pixel in either is left out of the mean.

    Example:

    >>> import numpy as np, keras_exfuse
    >>> metric = keras_exfuse.metrics.MeanIoU(num_classes=3)
    >>> metric.update_state(np.array([[[0, 1, 1, 255]]]), np.array([[[0, 1, 0, 2]]]))
    >>> float(metric.result())
    0.5
    """

    def __init__(self, num_classes, ignore_class=IGNORE_CLASS, name="mean_iou", dtype=None):
        super().__init__(num_classes, ignore_class=ignore_class, name=name, dtype=dtype)

    def result(self):
        counts = self._float_counts()
        intersection = ops.diagonal(counts)
        union = ops.sum(counts, axis=0) + ops.sum(counts, axis=1) - intersection
        present = ops.cast(union > 0, "float32")
        iou = intersection / ops.maximum(union, 1.0)
        return ops.sum(iou) / ops.maximum(ops.sum(present), 1.0)


@keras.saving.register_keras_serializable(package="keras_exfuse")
class PixelAccuracy(ConfusionMatrix):
    """Share of the counted pixels whose class is right.

    Args:
        num_classes: Int, at least 2.
        ignore_class: The label that is not counted.
        name: Name of the metric in logs.

    Example:

    >>> import numpy as np, keras_exfuse
    >>> metric = keras_exfuse.metrics.PixelAccuracy(num_classes=3)
    >>> metric.update_state(np.array([[[0, 1, 1, 1, 255]]]), np.array([[[0, 1, 1, 0, 2]]]))
    >>> float(metric.result())
    0.75
    """

    def __init__(self, num_classes, ignore_class=IGNORE_CLASS, name="pixel_accuracy", dtype=None):
        super().__init__(num_classes, ignore_class=ignore_class, name=name, dtype=dtype)

    def result(self):
        counts = self._float_counts()
        return ops.trace(counts) / ops.maximum(ops.sum(counts), 1.0)


def iou_per_class(counts: np.ndarray) -> np.ndarray:
    """Intersection over union of each class from a confusion matrix.

    Args:
        counts: Matrix (C, C), rows the truth, columns the prediction.

    Returns:
        Float64 array (C,), `nan` for a class that is in neither truth nor prediction.

    Example:

    >>> import numpy as np, keras_exfuse
    >>> keras_exfuse.metrics.iou_per_class(np.array([[3, 1], [0, 4]])).tolist()
    [0.75, 0.8]
    """
    counts = np.asarray(counts, dtype="float64")
    intersection = np.diag(counts)
    union = counts.sum(axis=0) + counts.sum(axis=1) - intersection
    return np.divide(intersection, union, out=np.full(len(counts), np.nan), where=union > 0)
