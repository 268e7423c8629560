"""Segmentation metrics from one streaming confusion matrix, exact however many pixels pass."""

import keras
import numpy as np
from keras import ops

from keras_exfuse import _backend

IGNORE_CLASS = 255

_LIMB = 2**30


@keras.saving.register_keras_serializable(package="keras_exfuse")
class ConfusionMatrix(keras.metrics.Metric):
    """Counts pixels by true and predicted class over all batches.

    The counts are kept in two int32 variables of 30 bits each, so that they are exact beyond 2^31 pixels in
    a cell on every backend (Keras's own stop at 2^31 or 2^24).

    Args:
        num_classes: Int, at least 2.
        ignore_class: The label that is not counted; `None` if every pixel counts.
        name: Name of the metric in logs.

    Call arguments of `update_state`:
        y_true: Integer labels (B, H, W) or (B, H, W, 1).
        y_pred: Logits or probabilities (B, H, W, num_classes), or integer labels (B, H, W) or (B, H, W, 1).

    A pixel whose true or predicted label lies outside 0..num_classes-1 is not counted: it has no cell.

    Raises:
        ValueError: If the logits have another number of classes.

    Source: Everingham et al., PASCAL VOC 2012: one matrix over the data set, void pixels left out.

    Example:

    >>> import numpy as np, keras_exfuse
    >>> matrix = keras_exfuse.metrics.ConfusionMatrix(num_classes=2)
    >>> matrix.update_state(np.array([[[0, 1, 255]]]), np.array([[[0, 0, 1]]]))
    >>> matrix.counts().tolist()
    [[1, 0], [1, 0]]
    """

    default_name = "confusion_matrix"

    def __init__(self, num_classes, ignore_class=IGNORE_CLASS, name=None, dtype=None):
        super().__init__(name=name or self.default_name, dtype=dtype)
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
                f"to be counted with the label {self.ignore_class} (`ignore_class`) in the mask."
            )
        total = self.low + self._batch_counts(y_true, y_pred)
        carry = ops.floor_divide(total, _LIMB)
        self.low.assign(total - carry * _LIMB)
        self.high.assign(self.high + carry)

    def _batch_counts(self, y_true, y_pred):
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        if len(y_true.shape) == 4:
            y_true = ops.squeeze(y_true, axis=-1)
        scored = len(y_pred.shape) == len(y_true.shape) + 1 and y_pred.shape[-1] != 1
        if scored:
            self._check_scores(y_pred)
            y_pred = _backend.labels_of(y_pred)
        classes = self.num_classes
        y_true = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        y_pred = ops.reshape(ops.cast(y_pred, "int32"), (-1,))
        counted = (y_true >= 0) & (y_true < classes)
        if not scored:
            counted = counted & (y_pred >= 0) & (y_pred < classes)
        if self.ignore_class is not None:
            counted = counted & ops.not_equal(y_true, self.ignore_class)
        # The others fall into one more cell, which is cut off.
        cell = ops.where(counted, y_true * classes + y_pred, classes * classes)
        counts = _backend.count(cell, classes * classes + 1)
        return ops.reshape(counts[:-1], (classes, classes))

    def _check_scores(self, scores):
        if scores.shape[-1] not in (None, self.num_classes):
            raise ValueError(
                f"{type(self).__name__} has {self.num_classes} classes, and expects logits (B, H, W, "
                f"{self.num_classes}) or labels (B, H, W). Received: shape {tuple(scores.shape)}"
            )

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

    default_name = "mean_iou"

    def result(self):
        return _mean_of_present(*_intersection_and_union(self._float_counts()))


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

    default_name = "pixel_accuracy"

    def result(self):
        counts = self._float_counts()
        return ops.trace(counts) / ops.maximum(ops.sum(counts), 1.0)


@keras.saving.register_keras_serializable(package="keras_exfuse")
class MeanAccuracy(ConfusionMatrix):
    """Mean over the classes of the truth of the share of a class's pixels that are right.

    Args:
        num_classes: Int, at least 2.
        ignore_class: The label that is not counted.
        name: Name of the metric in logs.

    Source: Long et al. 2015 (arXiv 1411.4038), section 5.

    Example:

    >>> import numpy as np, keras_exfuse
    >>> metric = keras_exfuse.metrics.MeanAccuracy(num_classes=3)
    >>> metric.update_state(np.array([[[0, 1, 1, 255]]]), np.array([[[0, 1, 0, 2]]]))
    >>> float(metric.result())
    0.75
    """

    default_name = "mean_accuracy"

    def result(self):
        counts = self._float_counts()
        return _mean_of_present(ops.diagonal(counts), ops.sum(counts, axis=1))


@keras.saving.register_keras_serializable(package="keras_exfuse")
class FrequencyWeightedIoU(ConfusionMatrix):
    """Intersection over union of the classes, weighted by their share of the true pixels.

    Args:
        num_classes: Int, at least 2.
        ignore_class: The label that is not counted.
        name: Name of the metric in logs.

    Source: Long et al. 2015 (arXiv 1411.4038), section 5.

    Example:

    >>> import numpy as np, keras_exfuse
    >>> metric = keras_exfuse.metrics.FrequencyWeightedIoU(num_classes=3)
    >>> metric.update_state(np.array([[[0, 1, 1, 1]]]), np.array([[[0, 1, 1, 0]]]))
    >>> float(metric.result())  # 1/4 * 1/2 + 3/4 * 2/3
    0.625
    """

    default_name = "frequency_weighted_iou"

    def result(self):
        counts = self._float_counts()
        truth, iou = ops.sum(counts, axis=1), _ratios(*_intersection_and_union(counts))
        return ops.sum(truth * iou) / ops.maximum(ops.sum(truth), 1.0)


