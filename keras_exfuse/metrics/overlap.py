"""Overlap of truth and prediction: intersection over union, and Dice."""

import keras
import numpy as np
from keras import ops

from keras_exfuse.losses._pixels import safe_divide
from keras_exfuse.metrics.confusion_matrix import Score, intersection_and_union


@keras.saving.register_keras_serializable(package="keras_exfuse")
class MeanIoU(Score):
    """Mean intersection over union of the classes that occur in the truth or the prediction.

    Args:
        num_classes: Int, at least 2.
        ignore_class: The label of the pixels that are ignored, `None` if there is none.
        name: Name of the metric in logs.
        dtype: As in `keras.metrics.Metric`.

    Call arguments of `update_state`: as in `keras_exfuse.metrics.ConfusionMatrix`.

    Source: Everingham et al., PASCAL VOC 2012; a class with no pixel in either is left out of the mean.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> metric = keras_exfuse.metrics.MeanIoU(num_classes=3)
    >>> metric.update_state(np.array([[[0, 1, 1, 255]]]), np.array([[[0, 1, 0, 2]]]))
    >>> float(metric.result())
    0.5
    """

    default_name = "mean_iou"

    def score(self, counts):
        return self.mean_of_present(*intersection_and_union(counts))


@keras.saving.register_keras_serializable(package="keras_exfuse")
class FrequencyWeightedIoU(Score):
    """Intersection over union of the classes, weighted by their frequency in the truth.

    Args:
        num_classes: Int, at least 2.
        ignore_class: The label of the pixels that are ignored, `None` if there is none.
        name: Name of the metric in logs.
        dtype: As in `keras.metrics.Metric`.

    Call arguments of `update_state`: as in `keras_exfuse.metrics.ConfusionMatrix`.

    Source: Long et al. 2015 (arXiv 1411.4038), section 5.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> metric = keras_exfuse.metrics.FrequencyWeightedIoU(num_classes=3)
    >>> metric.update_state(np.array([[[0, 1, 1, 1]]]), np.array([[[0, 1, 1, 0]]]))
    >>> float(metric.result())  # 1/4 * 1/2 + 3/4 * 2/3
    0.625
    """

    default_name = "frequency_weighted_iou"

    def score(self, counts):
        truth = ops.sum(counts, axis=1)
        iou = safe_divide(*intersection_and_union(counts))
        return safe_divide(ops.sum(truth * iou), ops.sum(truth))


@keras.saving.register_keras_serializable(package="keras_exfuse")
class MeanDice(Score):
    """Mean Dice coefficient (F1) of the classes that occur in the truth or the prediction.

    Args:
        num_classes: Int, at least 2.
        ignore_class: The label of the pixels that are ignored, `None` if there is none.
        name: Name of the metric in logs.
        dtype: As in `keras.metrics.Metric`.

    Call arguments of `update_state`: as in `keras_exfuse.metrics.ConfusionMatrix`.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> metric = keras_exfuse.metrics.MeanDice(num_classes=2)
    >>> metric.update_state(np.array([[[0, 1, 1, 1]]]), np.array([[[0, 1, 1, 0]]]))
    >>> round(float(metric.result()), 4)  # (2/3 + 4/5) / 2
    0.7333
    """

    default_name = "mean_dice"

    def score(self, counts):
        intersection, union = intersection_and_union(counts)
        return self.mean_of_present(2 * intersection, union + intersection)


def iou_per_class(counts: np.ndarray) -> np.ndarray:
    """Intersection over union of each class from a confusion matrix.

    Args:
        counts: Matrix (C, C), rows the truth, columns the prediction; or (C, C + 1), whose last column holds the
            pixels that are predicted to be no class.

    Returns:
        Float64 array (C,), `nan` for a class that is in neither truth nor prediction.

    Raises:
        ValueError: If it has another shape.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> keras_exfuse.metrics.iou_per_class(np.array([[3, 1], [0, 4]])).tolist()
    [0.75, 0.8]
    """
    counts = np.asarray(counts, dtype="float64")
    if counts.ndim != 2 or counts.shape[1] - counts.shape[0] not in (0, 1):
        raise ValueError(
            f"Expected a confusion matrix (classes, classes) or (classes, classes + 1). Received: shape {counts.shape}"
        )
    classes = len(counts)
    intersection = np.diag(counts)
    union = counts[:, :classes].sum(axis=0) + counts.sum(axis=1) - intersection
    return np.divide(intersection, union, out=np.full(classes, np.nan), where=union > 0)
