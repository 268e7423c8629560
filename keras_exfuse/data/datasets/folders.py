"""Your own data: a folder of images beside a folder of masks, or a list in a file."""

import collections
import csv
import dataclasses
import io
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_exfuse._files import replace_file
from keras_exfuse.data.errors import DATA_ERROR
from keras_exfuse.data.examples import Examples, _some, listed, read_text
from keras_exfuse.data.reading import IMAGE_SUFFIXES, other_files

_UNKNOWN = "Add the masks, move the images away, or pass image_suffix= and mask_suffix= if the names end differently."


def folder_pair(
    images: str | os.PathLike[str],
    masks: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    image_suffix: str = "",
    mask_suffix: str = "",
    check_files: bool = True,
) -> Examples:
    """List two folders, images and masks, matched by their file names without ending.

    Args:
        images: Folder of images; folders inside it are searched, too.
        masks: Folder of masks in the same folders, PNG or another lossless format: palette, gray, or RGB (then give
            `color_table` to `examples_dataset`). Of two masks of one name, the PNG is taken.
        class_names: Names of the classes; the position is the label.
        image_suffix: What an image's name ends with and its mask's does not, for example `"_leftImg8bit"`; other files
            are passed over.
        mask_suffix: What a mask's name ends with and its image's does not, for example `"_mask"`; with it, both may be
            in one folder.
        check_files: Whether to stop at an image without a mask, or a name that two images have.

    Returns:
        The examples, sorted by name.

    Raises:
        ValueError: If a folder is missing or empty, an image has no mask (the text has the suffixes that the names
            seem to have), or two images have one name.

    Example:
    >>> examples = folder_pair("photos", "labels", class_names=["ground", "leaf"])  # doctest: +SKIP
    >>> train = examples_dataset(examples, num_classes=2)  # doctest: +SKIP
    """
    image_folder, mask_folder = Path(images), Path(masks)
    for folder in (image_folder, mask_folder):
        if not folder.is_dir():
            raise ValueError(f"{DATA_ERROR} {folder}: there is no such folder.")
    files = _image_files(image_folder)
    if not files:
        raise ValueError(
            f"{DATA_ERROR} {image_folder}: the folder holds no image. {other_files(image_folder)}".strip()
        )
    if image_folder.resolve() == mask_folder.resolve():
        if not (image_suffix or mask_suffix):
            raise ValueError(
                f"{DATA_ERROR} {image_folder} holds images and masks: say how the names of the masks differ. "
                f"{_suffixes(_stems(files, image_folder), _stems(files, image_folder)) or _UNKNOWN}"
            )
        if mask_suffix:
            files = [file for file in files if not file.stem.endswith(mask_suffix)]
    names = [
        name.removesuffix(image_suffix) for name in _stems(files, image_folder) if name.endswith(image_suffix)
    ]
    files = [file for file in files if file.stem.endswith(image_suffix)]
    there = _image_files(mask_folder)
    by_name: dict[str, Path] = {}
    for file, name in zip(there, _stems(there, mask_folder), strict=True):
        if file.suffix.lower() == ".png" or name not in by_name:
            by_name[name] = file
    mask_files = [by_name.get(name + mask_suffix, mask_folder / f"{name}{mask_suffix}.png") for name in names]
    lonely = [file for file, name in zip(files, names, strict=True) if name + mask_suffix not in by_name]
    if lonely and check_files:
        raise ValueError(
            f"{DATA_ERROR} {_some(list(map(str, lonely)))}: no mask of that name in {mask_folder} (expected "
            f"NAME{mask_suffix}.png). {_suffixes(_stems(lonely, image_folder), _stems(there, mask_folder)) or _UNKNOWN}"
        )
    rows = list(zip(names, map(str, files), map(str, mask_files), strict=True))
    examples = listed(rows, f"{image_folder} with {mask_folder}", class_names, check_files)
    return dataclasses.replace(examples, passed_over=other_files(image_folder))


