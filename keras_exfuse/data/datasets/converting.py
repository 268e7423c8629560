"""Masks that have to be drawn first: each written once as a PNG, with the list of them last."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from keras_exfuse.data.datasets.folders import list_file, write_list
from keras_exfuse.data.datasets.sbd import write_mask
from keras_exfuse.data.errors import DATA_ERROR
from keras_exfuse.data.examples import Examples, listed

#: Its presence says that a conversion was completed.
LIST = "examples.json"
#: Name of the class of pixels that nobody drew on.
BACKGROUND = "background"


def finished_conversion(output: str | os.PathLike[str]) -> Examples | None:
    """What an earlier conversion wrote; None if there is none, or one that was interrupted."""
    file = Path(output) / LIST
    return list_file(file) if file.is_file() else None


def write_masks(
    masks: Iterable[tuple[str, Path, np.ndarray | None]],
    count: int,
    output: str | os.PathLike[str],
    source: str,
    class_names: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
) -> Examples:
    """Write masks and their list.

    Args:
        masks: Name of each example, its image, and its labels (height, width); `None` leaves it out.
        count: How many there are.
        output: Folder for `SegmentationClass/NAME.png` and the list.
        source: Where they come from, for messages.
        class_names: Names of the classes.
        progress: Called with the images done and in all.

    Returns:
        The examples.

    Raises:
        ValueError: If an image is missing, or a name stands twice.
    """
    folder, rows = Path(output), []
    for number, (name, image, labels) in enumerate(masks, start=1):
        if labels is not None:
            mask = folder / f"SegmentationClass/{name}.png"
            write_mask(mask, labels)
            rows.append((name, str(image), str(mask)))
        if progress:
            progress(number, count)
    examples = listed(rows, source, class_names, check_files=True)
    write_list(folder / LIST, examples)
    return examples


def check_class_names(class_names: Sequence[str], source: str) -> None:
    """Raise a `ValueError` if there are more classes than labels, or a name stands twice."""
    if len(class_names) > 255:
        raise ValueError(f"{DATA_ERROR} {source}: {len(class_names)} classes; a mask has labels for 255.")
    twice = sorted({name for name in class_names if list(class_names).count(name) > 1})
    if twice:
        raise ValueError(f"{DATA_ERROR} {source}: more than one class is called {twice[0]!r}.")
