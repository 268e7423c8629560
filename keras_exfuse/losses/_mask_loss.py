"""What the losses of masks and logits share: weights of images and pixels, and values of other losses."""

import keras
from keras import ops

from keras_exfuse.losses._pixels import per_pixel_weight


class MaskLoss(keras.losses.Loss):
    """A loss of (mask, logits) that takes `sample_weight` for each image or each pixel.

    Subclasses reduce in `call`, whose `y_true` is the mask, or a tuple of the mask and the weight of each pixel
    (B, H, W); `mask_and_weight` takes it apart.

    Call arguments:
        y_true: Integer labels (B, H, W) or (B, H, W, 1).
        y_pred: Logits (B, H, W, C).
        sample_weight: `None`, weights of images (B,), (B, 1) or (B, 1, 1), or weights of pixels (B, H, W) or
            (B, H, W, 1).
    """

    def __call__(self, y_true, y_pred, sample_weight=None):
        # Keras itself would multiply weights (B,) with the last axis of the values: with columns.
        weight = per_pixel_weight(sample_weight, y_true)
        return super().__call__(y_true if weight is None else (y_true, weight), y_pred)

    def get_config(self):
        return {**super().get_config(), "dtype": self.dtype}


def mask_and_weight(y_true):
    """What `MaskLoss.call` receives as mask and weight; the weight is None where there is none."""
    return y_true if isinstance(y_true, tuple) else (y_true, None)


def loss_value(loss, mask, logits, weight=None):
    """The number that any loss gives, its reduction and the number of devices taken into account.

    Args:
        loss: A Keras loss, or a function of (mask, logits) that gives values of pixels, of images or of the batch.
        mask: Integer labels (B, H, W) or (B, H, W, 1).
        logits: Logits (B, H, W, C).
        weight: `None`, or the weight of each pixel (B, H, W).

    Returns:
        Scalar tensor.
    """
    if not isinstance(loss, keras.losses.Loss):
        loss = _FunctionLoss(loss)
    return loss(mask, logits, sample_weight=weight)


class _FunctionLoss(keras.losses.Loss):
    """The weighted mean of a function's values."""

    def __init__(self, function):
        super().__init__(name=getattr(function, "__name__", "function"))
        self.function = function

    def __call__(self, y_true, y_pred, sample_weight=None):
        return super().__call__(y_true if sample_weight is None else (y_true, sample_weight), y_pred)

    def call(self, y_true, y_pred):
        mask, weight = mask_and_weight(y_true)
        # A scalar as (1,): Keras divides by the number of devices, but a scalar it leaves alone.
        values = ops.convert_to_tensor(self.function(mask, y_pred))
        if weight is not None:
            # Values of images are weighed by the mean of the image, a value of the batch by that of the batch.
            axes = tuple(range(len(values.shape), len(weight.shape)))
            values = values * (ops.mean(weight, axis=axes) if axes else weight)
        return values if len(values.shape) else ops.reshape(values, (1,))