@keras.saving.register_keras_serializable(package="keras_exfuse")
class MeanDice(ConfusionMatrix):
    """Mean Dice coefficient (F1) of the classes that occur in the truth or the prediction.

    Args:
        num_classes: Int, at least 2.
        ignore_class: The label that is not counted.
        name: Name of the metric in logs.

    Example:

    >>> import numpy as np, keras_exfuse
    >>> metric = keras_exfuse.metrics.MeanDice(num_classes=2)
    >>> metric.update_state(np.array([[[0, 1, 1, 1]]]), np.array([[[0, 1, 1, 0]]]))
    >>> round(float(metric.result()), 4)  # (2/3 + 4/5) / 2
    0.7333
    """

    default_name = "mean_dice"

    def result(self):
        intersection, union = _intersection_and_union(self._float_counts())
        return _mean_of_present(2 * intersection, union + intersection)


@keras.saving.register_keras_serializable(package="keras_exfuse")
class BoundaryAccuracy(PixelAccuracy):
    """Pixel accuracy near boundaries: where another label of the mask is at most `distance` pixels away.

    Distances go along rows, columns and diagonals alike (a square window). A void border counts as another
    label, since it is drawn around objects; so evaluate pictures that are not padded.

    Args:
        num_classes: Int, at least 2.
        distance: Positive int, pixels.
        ignore_class: The label that is not counted.
        name: Name of the metric in logs.

    Source: GCN (arXiv 1703.02719), section 4.1.3, with its 7 pixels; which distance it measures it does not say.

    Example:

    >>> import numpy as np, keras_exfuse
    >>> metric = keras_exfuse.metrics.BoundaryAccuracy(num_classes=2, distance=1)
    >>> metric.update_state(np.array([[[0, 0, 0, 1]]]), np.array([[[1, 1, 0, 0]]]))
    >>> float(metric.result())  # of the last two pixels
    0.5
    """

    default_name = "boundary_accuracy"

    def __init__(self, num_classes, distance=7, ignore_class=IGNORE_CLASS, name=None, dtype=None):
        super().__init__(num_classes, ignore_class=ignore_class, name=name, dtype=dtype)
        if isinstance(distance, bool) or not isinstance(distance, int) or distance < 1:
            raise ValueError(f"`distance` must be a positive int, in pixels. Received: {distance!r}")
        self.distance = distance

    def update_state(self, y_true, y_pred, sample_weight=None):
        mask = ops.cast(ops.convert_to_tensor(y_true), "int32")
        mask = ops.expand_dims(mask, -1) if len(mask.shape) == 3 else mask
        # -1 is no class, so it is not counted.
        chosen = ops.where(self._chosen(ops.cast(mask, "float32")), mask, -1)
        super().update_state(chosen, y_pred, sample_weight)

    def _chosen(self, mask):
        return self._near_boundary(mask)

    def _near_boundary(self, mask):
        window = 2 * self.distance + 1
        greatest, least = (
            sign * ops.max_pool(sign * mask, window, strides=1, padding="same", data_format="channels_last")
            for sign in (1.0, -1.0)
        )
        return ops.not_equal(greatest, least)

    def get_config(self):
        return {**super().get_config(), "distance": self.distance}


@keras.saving.register_keras_serializable(package="keras_exfuse")
class InteriorAccuracy(BoundaryAccuracy):
    """Pixel accuracy away from boundaries: all that `BoundaryAccuracy` leaves out.

    Args:
        num_classes: Int, at least 2.
        distance: Positive int, pixels.
        ignore_class: The label that is not counted.
        name: Name of the metric in logs.

    Source: GCN (arXiv 1703.02719), section 4.1.3.

    Example:

    >>> import numpy as np, keras_exfuse
    >>> metric = keras_exfuse.metrics.InteriorAccuracy(num_classes=2, distance=1)
    >>> metric.update_state(np.array([[[0, 0, 0, 1]]]), np.array([[[1, 0, 0, 0]]]))
    >>> float(metric.result())  # of the first two pixels
    0.5
    """

    default_name = "interior_accuracy"

    def _chosen(self, mask):
        return ops.logical_not(self._near_boundary(mask))


def _intersection_and_union(counts):
    intersection = ops.diagonal(counts)
    return intersection, ops.sum(counts, axis=0) + ops.sum(counts, axis=1) - intersection


def _ratios(part, whole):
    """Their quotients; 0 where the whole is 0, and then the part is 0 as well."""
    return part / ops.maximum(whole, 1.0)


def _mean_of_present(part, whole):
    """Mean of the quotients over the classes whose whole is not empty; 0 if all are."""
    present = ops.cast(whole > 0, "float32")
    return ops.sum(_ratios(part, whole)) / ops.maximum(ops.sum(present), 1.0)


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
