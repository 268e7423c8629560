"""Accuracy of pixels: of all, by class, and near boundaries or away from them."""

import keras
from keras import ops

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse.losses._pixels import safe_divide
from keras_exfuse.metrics.confusion_matrix import Score, check_int

REGIONS = ("boundary", "interior")


@keras.saving.register_keras_serializable(package="keras_exfuse")
class PixelAccuracy(Score):
    """Fraction of the labelled pixels whose class is right.

    Args:
        num_classes: Int, at least 2.
        ignore_class: The label of the pixels that are ignored, `None` if there is none.
        name: Name of the metric in logs.
        dtype: As in `keras.metrics.Metric`.

    Call arguments of `update_state`: as in `keras_exfuse.metrics.ConfusionMatrix`.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> metric = keras_exfuse.metrics.PixelAccuracy(num_classes=3)
    >>> metric.update_state(np.array([[[0, 1, 1, 1, 255]]]), np.array([[[0, 1, 1, 0, 2]]]))
    >>> float(metric.result())
    0.75
    """

    default_name = "pixel_accuracy"

    def score(self, counts):
        return safe_divide(ops.trace(counts), ops.sum(counts))


@keras.saving.register_keras_serializable(package="keras_exfuse")
class MeanAccuracy(Score):
    """Mean per-class accuracy: recall, averaged over the classes that occur in the truth.

    Args:
        num_classes: Int, at least 2.
        ignore_class: The label of the pixels that are ignored, `None` if there is none.
        name: Name of the metric in logs.
        dtype: As in `keras.metrics.Metric`.

    Call arguments of `update_state`: as in `keras_exfuse.metrics.ConfusionMatrix`.

    Source: Long et al. 2015 (arXiv 1411.4038), section 5.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> metric = keras_exfuse.metrics.MeanAccuracy(num_classes=3)
    >>> metric.update_state(np.array([[[0, 1, 1, 255]]]), np.array([[[0, 1, 0, 2]]]))
    >>> float(metric.result())
    0.75
    """

    default_name = "mean_accuracy"

    def score(self, counts):
        return self.mean_of_present(ops.diagonal(counts), ops.sum(counts, axis=1))


@keras.saving.register_keras_serializable(package="keras_exfuse")
class TrimapAccuracy(PixelAccuracy):
    """Pixel accuracy near the boundaries of the mask, or away from them.

    A pixel is near a boundary if another label of the mask is at most `width` pixels away, along rows, columns and
    diagonals alike (a square window). The border of an ignored region is a boundary, too, since it is drawn around
    objects; so evaluate images that are not padded.

    Args:
        num_classes: Int, at least 2.
        region: `"boundary"` for the pixels near a boundary, or `"interior"` for all others.
        width: Positive int, pixels to each side of a boundary.
        ignore_class: The label of the pixels that are ignored, `None` if there is none.
        name: Name of the metric in logs; `"boundary_accuracy"` or `"interior_accuracy"` by default.
        dtype: As in `keras.metrics.Metric`.

    Call arguments of `update_state`: as in `keras_exfuse.metrics.ConfusionMatrix`.

    Raises:
        ValueError: If an argument is out of its range, or shapes do not agree.

    Source: GCN (arXiv 1703.02719), section 4.1.3, with its 7 pixels; which distance it measures it does not say.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> metric = keras_exfuse.metrics.TrimapAccuracy(num_classes=2, region="boundary", width=1)
    >>> metric.update_state(np.array([[[0, 0, 0, 1]]]), np.array([[[1, 1, 0, 0]]]))
    >>> float(metric.result())  # of the last two pixels
    0.5
    """

    def __init__(
        self, num_classes, region="boundary", width=7, ignore_class=IGNORE_CLASS, name=None, dtype=None
    ):
        if region not in REGIONS:
            raise ValueError(f"`region` must be one of {REGIONS}. Received: region={region!r}")
        super().__init__(
            num_classes, ignore_class=ignore_class, name=name or f"{region}_accuracy", dtype=dtype
        )
        self.region = region
        self.width = check_int("width", width, 1, "a positive int, in pixels")

    def _cells(self, y_true, y_pred):
        near = self._near_boundary(ops.cast(y_true, "float32"))
        chosen = near if self.region == "boundary" else ops.logical_not(near)
        # -1 is no class, so it is not counted.
        return super()._cells(ops.where(chosen, y_true, -1), y_pred)

    def _near_boundary(self, mask):
        mask, window = ops.expand_dims(mask, -1), 2 * self.width + 1
        greatest, least = (
            sign * ops.max_pool(sign * mask, window, strides=1, padding="same", data_format="channels_last")
            for sign in (1.0, -1.0)
        )
        return ops.squeeze(ops.not_equal(greatest, least), axis=-1)

    def get_config(self):
        return {**super().get_config(), "region": self.region, "width": self.width}
