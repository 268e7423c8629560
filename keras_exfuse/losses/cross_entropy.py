"""Cross-entropy of pixels: class weights, label smoothing, and online hard example mining (OHEM)."""

import keras
from keras import ops

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse.losses._mask_loss import MaskLoss, mask_and_weight
from keras_exfuse.losses._pixels import check_from, check_ignore_class, labels_and_valid, safe_divide


class PixelLoss(MaskLoss):
    """A loss with a value for each pixel. Subclasses give the values in `pixel_values`.

    With s the weight of a pixel (`sample_weight`), c the weight of its class and v its value, over the labelled
    pixels:

    | `reduction` | result |
    |---|---|
    | `"sum_over_batch_size"`, `"mean"` | sum(s * c * v) / sum(c): Keras's mean, over labelled pixels |
    | `"mean_with_sample_weight"` | sum(s * c * v) / sum(s * c) |
    | `"sum"` | sum(s * c * v) |
    | `"none"`, `None` | s * c * v as (B, H, W), 0 where a pixel is ignored |

    A mean over no pixel is 0.

    Args:
        class_weights: Sequence of a number >= 0 for each class, or `None` for equal weights.
        ignore_class: Label of the pixels that are ignored.
        name: Name of the loss.
        **kwargs: As in `keras.losses.Loss`.
    """

    def __init__(self, class_weights, ignore_class, name, **kwargs):
        super().__init__(name=name, **kwargs)
        if class_weights is not None:
            class_weights = [float(weight) for weight in class_weights]
            if not all(0 <= weight < float("inf") for weight in class_weights):
                raise ValueError(
                    f"`class_weights` must be numbers of at least 0, one a class. Received: {class_weights}"
                )
        self.class_weights = class_weights
        self.ignore_class = check_ignore_class(ignore_class)

    def pixel_values(self, labels, logits):
        """Values (B, H, W), class weights included, of labels (B, H, W) and float32 logits (B, H, W, C)."""
        raise NotImplementedError

    def _weighted(self, values, labels, classes):
        if self.class_weights is None:
            return values
        return values * ops.take(self._weights(classes), labels)

    def _weights(self, classes):
        if len(self.class_weights) != classes:
            raise ValueError(
                f"`class_weights` has {len(self.class_weights)} numbers, but the logits have {classes} classes."
            )
        return ops.convert_to_tensor(self.class_weights, "float32")

    def call(self, y_true, y_pred):
        values, weights = self._terms(y_true, y_pred)
        if self.reduction in (None, "none"):
            return values
        total = ops.sum(values)
        if self.reduction != "sum":
            total = safe_divide(total, ops.sum(weights))
        # Keras divides by the number of devices, but a scalar it leaves alone.
        return ops.reshape(total, (1,))

    def sums(self, y_true, y_pred):
        """The mean's numerator and denominator: two scalars, which can be added over devices or batches.

        Args:
            y_true: Mask, or a tuple of the mask and the weight of each pixel, as in `call`.
            y_pred: Logits (B, H, W, C).
        """
        return tuple(ops.sum(part) for part in self._terms(y_true, y_pred))

    def _terms(self, y_true, y_pred):
        """Each pixel's part (B, H, W) in the numerator and in the denominator of the mean."""
        mask, sample_weight = mask_and_weight(y_true)
        logits = ops.cast(y_pred, "float32")  # Half precision cannot hold the sum over an image's pixels.
        labels, valid = labels_and_valid(mask, logits, self.ignore_class)
        values = self.pixel_values(labels, logits) * valid
        weights = self._weighted(valid, labels, logits.shape[-1])
        if sample_weight is not None:
            values = values * sample_weight
            if self.reduction == "mean_with_sample_weight":
                weights = weights * sample_weight
        kept = self.kept(ops.stop_gradient(values), valid)
        return values * kept, weights * kept

    def kept(self, values, valid):
        """1.0 for the pixels that the mean is taken over."""
        return valid

    def get_config(self):
        return {
            **super().get_config(),
            "class_weights": self.class_weights,
            "ignore_class": self.ignore_class,
        }


