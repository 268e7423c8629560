"""Which images a model does worst, or whose masks look wrong: scores of each, a table, a contact sheet."""

import csv
import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse._files import replace_file
from keras_exfuse._optional import require
from keras_exfuse.inference.evaluation import Evaluation, confusion
from keras_exfuse.metrics import iou_per_class
from keras_exfuse.visualize import class_name, comparison, grid

if TYPE_CHECKING:
    from PIL.Image import Image

#: What images can be sorted by, and whether it needs probabilities.
ORDERS = {"iou": False, "loss": True, "label_quality": True}


@dataclasses.dataclass(frozen=True)
class ImageScore:
    """What a model scores on one image; nan where there is nothing to score, or it was not asked for.

    Attributes:
        name: The example's name.
        index: Its place in the examples.
        iou: Mean IoU over the classes that occur in its mask or its prediction.
        pixel_accuracy: Share of the labelled pixels that are right.
        loss: Mean cross-entropy of the labelled pixels.
        label_quality: cleanlab's score of the mask, 0 to 1: low where the model is sure of another label.
        worst_class: Name of the class with the lowest IoU.
        labelled_pixels: Number of pixels that are not ignored.
    """

    name: str
    index: int
    iou: float
    pixel_accuracy: float
    loss: float
    label_quality: float
    worst_class: str
    labelled_pixels: int


@dataclasses.dataclass(frozen=True)
class Review:
    """The scores of each image of a data set, the worst first.

    Attributes:
        scores: One `ImageScore` an image.
        by: What they are sorted by.
        evaluation: The scores of all images together.
    """

    scores: tuple[ImageScore, ...]
    by: str
    evaluation: Evaluation
    _predictor: Callable[[np.ndarray], np.ndarray] = dataclasses.field(repr=False)
    _examples: Any = dataclasses.field(repr=False)

    def __str__(self) -> str:
        """A table of the ten worst."""
        return self.table(10)

    def table(self, count: int) -> str:
        """The worst images as lines of text."""
        worst = self.scores[:count]
        width = max(len("image"), *(len(score.name) for score in worst))
        lines = [f"{'image'.ljust(width)}  {self.by:>13}  worst class"]
        for score in worst:
            lines.append(f"{score.name.ljust(width)}  {getattr(score, self.by):13.4f}  {score.worst_class}")
        return "\n".join(lines)

    def write_csv(self, path: str | Path) -> Path:
        """Write a row for each image, the worst first.

        Args:
            path: The file; what is there is replaced.

        Returns:
            The file.
        """
        fields = [field.name for field in dataclasses.fields(ImageScore)]

        def write(temporary: Path) -> None:
            with temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(fields)
                for score in self.scores:
                    values = (getattr(score, field) for field in fields)
                    writer.writerow([_as_text(value) for value in values])

        return replace_file(Path(path), write)

    def sheet(self, count: int = 12, columns: int = 1, tile_width: int = 240) -> "Image":
        """Draw the worst images: each with its truth, its prediction and where the two differ.

        Args:
            count: Number of images.
            columns: Images in a row.
            tile_width: Width of each of an image's four pictures, in pixels.

        Returns:
            A PIL image of mode "RGB".
        """
        from keras_exfuse.data import resized_labels

        pil = require("PIL.Image", extra="data")
        tiles, titles = [], []
        for score in self.scores[:count]:
            image, mask = self._examples.read(score.index)
            size = max(1, round(image.shape[0] * tile_width / image.shape[1])), tile_width
            truth, labels = (resized_labels(each, size) for each in (mask, self._predictor(image)))
            small = pil.fromarray(image).resize(size[::-1])
            tiles.append(comparison(small, truth, labels, self.evaluation.class_names, difference=True))
            titles.append(f"{score.name}: {self.by.replace('_', ' ')} {getattr(score, self.by):.3f}")
        return grid(tiles, titles, columns)


