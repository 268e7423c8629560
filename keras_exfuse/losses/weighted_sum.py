"""Several losses as one."""

import keras
from keras import ops

from keras_exfuse.losses.cross_entropy import PixelLoss
from keras_exfuse.losses.regions import RegionLoss


@keras.saving.register_keras_serializable(package="keras_exfuse")
class WeightedSum(keras.losses.Loss):
    """Sum of losses, each with its weight: `CrossEntropy` for the pixels and `Dice` for the regions, say.

    Args:
        losses: Sequence of losses of (mask, logits), or their names; each with a reduction of its own counts
            as that reduction has it.
        weights: Sequence of as many numbers; all 1 by default.
        name: Name of the loss.
        **kwargs: As in `keras.losses.Loss`.

    Call arguments:
        y_true: Integer labels (B, H, W) or (B, H, W, 1).
        y_pred: Logits (B, H, W, C).

    Raises:
        ValueError: If there are no losses, or another number of weights.

    Example:

    >>> import numpy as np
    >>> from keras_exfuse.losses import CrossEntropy, Dice, WeightedSum
    >>> loss = WeightedSum([CrossEntropy(), Dice()], weights=[1.0, 0.5])
    >>> round(float(loss(np.array([[[0]]]), np.zeros((1, 1, 1, 2), "float32"))), 4)  # log 2 + 0.5 / 3
    0.8598
    """

    def __init__(self, losses, weights=None, name="weighted_sum", **kwargs):
        super().__init__(name=name, **kwargs)
        self.losses = [keras.losses.get(loss) for loss in losses]
        self.weights = [1.0] * len(self.losses) if weights is None else [float(weight) for weight in weights]
        if not self.losses or len(self.weights) != len(self.losses):
            raise ValueError(
                f"Expected at least one loss, and a weight for each. Received {len(self.losses)} losses and "
                f"{len(self.weights)} weights."
            )

    def call(self, y_true, y_pred):
        values = [_values(loss, y_true, y_pred) for loss in self.losses]
        total = sum(weight * value for weight, value in zip(self.weights, values, strict=True))
        return total if len(total.shape) else ops.reshape(total, (1,))  # As in `RegionLoss`.

    def get_config(self):
        losses = [keras.saving.serialize_keras_object(loss) for loss in self.losses]
        return {**super().get_config(), "losses": losses, "weights": self.weights}

    @classmethod
    def from_config(cls, config):
        losses = [keras.saving.deserialize_keras_object(loss) for loss in config["losses"]]
        return cls(**{**config, "losses": losses})


def _values(loss, y_true, y_pred):
    """A loss's values of pixels, or its one number: the mean of their sum is the sum of their means."""
    values = getattr(loss, "call", loss)(y_true, y_pred)
    if getattr(loss, "reduction", None) == "sum":
        return ops.sum(values)
    if isinstance(loss, PixelLoss | RegionLoss | WeightedSum):
        return values
    return ops.mean(values)  # Others' may have any shape.
