"""What every loss does with labels and logits: leave out ignored pixels, in float32."""

from keras import ops

IGNORE_CLASS = 255


def check_from(name: str, value: float, least: float, most: float) -> float:
    """Return a number within its range as a float, or raise a `ValueError`."""
    if not least <= value <= most:
        raise ValueError(f"`{name}` must be a number from {least} to {most}. Received: {name}={value!r}")
    return float(value)


def labels_and_valid(y_true, y_pred, ignore_class: int):
    """Labels (B, H, W) int32 with 0 where ignored, and 1.0 or 0.0 for pixels that count or do not."""
    labels = ops.cast(y_true, "int32")
    if len(labels.shape) == len(y_pred.shape):
        labels = ops.squeeze(labels, axis=-1)
    valid = ops.not_equal(labels, ignore_class)
    return ops.where(valid, labels, 0), ops.cast(valid, "float32")


def safe_divide(numerator, denominator):
    """The quotient, or 0 with a gradient of 0 where the denominator is 0."""
    empty = ops.equal(denominator, 0)
    return ops.where(empty, 0.0, numerator / ops.where(empty, 1.0, denominator))


def mean_over_present(values, present):
    """Mean of (C,) values over the classes that are present; 0 if none is."""
    present = ops.cast(present, "float32")
    return safe_divide(ops.sum(values * present), ops.sum(present))