@keras.saving.register_keras_serializable(package="keras_exfuse")
class CrossEntropy(PixelLoss):
    """Cross-entropy of logits and integer masks, averaged over the labelled pixels.

    Class weights and label smoothing are those of `torch.nn.functional.cross_entropy`. `sample_weight` multiplies the
    values and leaves the denominator alone, as in every Keras loss: the result is
    sum(sample weight * class weight * value) / sum(class weight) over the labelled pixels, and 0 if there are none.
    With `reduction="mean_with_sample_weight"` the sample weights enter the denominator, too.

    Args:
        class_weights: Sequence of a number >= 0 for each class, or `None` for equal weights.
        label_smoothing: Number in 0..1: this share of the target is spread evenly over all classes.
        ohem_ratio: Number in 0..1, not 0: online hard example mining. The mean is taken over this ratio of the
            labelled pixels, those of the greatest loss (and over all that tie with the least of them). The loss that
            ranks them is multiplied by class and sample weights: a pixel of weight 0 is never hard.
        ignore_class: Label of the pixels that are ignored.
        name: Name of the loss.
        **kwargs: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integer labels (B, H, W) or (B, H, W, 1).
        y_pred: Logits (B, H, W, C).
        sample_weight: `None`, weights of images (B,), (B, 1) or (B, 1, 1), or weights of pixels (B, H, W) or
            (B, H, W, 1).

    Raises:
        ValueError: If an argument is out of its range, shapes do not agree, or, outside a graph, a label is no class.

    Source: hard example mining: Shrivastava et al. 2016 (arXiv 1604.03540), here for pixels.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> loss = keras_exfuse.losses.CrossEntropy(label_smoothing=0.1)
    >>> float(loss(np.array([[[255]]]), np.zeros((1, 1, 1, 21), "float32")))
    0.0
    """

    def __init__(
        self,
        class_weights=None,
        label_smoothing=0.0,
        ohem_ratio=1.0,
        ignore_class=IGNORE_CLASS,
        name="cross_entropy",
        **kwargs,
    ):
        super().__init__(class_weights, ignore_class, name, **kwargs)
        self.label_smoothing = check_from("label_smoothing", label_smoothing, 0, 1)
        self.ohem_ratio = check_from("ohem_ratio", ohem_ratio, 0, 1)
        if not self.ohem_ratio:
            raise ValueError("`ohem_ratio` must be more than 0: of no pixels there is no mean.")

    def pixel_values(self, labels, logits):
        # The backend's fused kernel: log-probabilities of all classes are never kept.
        values = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        values = self._weighted(values, labels, logits.shape[-1])
        if not self.label_smoothing:
            return values
        return (1 - self.label_smoothing) * values + self.label_smoothing * self._spread(logits)

    def _spread(self, logits):
        """The weighted mean of -log p over all classes (B, H, W)."""
        normalizer = ops.logsumexp(logits, axis=-1)
        if self.class_weights is None:
            return normalizer - ops.mean(logits, axis=-1)
        weights = self._weights(logits.shape[-1])
        return normalizer * ops.mean(weights) - ops.mean(weights * logits, axis=-1)

    def kept(self, values, valid):
        if self.ohem_ratio == 1:
            return valid
        counted = ops.where(valid > 0, values, -1.0)
        hardest = ops.flip(ops.sort(ops.reshape(counted, (-1,))))
        wanted = ops.ceil(self.ohem_ratio * ops.sum(valid))
        last = ops.cast(ops.maximum(wanted - 1, 0), "int32")
        return valid * ops.cast(counted >= ops.take(hardest, last), "float32")

    def get_config(self):
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "ohem_ratio": self.ohem_ratio,
        }


@keras.saving.register_keras_serializable(package="keras_exfuse")
class Focal(PixelLoss):
    """Focal loss: (1 - p)^gamma times the cross-entropy, so that pixels already right weigh little.

    Args:
        gamma: Number >= 0; 0 is the cross-entropy.
        class_weights: Sequence of a number >= 0 for each class (the paper's alpha), or `None`.
        ignore_class: Label of the pixels that are ignored.
        name: Name of the loss.
        **kwargs: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integer labels (B, H, W) or (B, H, W, 1).
        y_pred: Logits (B, H, W, C).
        sample_weight: `None`, weights of images (B,), (B, 1) or (B, 1, 1), or weights of pixels (B, H, W) or
            (B, H, W, 1).

    Raises:
        ValueError: If an argument is out of its range, shapes do not agree, or, outside a graph, a label is no class.

    Source: Lin et al. 2017 (arXiv 1708.02002), equation 5, with softmax probabilities.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> loss = keras_exfuse.losses.Focal(gamma=2.0)
    >>> round(float(loss(np.array([[[0]]]), np.zeros((1, 1, 1, 2), "float32"))), 4)  # 0.5^2 * log 2
    0.1733
    """

    def __init__(self, gamma=2.0, class_weights=None, ignore_class=IGNORE_CLASS, name="focal", **kwargs):
        super().__init__(class_weights, ignore_class, name, **kwargs)
        self.gamma = check_from("gamma", gamma, 0, float("inf"))

    def pixel_values(self, labels, logits):
        values = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        if self.gamma:
            # More than 0, so that the power's gradient is finite where p is 1 and gamma below 1.
            values = values * ops.maximum(-ops.expm1(-values), 1e-7) ** self.gamma
        return self._weighted(values, labels, logits.shape[-1])

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma}
