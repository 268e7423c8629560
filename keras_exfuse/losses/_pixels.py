"""What every loss and metric does with labels and weights: check them, and leave out ignored pixels."""

import numpy as np
from keras import ops

from keras_exfuse import _kernels


def check_from(name: str, value: float, least: float, most: float) -> float:
    """Return a number within its range as a float, or raise a `ValueError`."""
    if not least <= value <= most:
        raise ValueError(f"`{name}` must be a number from {least} to {most}. Received: {name}={value!r}")
    return float(value)


def check_ignore_class(ignore_class) -> int:
    """Return a label as an int, or raise a `ValueError`."""
    if isinstance(ignore_class, bool) or not hasattr(ignore_class, "__index__"):
        raise ValueError(
            "`ignore_class` must be an int; a label that no mask holds, such as -1, ignores nothing. "
            f"Received: ignore_class={ignore_class!r}"
        )
    return int(ignore_class)


def common_ignore_class(losses):
    """The `ignore_class` that several losses share; None if none of them has one.

    Raises:
        ValueError: If two of them ignore different classes.
    """
    given = (getattr(loss, "ignore_class", None) for loss in losses)
    found = sorted({each for each in given if each is not None})
    if len(found) > 1:
        raise ValueError(f"All losses must ignore the same class. Received: ignore_class of {found}.")
    return found[0] if found else None


def mask_expectation(num_classes: int, ignore_class: int) -> str:
    """Which labels a mask may hold, as a sentence without its stop."""
    return f"Masks may hold the labels 0..{num_classes - 1} and {ignore_class} (ignored)"


def sides_agree(shape, expected) -> bool:
    """Whether two shapes have the same rank and the same sides, as far as they are known."""
    return len(shape) == len(expected) and all(
        have is None or want is None or have == want for have, want in zip(shape, expected, strict=True)
    )


def has_unknown_rank(tensor) -> bool:
    """Whether TensorFlow forgot the rank: one function saw masks with and without a last axis of 1."""
    return getattr(tensor.shape, "rank", 0) is None


def without_last_axis(tensor):
    """A tensor (B, H, W, 1) as (B, H, W), also where the last side is not known before the graph runs."""
    return ops.reshape(tensor, ops.shape(tensor)[:-1])


def label_map(y_true, y_pred):
    """Labels as int32 (B, H, W).

    Args:
        y_true: Labels (B, H, W) or (B, H, W, 1).
        y_pred: Logits (B, H, W, C) that they belong to.

    Raises:
        ValueError: If their known sides differ.
    """
    mask = ops.cast(y_true, "int32")
    expected = tuple(y_pred.shape[:-1])
    if has_unknown_rank(mask):
        return ops.reshape(mask, ops.shape(y_pred)[:-1])
    shape = tuple(mask.shape)
    if len(shape) == len(expected) + 1 and shape[-1] in (1, None):
        mask = without_last_axis(mask)
    if not sides_agree(tuple(mask.shape), expected):
        raise ValueError(
            "Masks and logits must agree in batch, height and width: expected a mask of shape "
            f"{expected} or {(*expected, 1)} for logits of shape {tuple(y_pred.shape)}. Received shape {shape}."
        )
    return mask


def labels_and_valid(y_true, y_pred, ignore_class: int):
    """Labels (B, H, W) int32 with 0 where ignored, and 1.0 where a pixel is labelled, else 0.0.

    Raises:
        ValueError: If the shapes differ, or, outside a graph, a label is no class.
    """
    labels = label_map(y_true, y_pred)
    valid = ops.not_equal(labels, ignore_class)
    labels = ops.where(valid, labels, 0)
    classes = y_pred.shape[-1]
    known = _kernels.known_values(labels)
    if known is not None and known.size and (known.min() < 0 or known.max() >= classes):
        wrong = np.unique(known[(known < 0) | (known >= classes)])[:10].tolist()
        expectation = mask_expectation(classes, ignore_class)
        raise ValueError(
            f"{expectation}, since the logits have {classes} classes. Received also: {wrong}. Map these labels to "
            f"{ignore_class}, or build the model for more classes."
        )
    return labels, ops.cast(valid, "float32")


def per_pixel_weight(sample_weight, mask):
    """The weight of each pixel, from the shapes of `sample_weight` that Keras's users know.

    Args:
        sample_weight: `None`, or a number for each image, (B,), (B, 1) or (B, 1, 1), or for each pixel,
            (B, H, W) or (B, H, W, 1).
        mask: Mask (B, H, W) or (B, H, W, 1).

    Returns:
        `None`, or a float32 tensor (B, H, W).

    Raises:
        ValueError: If the weights have another shape.
    """
    if sample_weight is None:
        return None
    weight = ops.cast(ops.convert_to_tensor(sample_weight), "float32")
    sides = ops.shape(mask)[:3]
    if has_unknown_rank(weight):
        # Weights of images or of pixels: TensorFlow's function saw both.
        per_image = ops.equal(ops.size(weight), sides[0])
        height, width = (ops.where(per_image, 1, side) for side in sides[1:])
        return ops.broadcast_to(ops.reshape(weight, (sides[0], height, width)), sides)
    shape, expected = tuple(weight.shape), tuple(mask.shape)[:3]
    if len(shape) == 4 and shape[3] in (1, None):
        weight = without_last_axis(weight)
    elif len(shape) < 3 and all(side in (1, None) for side in shape[1:]):
        weight = ops.reshape(weight, (-1, 1, 1))
    per_image = (expected[0], 1, 1)
    if shape and not any(sides_agree(tuple(weight.shape), each) for each in (per_image, expected)):
        raise ValueError(
            f"Expected `sample_weight` of shape {expected[:1]}, {per_image[:2]} or {per_image} to weigh images, "
            f"or {expected} or {(*expected, 1)} to weigh pixels. Received shape {shape}."
        )
    return ops.broadcast_to(weight, sides)


def safe_divide(numerator, denominator):
    """The quotient, or 0 with a gradient of 0 where the denominator is 0."""
    empty = ops.equal(denominator, 0)
    return ops.where(empty, 0.0, numerator / ops.where(empty, 1.0, denominator))


def mean_over_present(values, present):
    """Mean of (C,) values over the classes that are present; 0 if none is."""
    present = ops.cast(present, "float32")
    return safe_divide(ops.sum(values * present), ops.sum(present))
