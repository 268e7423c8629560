"""Public data sets of scenes as they are distributed: Cityscapes and ADE20K."""

import os
from pathlib import Path

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse.data.datasets.folders import folder_pair
from keras_exfuse.data.errors import DATA_ERROR
from keras_exfuse.data.examples import Examples, read_text

#: The 19 classes of Cityscapes that are scored; the position is the train id.
CITYSCAPES_CLASSES = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)
#: The label id of each train id. Source: cityscapesscripts/helpers/labels.py.
CITYSCAPES_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
ADE20K_CLASSES, ADE20K_LABELS = 150, "objectInfo150.txt"


def cityscapes(
    root: str | os.PathLike[str], split: str = "train", *, labels: str = "labelIds", check_files: bool = True
) -> Examples:
    """List a split of Cityscapes, fine annotations.

    Args:
        root: With `leftImg8bit/` and `gtFine/`.
        split: `"train"`, `"val"` or `"test"`.
        labels: `"labelIds"` for the masks that come with the data set, whose 19 scored classes become the train ids and
            whose others become 255; or `"labelTrainIds"` for those that cityscapesscripts makes.
        check_files: Whether to stop at an image without a mask.

    Returns:
        The examples, with `class_names`.

    Raises:
        ValueError: If a folder is missing, or an image has no mask.

    Example:
    >>> val = cityscapes("cityscapes", "val")  # doctest: +SKIP
    """
    if labels not in ("labelIds", "labelTrainIds"):
        raise ValueError(f"`labels` must be 'labelIds' or 'labelTrainIds', got {labels!r}.")
    folder = Path(root)
    _check_split(folder / "leftImg8bit", split)
    examples = folder_pair(
        folder / "leftImg8bit" / split,
        folder / "gtFine" / split,
        class_names=CITYSCAPES_CLASSES,
        image_suffix="_leftImg8bit",
        mask_suffix=f"_gtFine_{labels}",
        check_files=check_files,
    )
    if labels == "labelTrainIds":
        return examples
    remap = dict.fromkeys(range(256), IGNORE_CLASS)
    remap.update({stored: label for label, stored in enumerate(CITYSCAPES_LABEL_IDS)})
    return examples.with_masks(remap=remap)


def ade20k(root: str | os.PathLike[str], split: str = "training", *, check_files: bool = True) -> Examples:
    """List a split of ADE20K with its 150 classes (ADEChallengeData2016); its 0, which is no class, is ignored.

    Args:
        root: With `images/`, `annotations/`, and `objectInfo150.txt` for the names of the classes.
        split: `"training"` or `"validation"`.
        check_files: Whether to stop at an image without a mask.

    Returns:
        The examples, read with `reduce_zero_label=True`; with `class_names` where the file is there.

    Raises:
        ValueError: If a folder is missing, or an image has no mask.

    Example:
    >>> val = ade20k("ADEChallengeData2016", "validation")  # doctest: +SKIP
    """
    folder = Path(root)
    _check_split(folder / "images", split)
    examples = folder_pair(
        folder / "images" / split,
        folder / "annotations" / split,
        class_names=_ade20k_names(folder / ADE20K_LABELS),
        check_files=check_files,
    )
    return examples.with_masks(reduce_zero_label=True)


def _check_split(folder: Path, split: str) -> None:
    if not (folder / split).is_dir():
        known = ", ".join(sorted(each.name for each in folder.glob("*") if each.is_dir())) or "(none)"
        raise ValueError(
            f"{DATA_ERROR} unknown split {split!r}: expected one of {known}, the folders in {folder}."
        )


def _ade20k_names(file: Path) -> list[str] | None:
    """The first name of each class: the last column of a table under a line of titles."""
    if not file.is_file():
        return None
    rows = [line.split("\t") for line in read_text(file).splitlines()[1:] if line.strip()]
    names = [row[-1].split(",")[0].strip() for row in rows]
    if len(names) != ADE20K_CLASSES:
        raise ValueError(f"{DATA_ERROR} {file}: expected {ADE20K_CLASSES} classes, got {len(names)}.")
    return names
