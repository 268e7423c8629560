"""Several losses as one."""

import keras

from keras_exfuse.losses._mask_loss import MaskLoss, loss_value, mask_and_weight
from keras_exfuse.losses._pixels import common_ignore_class


@keras.saving.register_keras_serializable(package="keras_exfuse")
class WeightedSum(MaskLoss):
    """Sum of losses, each with its weight: `CrossEntropy` for the pixels and `Dice` for the regions, say.

    Args:
        losses: Sequence of losses or functions of (mask, logits), or their names. Each reduces as its own `reduction`
            says; a function's values are averaged. Those that have an `ignore_class` must have the same.
        weights: Sequence of as many numbers; all 1 by default.
        name: Name of the loss.
        dtype: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integer labels (B, H, W) or (B, H, W, 1).
        y_pred: Logits (B, H, W, C).
        sample_weight: `None`, weights of images (B,), (B, 1) or (B, 1, 1), or weights of pixels (B, H, W) or
            (B, H, W, 1), for each of the losses.

    Raises:
        ValueError: If there are no losses, another number of weights, a loss that gives no single number, or two that
            ignore different classes.

    Example:
    >>> import numpy as np
    >>> from keras_exfuse.losses import CrossEntropy, Dice, WeightedSum
    >>> loss = WeightedSum([CrossEntropy(), Dice()], weights=[1.0, 0.5])
    >>> round(float(loss(np.array([[[0]]]), np.zeros((1, 1, 1, 2), "float32"))), 4)  # log 2 + 0.5 / 3
    0.8598
    """

    def __init__(self, losses, weights=None, name="weighted_sum", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.losses = [keras.losses.get(loss) for loss in losses]
        self.weights = [1.0] * len(self.losses) if weights is None else [float(weight) for weight in weights]
        if not self.losses or len(self.weights) != len(self.losses):
            raise ValueError(
                f"Expected at least one loss, and a weight for each. Received {len(self.losses)} losses and "
                f"{len(self.weights)} weights."
            )
        for loss in self.losses:
            if getattr(loss, "reduction", "mean") in (None, "none"):
                raise ValueError(
                    f"Every loss of a sum must give one number. Received {type(loss).__name__}(reduction="
                    f"{loss.reduction!r}). Choose another reduction, such as 'sum_over_batch_size'."
                )
        self.ignore_class = common_ignore_class(self.losses)

    def call(self, y_true, y_pred):
        mask, weight = mask_and_weight(y_true)
        values = [loss_value(loss, mask, y_pred, weight) for loss in self.losses]
        return sum(factor * value for factor, value in zip(self.weights, values, strict=True))

    def get_config(self):
        losses = [keras.saving.serialize_keras_object(loss) for loss in self.losses]
        return {"name": self.name, "losses": losses, "weights": self.weights, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config):
        losses = [keras.saving.deserialize_keras_object(loss) for loss in config["losses"]]
        return cls(**{**config, "losses": losses})
