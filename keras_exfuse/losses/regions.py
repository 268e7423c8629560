"""Losses of whole regions: Dice and Lovasz-softmax, which count a small class as much as a large one."""

import keras
from keras import ops

from keras_exfuse.losses._pixels import IGNORE_CLASS, labels_and_valid, mean_over_present, safe_divide


class RegionLoss(keras.losses.Loss):
    """A loss of the whole batch: one number, from each class's probabilities and its pixels.

    Args:
        ignore_class: Label that never counts.
        name: Name of the loss.
        **kwargs: As in `keras.losses.Loss`.
    """

    default_name = "region_loss"

    def __init__(self, ignore_class=IGNORE_CLASS, name=None, **kwargs):
        super().__init__(name=name or self.default_name, **kwargs)
        self.ignore_class = ignore_class

    def call(self, y_true, y_pred):
        logits = ops.cast(y_pred, "float32")
        classes = logits.shape[-1]
        labels, valid = labels_and_valid(y_true, logits, self.ignore_class)
        valid = ops.reshape(valid, (-1, 1))
        probabilities = ops.reshape(ops.softmax(logits, axis=-1), (-1, classes)) * valid
        truth = ops.one_hot(ops.reshape(labels, (-1,)), classes, dtype="float32") * valid
        present = ops.sum(truth, axis=0) > 0
        value = mean_over_present(self.class_values(probabilities, truth, valid), present)
        return ops.reshape(
            value, (1,)
        )  # Keras divides by the number of devices, but a scalar it leaves alone.

    def class_values(self, probabilities, truth, valid):
        """Loss of each class (C,) from probabilities (N, C), truth (N, C) and valid (N, 1)."""
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), "ignore_class": self.ignore_class}


@keras.saving.register_keras_serializable(package="keras_exfuse")
class Dice(RegionLoss):
    """Soft Dice loss: 1 - 2 * sum(p * g) / (sum(p) + sum(g)), averaged over the classes in the batch's masks.

    Args:
        ignore_class: Label that never counts.
        name: Name of the loss.
        **kwargs: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integer labels (B, H, W) or (B, H, W, 1).
        y_pred: Logits (B, H, W, C).

    Source: Milletari et al. 2016 (arXiv 1606.04797), section 3, without its squares; a class that no pixel of
    the batch has is left out of the mean.

    Example:

    >>> import numpy as np, keras_exfuse
    >>> logits = 100 * np.eye(3, dtype="float32")[np.array([[[0, 1, 1]]])]
    >>> float(keras_exfuse.losses.Dice()(np.array([[[0, 1, 1]]]), logits))
    0.0
    """

    default_name = "dice"

    def class_values(self, probabilities, truth, valid):
        both = ops.sum(probabilities * truth, axis=0)
        return 1 - safe_divide(2 * both, ops.sum(probabilities, axis=0) + ops.sum(truth, axis=0))


@keras.saving.register_keras_serializable(package="keras_exfuse")
class LovaszSoftmax(RegionLoss):
    """Lovasz-softmax: the convex extension of 1 - IoU, averaged over the classes in the batch's masks.

    Args:
        ignore_class: Label that never counts.
        name: Name of the loss.
        **kwargs: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integer labels (B, H, W) or (B, H, W, 1).
        y_pred: Logits (B, H, W, C).

    Source: Berman et al. 2018 (arXiv 1705.08790), equations 8 to 12, over all pixels of the batch.

    Example:

    >>> import numpy as np, keras_exfuse
    >>> logits = 100 * np.eye(3, dtype="float32")[np.array([[[0, 1, 1]]])]
    >>> float(keras_exfuse.losses.LovaszSoftmax()(np.array([[[0, 1, 1]]]), logits))
    0.0
    """

    default_name = "lovasz_softmax"

    def class_values(self, probabilities, truth, valid):
        errors = ops.abs(truth - probabilities) * valid
        # Ignored pixels come last; with an error of 0 they add nothing there.
        order = ops.argsort(-ops.stop_gradient(ops.where(valid > 0, errors, -1.0)), axis=0)
        errors = ops.take_along_axis(errors, order, axis=0)
        truth = ops.take_along_axis(truth, order, axis=0)
        total = ops.sum(truth, axis=0, keepdims=True)
        found = ops.cumsum(truth, axis=0)
        # 1 - IoU when the pixels so far are wrong: (total - missed) / (total + wrong ones outside).
        jaccard = 1 - safe_divide(total - found, total + ops.cumsum(1 - truth, axis=0))
        steps = ops.concatenate([jaccard[:1], jaccard[1:] - jaccard[:-1]], axis=0)
        return ops.sum(errors * ops.stop_gradient(steps), axis=0)