def review(
    predictor: Any,
    examples: Any,
    num_classes: int,
    class_names: Sequence[str] | None = None,
    *,
    by: str = "iou",
    progress: Callable[[int, int], None] | None = None,
) -> Review:
    """Score every image by itself, each at its own size, and sort them: the worst first.

    Args:
        predictor: A `keras_exfuse.Predictor`; for `by="iou"` anything from RGB (H, W, 3) to labels (H, W).
        examples: `keras_exfuse.data.Examples`, or records.
        num_classes: Number of classes C.
        class_names: C names.
        by: `"iou"` for the lowest mean IoU; `"loss"` for the highest cross-entropy; `"label_quality"` for the masks
            that are most probably wrong, by cleanlab's label quality score (extra `review`).
        progress: Called with the images done and in all.

    Returns:
        The scores, which also write a CSV file and draw a contact sheet.

    Raises:
        ValueError: If a mask does not fit its image or the number of classes, or `by` is none of the three.
        ImportError: If cleanlab is needed and not installed.

    Example:
    >>> import keras_exfuse
    >>> predictor = keras_exfuse.Predictor(keras_exfuse.load("runs/first"))  # doctest: +SKIP
    >>> worst = review(predictor, examples, num_classes=21)  # doctest: +SKIP
    >>> worst.sheet(12).save("worst.png")  # doctest: +SKIP
    """
    import time

    if by not in ORDERS:
        raise ValueError(f"`by` must be one of {', '.join(ORDERS)}, got {by!r}.")
    start, scores = time.monotonic(), []
    counts = np.zeros((num_classes, num_classes), "int64")
    rank = require("cleanlab.segmentation.rank", extra="review") if by == "label_quality" else None
    names = tuple(class_name(label, class_names) for label in range(num_classes))
    for index in range(len(examples)):
        image, mask = examples.read(index)
        probabilities = predictor(image, probabilities=True) if ORDERS[by] else None
        labels = predictor(image) if probabilities is None else probabilities.argmax(axis=-1)
        cells = confusion(mask, labels, num_classes)
        counts += cells
        scores.append(_score(examples.names[index], index, cells, names, mask, probabilities, rank))
        if progress is not None:
            progress(index + 1, len(examples))
    evaluation = Evaluation(counts, names, len(scores), time.monotonic() - start)
    sign = -1 if by == "loss" else 1

    def order(score: ImageScore) -> tuple[bool, float]:
        value = getattr(score, by)
        return math.isnan(value), sign * value  # Without a labelled pixel: last.

    return Review(tuple(sorted(scores, key=order)), by, evaluation, predictor, examples)


def _score(name, index, cells, class_names, mask, probabilities, rank) -> ImageScore:
    """The scores of one image, from its own confusion matrix and, where there are any, its probabilities."""
    iou, total = iou_per_class(cells), int(cells.sum())
    loss = quality = math.nan
    if probabilities is not None and total:
        loss = _cross_entropy(mask, probabilities)
        if rank is not None:
            quality = _label_quality(mask, probabilities, rank)
    found = bool(np.isfinite(iou).any())
    return ImageScore(
        name=name,
        index=index,
        iou=float(np.nanmean(iou)) if found else math.nan,
        pixel_accuracy=float(np.trace(cells)) / total if total else math.nan,
        loss=loss,
        label_quality=quality,
        worst_class=class_names[int(np.nanargmin(iou))] if found else "",
        labelled_pixels=total,
    )


def _cross_entropy(mask: np.ndarray, probabilities: np.ndarray) -> float:
    labelled = mask != IGNORE_CLASS
    right = np.take_along_axis(probabilities[labelled], mask[labelled].astype(int)[:, None], axis=-1)
    return float(-np.log(np.maximum(right, 1e-12)).mean())


def _label_quality(mask: np.ndarray, probabilities: np.ndarray, rank: Any) -> float:
    """Cleanlab's score of one mask. It knows no ignored pixels, so it gets the labelled ones alone, as one row."""
    labelled = mask != IGNORE_CLASS
    labels = mask[labelled].astype(int)[None, None]
    scores, _ = rank.get_label_quality_scores(
        labels, np.moveaxis(probabilities[labelled], -1, 0)[None, :, None], method="softmin", verbose=False
    )
    return float(scores[0])


def _as_text(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6f}"
    return value
