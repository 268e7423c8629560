"""Scores of a model over a data set: each image at its own size, one confusion matrix."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse.metrics import iou_per_class
from keras_exfuse.visualize import class_name


@dataclasses.dataclass(frozen=True, repr=False)
class Evaluation:
    """A confusion matrix over a data set and what follows from it.

    Attributes:
        counts: int64 (C, C) pixels; rows are the truth, columns the prediction.
        class_names: C names.
        num_images: Number of images.
        seconds: Time for reading, predicting and counting.

    Example:
    >>> import numpy as np
    >>> print(Evaluation(np.array([[6, 2], [0, 0]]), ("background", "cat"), num_images=1))
    class         IoU  accuracy  share of pixels
    background  0.750     0.750          100.0 %
    cat         0.000         -            0.0 %
    mean IoU 0.375, pixel accuracy 0.750, 1 image
    """

    counts: np.ndarray
    class_names: tuple[str, ...]
    num_images: int
    seconds: float = 0.0

    def __str__(self) -> str:
        """A table for people: what each class scores, and the means."""
        truth = self.counts.sum(axis=1)
        rows = [("class", "IoU", "accuracy", "share of pixels")]
        for label, (name, iou) in enumerate(zip(self.class_names, self.iou, strict=True)):
            right = f"{self.counts[label, label] / truth[label]:.3f}" if truth[label] else "-"
            share = f"{100 * truth[label] / max(truth.sum(), 1):.1f} %"
            rows.append((name, "-" if np.isnan(iou) else f"{iou:.3f}", right, share))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
        images = f"{self.num_images} image{'s' * (self.num_images != 1)}"
        lines.append(f"mean IoU {self.mean_iou():.3f}, pixel accuracy {self.pixel_accuracy:.3f}, {images}")
        return "\n".join(lines)

    __repr__ = __str__

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union of each class, nan where the class occurs nowhere: float64 (C,)."""
        return iou_per_class(self.counts)

    @property
    def pixel_accuracy(self) -> float:
        """Share of the labelled pixels that are right."""
        return float(np.trace(self.counts) / max(self.counts.sum(), 1))

    def mean_iou(self, classes: Sequence[int] | None = None) -> float:
        """Average the intersection over union.

        Args:
            classes: The classes that count; all that occur by default.

        Returns:
            The mean, nan if none of the classes occurs.

        Raises:
            ValueError: If a class does not exist.
        """
        chosen = self.iou if classes is None else self.iou[list(check_classes(classes, len(self.counts)))]
        return float(np.nanmean(chosen)) if np.isfinite(chosen).any() else float("nan")

    def to_dict(self, classes: Sequence[int] | None = None) -> dict[str, Any]:
        """Everything as plain numbers, for JSON."""
        per_class = {
            name: None if np.isnan(value) else round(float(value), 6)
            for name, value in zip(self.class_names, self.iou, strict=True)
        }
        return {
            "mean_iou": round(self.mean_iou(), 6),
            "classes": None if classes is None else list(classes),
            "mean_iou_of_classes": None if classes is None else round(self.mean_iou(classes), 6),
            "pixel_accuracy": round(self.pixel_accuracy, 6),
            "iou": per_class,
            "num_images": self.num_images,
            "seconds": round(self.seconds, 2),
            "confusion_matrix": self.counts.tolist(),
        }


def evaluate(
    predictor: Callable[[np.ndarray], np.ndarray],
    pairs: Iterable[tuple[np.ndarray, np.ndarray]],
    num_classes: int,
    class_names: Sequence[str] | None = None,
) -> Evaluation:
    """Count right and wrong pixels of every image at its own size; 255 in a mask is not counted.

    Args:
        predictor: From RGB (H, W, 3) to labels (H, W), such as a `Predictor`.
        pairs: Images and their masks, (H, W, 3) and (H, W), one after another.
        num_classes: Number of classes C.
        class_names: C names.

    Returns:
        The scores.

    Raises:
        ValueError: If there is no pair, or a mask does not fit its image or the number of classes.
    """
    import time

    start, number = time.monotonic(), 0
    counts = np.zeros((num_classes, num_classes), "int64")
    for image, mask in pairs:
        counts += confusion(mask, predictor(image), num_classes)
        number += 1
    if not number:
        raise ValueError("There is nothing to evaluate: the data set has no image.")
    names = tuple(class_name(label, class_names) for label in range(num_classes))
    return Evaluation(counts, names, number, time.monotonic() - start)


def confusion(truth: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Count pixels by truth and prediction, leaving out 255.

    Args:
        truth: Integers (H, W), 0..num_classes-1 or 255.
        labels: Integers (H, W), 0..num_classes-1.
        num_classes: Number of classes C.

    Returns:
        int64 (C, C); rows are the truth.

    Raises:
        ValueError: If the sizes differ or the truth holds another label.
    """
    if truth.shape != labels.shape:
        raise ValueError(f"Mask and image differ in size: {truth.shape} and {labels.shape} (height, width).")
    judged = truth != IGNORE_CLASS
    truth, labels = truth[judged].astype("int64"), labels[judged].astype("int64")
    if truth.size and truth.max() >= num_classes:
        raise ValueError(
            f"A mask has the label {truth.max()}, but the model has {num_classes} classes "
            f"(0..{num_classes - 1}; 255 is ignored). Evaluate with the model that was trained for these masks."
        )
    cells = np.bincount(truth * num_classes + labels, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def check_classes(classes: Sequence[int], num_classes: int) -> tuple[int, ...]:
    """Make sure that classes exist.

    Args:
        classes: Class numbers.
        num_classes: Number of classes.

    Returns:
        The same classes.

    Raises:
        ValueError: If there is none, or one is outside 0..num_classes-1.
    """
    wrong = [label for label in classes if not 0 <= label < num_classes]
    if wrong or not classes:
        raise ValueError(
            f"`classes` must be numbers within 0..{num_classes - 1}, got {wrong or 'none'}. "
            "Leave it out to average over all classes."
        )
    return tuple(classes)
