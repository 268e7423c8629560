"""How sure a model is of each pixel: entropy and margin of its probabilities."""

from typing import NamedTuple

import numpy as np

from keras_exfuse.inference._labels import label_type


class Segmentation(NamedTuple):
    """Labels, and how sure the model is of each.

    Attributes:
        labels: uint8 (H, W), uint16 above 255 classes.
        entropy: float32 (H, W), of the probabilities, over its greatest value: 0 where one class has all, 1 where all
            classes are equally probable.
        margin: float32 (H, W), the greatest probability less the second: 1 is sure, 0 is a tie.
    """

    labels: np.ndarray
    entropy: np.ndarray
    margin: np.ndarray


def with_uncertainty(probabilities: np.ndarray) -> np.ndarray:
    """Labels, entropy and margin of probabilities.

    Args:
        probabilities: float32 (..., num_classes).

    Returns:
        A structured array (...) with the fields of `Segmentation`.

    Example:
    >>> import numpy as np
    >>> found = with_uncertainty(np.array([[0.5, 0.5], [0.0, 1.0]], "float32"))
    >>> found["entropy"].tolist(), found["margin"].tolist(), found["labels"].tolist()
    ([1.0, 0.0], [0.0, 1.0], [0, 1])
    """
    classes = probabilities.shape[-1]
    fields = [("labels", label_type(classes)), ("entropy", "float32"), ("margin", "float32")]
    result = np.empty(probabilities.shape[:-1], fields)
    result["labels"] = probabilities.argmax(axis=-1)
    entropy = (probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(axis=-1) / np.log(classes)
    result["entropy"] = np.minimum(np.abs(entropy), 1)
    second, first = np.moveaxis(np.partition(probabilities, -2, axis=-1)[..., -2:], -1, 0)
    result["margin"] = first - second
    return result


def to_segmentation(found: np.ndarray) -> Segmentation:
    """The fields of a structured array, each by itself."""
    return Segmentation(*(np.ascontiguousarray(found[name]) for name in Segmentation._fields))
