"""Your own data: a folder of images beside a folder of masks, or a list in a file."""

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_exfuse._files import replace_file
from keras_exfuse.data.errors import DATA_ERROR
from keras_exfuse.data.examples import Examples, _some, listed, read_text

_IMAGES = (".jpg", ".jpeg", ".png")


def folder_pair(
    images: str | os.PathLike[str],
    masks: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    mask_suffix: str = "",
    check_files: bool = True,
) -> Examples:
    """List two folders, images and masks, matched by their file names without ending.

    Args:
        images: Folder of images (.jpg, .jpeg, .png); folders inside it are searched, too.
        masks: Folder of PNG masks in the same folders: palette, gray, or RGB (then give `colour_table` to
            `examples_dataset`).
        class_names: Names of the classes; the position is the label.
        mask_suffix: What a mask's name has behind the image's, for example `"_mask"`; with it, both may be in one
            folder.
        check_files: Whether to stop at an image without a mask, or a name that two images have.

    Returns:
        The examples, sorted by name.

    Raises:
        ValueError: If a folder is missing or empty, an image has no mask, or two images have one name.

    Example:
    >>> examples = folder_pair("photos", "labels", class_names=["ground", "leaf"])  # doctest: +SKIP
    >>> train = examples_dataset(examples, num_classes=2)  # doctest: +SKIP
    """
    image_folder, mask_folder = Path(images), Path(masks)
    for folder in (image_folder, mask_folder):
        if not folder.is_dir():
            raise ValueError(f"{DATA_ERROR} {folder}: there is no such folder.")
    files = sorted(file for file in image_folder.rglob("*") if file.suffix.lower() in _IMAGES)
    if mask_suffix and image_folder.resolve() == mask_folder.resolve():
        files = [file for file in files if not file.stem.endswith(mask_suffix)]
    names = [file.relative_to(image_folder).with_suffix("").as_posix() for file in files]
    mask_files = [mask_folder / f"{name}{mask_suffix}.png" for name in names]
    lonely = [str(file) for file, mask in zip(files, mask_files, strict=True) if not mask.is_file()]
    if lonely and check_files:
        raise ValueError(
            f"{DATA_ERROR} {_some(lonely)}: no mask of that name in {mask_folder} (expected "
            f"NAME{mask_suffix}.png); add the masks, or move the images away."
        )
    rows = list(zip(names, map(str, files), map(str, mask_files), strict=True))
    return listed(rows, f"{image_folder} with {mask_folder}", class_names, check_files)


def list_file(
    path: str | os.PathLike[str], *, class_names: Sequence[str] | None = None, check_files: bool = True
) -> Examples:
    """Read a list of examples from a CSV or JSON file.

    A CSV has a header line with the columns `image` and `mask`, and `name` if wanted. A JSON file is a list
    of objects with these keys, or an object with that list under `examples` and the names of the classes
    under `classes`; there, a mask of `null` says that an image has none: it is read as all 255. Paths are relative
    to the file.

    Args:
        path: The file, .csv or .json.
        class_names: Names of the classes; those of the file if `None`.
        check_files: Whether to look for every listed file.

    Returns:
        The examples, whose files are there. Without `name`, the image's file name without ending is the
        name.

    Raises:
        ValueError: If the file is missing, has another form, or names a file that is not there.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"{DATA_ERROR} {file}: there is no such file.")
    rows, names_in_file = _read_csv(file) if file.suffix.lower() == ".csv" else _read_json(file)
    for number, row in enumerate(rows, start=1):
        paths = (row.get("image"), row.get("mask", "")) if isinstance(row, dict) else ("", "")
        # No mask must be said: null, which a CSV file cannot hold.
        if not all(path and isinstance(path, str) for path in paths if path is not None) or paths[0] is None:
            raise ValueError(f"{DATA_ERROR} {file}: entry {number} has no 'image' or no 'mask': {row}.")
    found = [
        (
            str(row.get("name") or Path(row["image"]).with_suffix("").name),
            str(file.parent / row["image"]),
            str(file.parent / row["mask"]) if row["mask"] else "",
        )
        for row in rows
    ]
    return listed(found, str(file), class_names or names_in_file, check_files)


def _read_csv(file: Path) -> tuple[list[Any], None]:
    reader = csv.DictReader(io.StringIO(read_text(file), newline=""))
    missing = {"image", "mask"} - set(reader.fieldnames or ())
    if missing:
        raise ValueError(
            f"{DATA_ERROR} {file}: expected the columns image and mask in the first line, got "
            f"{', '.join(reader.fieldnames or ()) or 'nothing'}."
        )
    return [{key: row[key] or "" for key in row if key} for row in reader], None


def _read_json(file: Path) -> tuple[list[Any], list[str] | None]:
    try:
        content = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise ValueError(f"{DATA_ERROR} {file}: is neither CSV (by its name) nor JSON ({error}).") from error
    rows = content.get("examples") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise ValueError(f"{DATA_ERROR} {file}: expected a list of examples, or an object with 'examples'.")
    return rows, content.get("classes") if isinstance(content, dict) else None


def write_list(path: str | os.PathLike[str], examples: Examples) -> None:
    """Write a list of examples as JSON that `list_file` reads, with absolute paths.

    Args:
        path: The file.
        examples: What to write.
    """
    rows = [
        {"name": name, "image": os.path.abspath(image), "mask": os.path.abspath(mask) if mask else None}
        for name, image, mask in zip(examples.names, examples.images, examples.masks, strict=True)
    ]
    content: dict[str, Any] = {"classes": list(examples.class_names or ()), "examples": rows}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    replace_file(Path(path), lambda temporary: temporary.write_text(text, encoding="utf-8"))
