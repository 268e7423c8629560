"""Reading a whole data set once, to say what is in it and what is wrong with it."""

import collections
import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse.data.examples import Examples
from keras_exfuse.data.noticing import notice
from keras_exfuse.data.pairs import checked_pair


@dataclasses.dataclass
class CheckReport:
    """What a check found.

    Args:
        source: What was checked.
        count: Examples that were looked at.
        num_classes: The classes that were expected.
        class_names: Their names, where known.
        errors: One line for each bad example, by its name, and for what is wrong with the list itself.
        warnings: Suspicious things that are no errors.
        class_pixels: Pixels of each label, int64 (256,).
        class_images: Masks that hold each label, int64 (256,).
        heights: Heights of the good images.
        widths: Widths of the good images.
    """

    source: str
    count: int
    num_classes: int
    class_names: tuple[str, ...] | None = None
    errors: dict[str, str] = dataclasses.field(default_factory=dict)
    warnings: list[str] = dataclasses.field(default_factory=list)
    class_pixels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(256, np.int64))
    class_images: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(256, np.int64))
    heights: list[int] = dataclasses.field(default_factory=list)
    widths: list[int] = dataclasses.field(default_factory=list)

    @property
    def pixel_shares(self) -> np.ndarray:
        """Share of each class among the labelled pixels, float64 (num_classes,)."""
        counts = self.class_pixels[: self.num_classes]
        return counts / max(1, counts.sum())

    @property
    def void_share(self) -> float:
        """Share of 255 among all pixels."""
        return float(self.class_pixels[IGNORE_CLASS] / max(1, self.class_pixels.sum()))

    def name_of(self, label: int) -> str:
        """A class by name and number."""
        names = self.class_names or ()
        return f"{label} {names[label]}" if label < len(names) else f"{label}"


def check_examples(
    examples: Examples,
    num_classes: int,
    *,
    class_names: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Read every example, in parallel; nothing stops at the first error.

    Args:
        examples: What to check; the files need not be there.
        num_classes: Labels must lie in 0..num_classes-1 or be 255.
        class_names: Names for the report; those of the examples if `None`.
        progress: Called with the examples done and in all.

    Returns:
        The report.
    """
    report = CheckReport(
        examples.source, len(examples), num_classes, tuple(class_names or examples.class_names or ()) or None
    )
    report.errors.update(examples.problems)
    by_content = collections.defaultdict(list)
    wrong_labels: collections.Counter[int] = collections.Counter()
    only_void = []

    def look(index: int) -> tuple[tuple[int, int], np.ndarray, bytes] | str:
        image_path, mask_path = examples.images[index], examples.masks[index]
        counts = np.zeros(256, np.int64)
        try:
            # First with all labels allowed, so that the report can say which wrong ones there are.
            how = examples.mask_format, examples.value_range
            image, mask = checked_pair(image_path, mask_path, IGNORE_CLASS, *how)
            counts += np.bincount(mask.ravel(), minlength=256)
            if counts[num_classes:IGNORE_CLASS].any():
                checked_pair(image_path, mask_path, num_classes, *how)
        except ValueError as error:
            wrong_labels.update((num_classes + np.flatnonzero(counts[num_classes:IGNORE_CLASS])).tolist())
            return str(error)
        return image.shape[:2], counts, hashlib.md5(Path(image_path).read_bytes()).digest()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for index, found in enumerate(pool.map(look, range(len(examples)))):
            name = examples.names[index]
            if isinstance(found, str):
                report.errors[name] = found
            else:
                (height, width), counts, content = found
                report.heights.append(height)
                report.widths.append(width)
                report.class_pixels += counts
                report.class_images += counts > 0
                by_content[content].append(name)
                if not counts[:IGNORE_CLASS].any() and examples.masks[index]:
                    only_void.append(name)
            if progress:
                progress(index + 1, len(examples))

    report.warnings = _suspicions(report, wrong_labels, only_void, list(by_content.values()))
    if examples.passed_over:
        report.warnings.append(examples.passed_over)
    return report


def _suspicions(
    report: CheckReport,
    wrong_labels: "collections.Counter[int]",
    only_void: list[str],
    alike: list[list[str]],
) -> list[str]:
    """What a person would want to look at."""
    warnings = []
    judged = report.class_images[: report.num_classes]
    unseen = [report.name_of(label) for label in range(report.num_classes) if not judged[label]]
    if unseen and judged.any():
        warnings.append(f"{_classes(len(unseen))} never seen: {', '.join(unseen)}.")
    unmeant = notice(report.class_pixels, report.num_classes, report.source, report.class_names)
    if unmeant:
        warnings.append(unmeant)
    if only_void:
        warnings.append(f"{len(only_void)} masks are all void (255): {_names(only_void)}.")
    if set(wrong_labels) == {report.num_classes} and (judged[0] == 0 or not judged.any()):
        warnings.append(
            f"The labels look off by one: {report.num_classes} occurs and 0 never does. Were they counted from 1?"
        )
    elif wrong_labels:
        largest = max(wrong_labels)
        warnings.append(
            f"The labels {', '.join(map(str, sorted(wrong_labels)[:10]))} lie outside the {report.num_classes} "
            f"classes; if they are classes, num_classes is at least {largest + 1}."
        )
    elif judged.any() and not judged[0] and report.num_classes > 2:
        warnings.append("The label 0 never occurs: are the labels counted from 1, off by one?")
    twins = [names for names in alike if len(names) > 1]
    if twins:
        shown = "; ".join(" = ".join(names[:3]) for names in twins[:3])
        warnings.append(f"{len(twins)} images are there more than once, byte for byte: {shown}.")
    return warnings


def _classes(count: int) -> str:
    return "1 class was" if count == 1 else f"{count} classes were"


def _names(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
