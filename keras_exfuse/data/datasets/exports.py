"""What annotation tools export as masks: CVAT, labelme, Roboflow. Their labels and colors are read along."""

import csv
import io
import os
from pathlib import Path

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse.data.datasets.folders import folder_pair
from keras_exfuse.data.errors import DATA_ERROR
from keras_exfuse.data.examples import Examples, listed, read_id_list, read_text
from keras_exfuse.data.masks import MaskFormat
from keras_exfuse.data.reading import IMAGE_SUFFIXES

CVAT_LABELS, LABELME_LABELS, ROBOFLOW_LABELS = "labelmap.txt", "class_names.txt", "_classes.csv"


def cvat_export(
    folder: str | os.PathLike[str],
    split: str = "default",
    *,
    images: str | os.PathLike[str] | None = None,
    check_files: bool = True,
) -> Examples:
    """List an export of CVAT's "Segmentation mask 1.1", unpacked.

    The labels are the lines of `labelmap.txt`, in their order; masks may be gray (the line is the value) or in the
    colors of the lines.

    Args:
        folder: With `labelmap.txt`, `SegmentationClass/` and `ImageSets/Segmentation/`.
        split: List in `ImageSets/Segmentation`, without `.txt`.
        images: Folder of the images, where they are not in `JPEGImages/` (an export "with images" has them there).
        check_files: Whether to stop at a file that is missing, or a name that stands twice.

    Returns:
        The examples, with `class_names` and their colors.

    Raises:
        ValueError: If something is missing, or a line of `labelmap.txt` has another form.

    Source: https://docs.cvat.ai/docs/dataset_management/formats/format-smask
    """
    root = Path(folder)
    names, colors = read_labelmap(root / CVAT_LABELS)
    source = root / f"ImageSets/Segmentation/{split}.txt"
    if not source.is_file():
        known = ", ".join(sorted(file.stem for file in source.parent.glob("*.txt"))) or "(none)"
        raise ValueError(
            f"{DATA_ERROR} unknown split {split!r}: expected one of {known}, the .txt files in {source.parent}."
        )
    rows = []
    image_folder = Path(images) if images is not None else root / "JPEGImages"
    for name in read_id_list(source):
        rows.append((name, _image_of(image_folder, name), str(root / f"SegmentationClass/{name}.png")))
    examples = listed(rows, str(source), names, check_files)
    return examples.with_masks(color_table=colors)


def read_labelmap(path: str | os.PathLike[str]) -> tuple[list[str], list[tuple[int, int, int]]]:
    """Names and colors of a `labelmap.txt` of CVAT, whose lines are `name:r,g,b:parts:actions`.

    Raises:
        ValueError: If the file is missing, or a line has another form; the text names it.
    """
    names: list[str] = []
    colors: list[tuple[int, int, int]] = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        # A name may have colons in it: the color is the third part from the end, or the last of two.
        parts = line.strip().rsplit(":", 3) if line.count(":") >= 3 else line.strip().split(":")
        try:
            red, green, blue = (int(value) for value in parts[1].split(","))
        except (IndexError, ValueError):
            raise ValueError(
                f"{DATA_ERROR} {path}: line {number} is {line!r}; expected name:r,g,b::, as CVAT writes it."
            ) from None
        names.append(parts[0])
        colors.append((red, green, blue))
    MaskFormat(colors)  # Says what is wrong with them.
    return names, colors


def labelme_export(
    folder: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    check_files: bool = True,
) -> Examples:
    """List what labelme's `labelme2voc.py` wrote.

    Args:
        folder: With `class_names.txt`, `JPEGImages/`, and `SegmentationClassPNG/` (or, in newer versions,
            `SegmentationClass/`).
        images: Folder of the images, where they are not in `JPEGImages/`.
        check_files: Whether to stop at an image without a mask, or a name that two images have.

    Returns:
        The examples, with `class_names`. The label `__ignore__` is 255.

    Raises:
        ValueError: If something is missing.

    Source: https://github.com/wkentaro/labelme/tree/main/examples/semantic_segmentation
    """
    root = Path(folder)
    names = [line.strip() for line in _text(root / LABELME_LABELS).splitlines() if line.strip()]
    names = [name for name in names if name != "__ignore__"]
    found = [root / name for name in ("SegmentationClassPNG", "SegmentationClass") if (root / name).is_dir()]
    if not found:
        raise ValueError(
            f"{DATA_ERROR} {root}: expected SegmentationClassPNG/ or SegmentationClass/ beside {LABELME_LABELS}."
        )
    image_folder = Path(images) if images is not None else root / "JPEGImages"
    return folder_pair(image_folder, found[0], class_names=names, check_files=check_files)


def roboflow_export(
    folder: str | os.PathLike[str], split: str = "train", *, check_files: bool = True
) -> Examples:
    """List an export of Roboflow's "Semantic Segmentation Masks", unpacked.

    Args:
        folder: With `train/`, `valid/` and `test/`, each of images, masks NAME_mask.png and `_classes.csv`.
        split: Name of such a folder.
        check_files: Whether to stop at an image without a mask, or a name that two images have.

    Returns:
        The examples, with `class_names`; labels are counted in the order of the values in `_classes.csv`.

    Raises:
        ValueError: If something is missing.
    """
    part = Path(folder) / split
    if not (part / ROBOFLOW_LABELS).is_file():
        known = ", ".join(roboflow_splits(folder)) or "(none)"
        raise ValueError(f"{DATA_ERROR} unknown split {split!r} of {folder}: expected one of {known}.")
    rows = list(csv.reader(io.StringIO(_text(part / ROBOFLOW_LABELS), newline=""), skipinitialspace=True))
    try:
        classes = sorted((int(value), name) for value, name in (row[:2] for row in rows[1:] if row))
    except ValueError:
        raise ValueError(
            f"{DATA_ERROR} {part / ROBOFLOW_LABELS}: expected lines VALUE, NAME under a line of titles."
        ) from None
    names = [name.strip() for _, name in classes]
    moved = {value: label for label, (value, _) in enumerate(classes) if value not in (label, IGNORE_CLASS)}
    examples = folder_pair(part, part, class_names=names, mask_suffix="_mask", check_files=check_files)
    return examples.with_masks(remap=moved or None)


def roboflow_splits(folder: str | os.PathLike[str]) -> list[str]:
    """The folders in an export of Roboflow's."""
    return sorted(file.parent.name for file in Path(folder).glob(f"*/{ROBOFLOW_LABELS}"))


def _image_of(folder: Path, name: str) -> str:
    """The image of a name without ending; where there is none, what is missing."""
    found = (folder / f"{name}{suffix}" for suffix in IMAGE_SUFFIXES)
    return str(next((path for path in found if path.is_file()), folder / f"{name}.jpg"))


def _text(path: str | os.PathLike[str]) -> str:
    if not Path(path).is_file():
        raise ValueError(f"{DATA_ERROR} {path}: there is no such file.")
    return read_text(path)
