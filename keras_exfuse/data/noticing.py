"""Masks that can be read, and still are not what their user means: what to say about them."""

import warnings
from collections.abc import Sequence

import numpy as np

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse.data.examples import Examples

# More ignored pixels than borders around objects and the padding of crops make, where a class is missing besides.
_MANY_IGNORED = 0.3
_MASKS_READ, _PIXELS_READ = 16, 1 << 26


class DataNotice(UserWarning):
    """Says that data are read in a way that their user may not mean."""


def notice(
    counts: np.ndarray, num_classes: int, source: str, class_names: Sequence[str] | None = None
) -> str | None:
    """Say whether ignored pixels may be a class that never occurs.

    Args:
        counts: Pixels of each label, (256,); 255 is ignored.
        num_classes: Number of classes.
        source: Where the masks come from.
        class_names: Names of the classes, if known.

    Returns:
        What is suspicious, and what to write; `None` if nothing is.

    Example:
    >>> counts = np.zeros(256, int)
    >>> counts[[0, 255]] = 900, 100
    >>> print(notice(counts, 2, "cats"))
    cats: the masks hold only 0 and 255, and 255 is ignored: class 1 never occurs. If 255 is that class, pass \
binary=True (--binary).
    """
    ignored, classes = int(counts[IGNORE_CLASS]), counts[:num_classes]
    absent = np.flatnonzero(classes == 0)
    if not ignored or not len(absent) or not classes.any():
        return None
    first = f"class {absent[0]}" + (f" ({class_names[absent[0]]})" if class_names else "")
    if not classes[1:].any():
        return (
            f"{source}: the masks hold only 0 and 255, and 255 is ignored: {first} never occurs. If 255 is that class, "
            "pass binary=True (--binary)."
        )
    share = ignored / int(counts.sum())
    if share < _MANY_IGNORED:
        return None
    return (
        f"{source}: {share:.0%} of the pixels are ignored (255), and {first} never occurs. If 255 is a class, pass "
        f"remap={{255: {absent[0]}}} (--remap 255:{absent[0]})."
    )


def warn_of_labels(examples: Examples, num_classes: int) -> None:
    """Read some of the masks, and warn where they look as if they were read wrongly.

    Args:
        examples: A few of them are read, from first to last; what cannot be read is left to who reads it in earnest.
        num_classes: Number of classes.
    """
    masks = [path for path in examples.masks if path]
    chosen = sorted({number * len(masks) // _MASKS_READ for number in range(_MASKS_READ)}) if masks else []
    counts = np.zeros(256, np.int64)
    for index in chosen:
        if counts.sum() > _PIXELS_READ:
            break
        try:
            counts += np.bincount(examples.mask_format.read(masks[index]).ravel(), minlength=256)
        except ValueError:
            continue  # It is an error, or left out, when its turn comes.
    text = notice(counts, num_classes, examples.source, examples.class_names)
    if text:
        warnings.warn(text, DataNotice, stacklevel=3)


class SeenLabels:
    """Counts the labels that a model is trained on; 255 is ignored.

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self._counts = np.zeros(256, np.int64)

    def add(self, counts: np.ndarray) -> np.bool_:
        """Add the pixels of each label in some masks, (256,); true."""
        self._counts += counts
        return np.bool_(True)

    def warn(self) -> None:
        """Warn where the labels so far look as if masks were read wrongly."""
        text = notice(self._counts, self.num_classes, "the training data")
        if text:
            text += " In arrays, give these pixels the number of the class."
            warnings.warn(text, DataNotice, stacklevel=2)
