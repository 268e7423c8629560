"""Losses of whole regions: Dice and Lovasz-softmax, in which a small class weighs as much as a large one."""

import keras
from keras import ops

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse.losses._mask_loss import MaskLoss, mask_and_weight
from keras_exfuse.losses._pixels import check_ignore_class, labels_and_valid, mean_over_present, safe_divide


class RegionLoss(MaskLoss):
    """A loss of the whole batch: one number, from each class's probabilities and its pixels.

    A pixel of `sample_weight` w stands for w pixels: a factor that all weights share changes nothing, and if all are 0,
    so is the loss. `reduction` has nothing to reduce.

    Args:
        ignore_class: Label of the pixels that are ignored.
        name: Name of the loss.
        **kwargs: As in `keras.losses.Loss`.
    """

    default_name = "region_loss"

    def __init__(self, ignore_class=IGNORE_CLASS, name=None, **kwargs):
        super().__init__(name=name or self.default_name, **kwargs)
        self.ignore_class = check_ignore_class(ignore_class)

    def call(self, y_true, y_pred):
        mask, weight = mask_and_weight(y_true)
        logits = ops.cast(y_pred, "float32")
        classes = logits.shape[-1]
        labels, valid = labels_and_valid(mask, logits, self.ignore_class)
        weight = ops.reshape(valid if weight is None else valid * weight, (-1, 1))
        probabilities = ops.reshape(ops.softmax(logits, axis=-1), (-1, classes))
        truth = ops.one_hot(ops.reshape(labels, (-1,)), classes, dtype="float32")
        present = ops.sum(truth * weight, axis=0) > 0
        value = mean_over_present(self.class_values(probabilities, truth, weight), present)
        # Keras divides by the number of devices, but a scalar it leaves alone.
        return ops.reshape(value, (1,))

    def class_values(self, probabilities, truth, weight):
        """Loss of each class (C,) from probabilities (N, C), truth (N, C) and weight (N, 1), 0 where ignored."""
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), "ignore_class": self.ignore_class}


@keras.saving.register_keras_serializable(package="keras_exfuse")
class Dice(RegionLoss):
    """Soft Dice loss: 1 - 2 * sum(p * g) / (sum(p) + sum(g)), averaged over the classes in the batch's masks.

    Args:
        ignore_class: Label of the pixels that are ignored.
        name: Name of the loss.
        **kwargs: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integer labels (B, H, W) or (B, H, W, 1).
        y_pred: Logits (B, H, W, C).
        sample_weight: `None`, weights of images (B,), (B, 1) or (B, 1, 1), or weights of pixels (B, H, W) or
            (B, H, W, 1). They say how much a pixel weighs beside others: a factor that all share changes nothing.

    Raises:
        ValueError: If shapes do not agree, or, outside a graph, a label is no class.

    Source: Milletari et al. 2016 (arXiv 1606.04797), section 3, without its squares; a class that no pixel of
    the batch has is left out of the mean.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> logits = 100 * np.eye(3, dtype="float32")[np.array([[[0, 1, 1]]])]
    >>> float(keras_exfuse.losses.Dice()(np.array([[[0, 1, 1]]]), logits))
    0.0
    """

    default_name = "dice"

    def class_values(self, probabilities, truth, weight):
        both = ops.sum(weight * probabilities * truth, axis=0)
        return 1 - safe_divide(2 * both, ops.sum(weight * (probabilities + truth), axis=0))


@keras.saving.register_keras_serializable(package="keras_exfuse")
class LovaszSoftmax(RegionLoss):
    """Lovasz-softmax: the convex extension of 1 - IoU, averaged over the classes in the batch's masks.

    Args:
        ignore_class: Label of the pixels that are ignored.
        name: Name of the loss.
        **kwargs: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integer labels (B, H, W) or (B, H, W, 1).
        y_pred: Logits (B, H, W, C).
        sample_weight: `None`, weights of images (B,), (B, 1) or (B, 1, 1), or weights of pixels (B, H, W) or
            (B, H, W, 1). They say how much a pixel weighs beside others: a factor that all share changes nothing.

    Raises:
        ValueError: If shapes do not agree, or, outside a graph, a label is no class.

    Source: Berman et al. 2018 (arXiv 1705.08790), equations 8 to 12, over all pixels of the batch.

    Example:
    >>> import numpy as np, keras_exfuse
    >>> logits = 100 * np.eye(3, dtype="float32")[np.array([[[0, 1, 1]]])]
    >>> float(keras_exfuse.losses.LovaszSoftmax()(np.array([[[0, 1, 1]]]), logits))
    0.0
    """

    default_name = "lovasz_softmax"

    def class_values(self, probabilities, truth, weight):
        errors = ops.abs(truth - probabilities)
        order = ops.argsort(-ops.stop_gradient(errors), axis=0)
        errors = ops.take_along_axis(errors, order, axis=0)
        inside = ops.take_along_axis(weight * truth, order, axis=0)
        outside = ops.take_along_axis(weight * (1 - truth), order, axis=0)
        total = ops.sum(inside, axis=0, keepdims=True)
        # 1 - IoU when the pixels so far are wrong: (total - missed) / (total + wrong ones outside). A pixel of weight 0
        # changes neither sum, so that its error is multiplied by 0.
        jaccard = 1 - safe_divide(total - ops.cumsum(inside, axis=0), total + ops.cumsum(outside, axis=0))
        steps = ops.concatenate([jaccard[:1], jaccard[1:] - jaccard[:-1]], axis=0)
        return ops.sum(errors * ops.stop_gradient(steps), axis=0)