def _image_files(folder: Path) -> list[Path]:
    """The images in a folder and in those inside it, by their names' endings; sorted."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    )


def _stems(files: Sequence[Path], folder: Path) -> list[str]:
    """Names in a folder, without ending."""
    return [file.relative_to(folder).with_suffix("").as_posix() for file in files]


def suffixes_in(folder: str | os.PathLike[str]) -> str:
    """Say which suffixes tell masks from images in a folder that may hold both; nothing if none do."""
    names = [file.stem for file in Path(folder).iterdir() if file.suffix.lower() in IMAGE_SUFFIXES]
    return _suffixes(names, names)


def _suffixes(images: Sequence[str], masks: Sequence[str]) -> str:
    """What to write where masks are called otherwise than their images; nothing if their names do not tell.

    Args:
        images: Names of images that have no mask of their name.
        masks: Names of the masks.
    """
    # Images may all end alike, too; without what they share, their masks begin with their names.
    for image_suffix in dict.fromkeys(["", _shared_end(images)]):
        bare = {name.removesuffix(image_suffix) for name in images}
        found = collections.Counter(
            mask[len(name) :] for mask in masks for name in _beginnings(mask) if name in bare
        )
        # In one folder with their images, masks have none themselves.
        usual = sorted(
            suffix
            for suffix, count in found.items()
            if not suffix.isdigit() and 2 * count >= len(bare - {name + suffix for name in bare})
        )
        if usual:
            found_names = {"image_suffix": image_suffix, "mask_suffix": usual[0]}
            given = {name: suffix for name, suffix in found_names.items() if suffix}
            python = ", ".join(f'{name}="{suffix}"' for name, suffix in given.items())
            shell = " ".join(f"--{name.replace('_', '-')} {suffix}" for name, suffix in given.items())
            others = f" (or {', '.join(usual[1:])})" if len(usual) > 1 else ""
            return f"The masks are called NAME{usual[0]}{others}: pass {python} ({shell})."
    return ""


def _shared_end(names: Sequence[str]) -> str:
    """What several names end with, less a number and folders."""
    shared = ""
    for letters in zip(*(reversed(name) for name in names), strict=False):
        if len(names) == 1 or len(set(letters)) > 1 or letters[0] == "/":
            break
        shared = letters[0] + shared
    return re.sub(r"^([\W_]*\d)+", "", shared)


def _beginnings(name: str) -> list[str]:
    """A name without the last character, the last two, and so on."""
    return [name[:length] for length in range(1, len(name))]


def list_file(
    path: str | os.PathLike[str], *, class_names: Sequence[str] | None = None, check_files: bool = True
) -> Examples:
    """Read a list of examples from a CSV or JSON file.

    A CSV has a header line with the columns `image` and `mask`, and `name` if wanted. A JSON file is a list
    of objects with these keys, or an object with that list under `examples` and the names of the classes
    under `classes`, options of `MaskFormat` under `masks`, and black and white of the images under `range`; there, a
    mask of `null` says that an image has none: it is read as all 255. Paths are relative to the file.

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
    rows, in_file = _read_csv(file) if file.suffix.lower() == ".csv" else _read_json(file)
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
    examples = listed(found, str(file), class_names or in_file.get("classes"), check_files)
    try:
        limits = tuple(float(value) for value in in_file.get("range") or ())
        if limits:
            low, high = limits
            examples = examples.with_range((low, high))
        return examples.with_masks(**in_file.get("masks", {}))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{DATA_ERROR} {file}: 'masks' are no options of MaskFormat, or 'range' is not two numbers ({error})."
        ) from error


def _read_csv(file: Path) -> tuple[list[Any], dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(read_text(file), newline=""))
    missing = {"image", "mask"} - set(reader.fieldnames or ())
    if missing:
        raise ValueError(
            f"{DATA_ERROR} {file}: expected the columns image and mask in the first line, got "
            f"{', '.join(reader.fieldnames or ()) or 'nothing'}."
        )
    return [{key: row[key] or "" for key in row if key} for row in reader], {}


def _read_json(file: Path) -> tuple[list[Any], dict[str, Any]]:
    try:
        content = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise ValueError(f"{DATA_ERROR} {file}: is neither CSV (by its name) nor JSON ({error}).") from error
    if isinstance(content, dict) and {"images", "annotations", "categories"} <= set(content):
        raise ValueError(
            f"{DATA_ERROR} {file}: holds COCO's polygons. Make masks of them first: "
            f"keras_exfuse.data.coco_masks({str(file)!r}, IMAGES, FOLDER), and take FOLDER/examples.json."
        )
    rows = content.get("examples") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise ValueError(f"{DATA_ERROR} {file}: expected a list of examples, or an object with 'examples'.")
    return rows, content if isinstance(content, dict) else {}


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
    if examples.mask_format.options():
        content["masks"] = examples.mask_format.options()
    if examples.value_range is not None:
        content["range"] = examples.value_range
    text = json.dumps(content, indent=1, ensure_ascii=False)
    replace_file(Path(path), lambda temporary: temporary.write_text(text, encoding="utf-8"))
