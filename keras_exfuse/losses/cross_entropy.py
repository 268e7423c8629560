"""Cross-entropy of pixels: class weights, label smoothing, and only the hardest pixels, if wanted."""

import keras
from keras import ops

from keras_exfuse.losses._pixels import IGNORE_CLASS, check_from, labels_and_valid, safe_divide


class PixelLoss(keras.losses.Loss):
    """A loss with a value for each pixel: their mean over the pixels that count, weighted by class.

    Subclasses give the values in `pixel_values`. Under the default reduction the result is
    sum(weight * value) / sum(weight) over the pixels that are not ignored, and 0 if there are none.

    Args:
        class_weights: Sequence of a number >= 0 for each class, or `None` for equal weights.
        ignore_class: Label that never counts.
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
        self.ignore_class = ignore_class

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
        logits = ops.cast(y_pred, "float32")  # Half precision cannot hold the sum over a picture's pixels.
        labels, valid = labels_and_valid(y_true, logits, self.ignore_class)
        values = self.pixel_values(labels, logits) * valid
        weights = self._weighted(valid, labels, logits.shape[-1])
        kept = self.kept(ops.stop_gradient(values), valid)
        # Keras's reduction divides by the number of all pixels, ignored ones included.
        count = ops.cast(ops.size(valid), "float32")
        return safe_divide(values * kept * count, ops.sum(weights * kept))

    def pixel_weights(self, y_true, y_pred):
        """Each pixel's weight (B, H, W): its class's, or 0 where it is ignored."""
        labels, valid = labels_and_valid(y_true, y_pred, self.ignore_class)
        return self._weighted(valid, labels, y_pred.shape[-1])

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
    """Cross-entropy of logits and integer masks, averaged over the pixels that count.

    As `torch.nn.functional.cross_entropy` defines its weights and its smoothing.

    Args:
        class_weights: Sequence of a number >= 0 for each class, or `None` for equal weights.
        label_smoothing: Number in 0..1: this share of the target is spread evenly over all classes.
        hard_fraction: Number in 0..1, not 0: online hard example mining. The mean is taken over this share of
            the counted pixels, those of the greatest loss (and over all that tie with the least of them).
        ignore_class: Label that never counts.
        name: Name of the loss.
        **kwargs: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integer labels (B, H, W) or (B, H, W, 1).
        y_pred: Logits (B, H, W, C).

    Raises:
        ValueError: If an argument is out of its range.

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
        hard_fraction=1.0,
        ignore_class=IGNORE_CLASS,
        name="cross_entropy",
        **kwargs,
    ):
        super().__init__(class_weights, ignore_class, name, **kwargs)
        self.label_smoothing = check_from("label_smoothing", label_smoothing, 0, 1)
        self.hard_fraction = check_from("hard_fraction", hard_fraction, 0, 1)
        if not self.hard_fraction:
            raise ValueError("`hard_fraction` must be more than 0: of no pixels there is no mean.")

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
        if self.hard_fraction == 1:
            return valid
        counted = ops.where(valid > 0, values, -1.0)
        hardest = ops.flip(ops.sort(ops.reshape(counted, (-1,))))
        wanted = ops.ceil(self.hard_fraction * ops.sum(valid))
        last = ops.cast(ops.maximum(wanted - 1, 0), "int32")
        return valid * ops.cast(counted >= ops.take(hardest, last), "float32")

    def get_config(self):
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "hard_fraction": self.hard_fraction,
        }


@keras.saving.register_keras_serializable(package="keras_exfuse")
class Focal(PixelLoss):
    """Focal loss: (1 - p)^gamma times the cross-entropy, so that pixels already right count little.

    Args:
        gamma: Number >= 0; 0 is the cross-entropy.
        class_weights: Sequence of a number >= 0 for each class (the paper's alpha), or `None`.
        ignore_class: Label that never counts.
        name: Name of the loss.
        **kwargs: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integer labels (B, H, W) or (B, H, W, 1).
        y_pred: Logits (B, H, W, C).

    Raises:
        ValueError: If an argument is out of its range.

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
