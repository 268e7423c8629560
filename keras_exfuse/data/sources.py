"""What a path that a user names holds: VOC layout, a tar of it, a list, two folders, or prepared records."""

import os
from collections.abc import Callable
from pathlib import Path

from keras_exfuse.data.datasets.folders import folder_pair, list_file
from keras_exfuse.data.datasets.records import Records, prepared_splits, records_folder
from keras_exfuse.data.datasets.voc import voc_root
from keras_exfuse.data.errors import DATA_ERROR
from keras_exfuse.data.examples import Examples, find_voc_root, voc_examples

_IMAGE_FOLDERS, _MASK_FOLDERS = ("images", "image", "img"), ("masks", "mask", "labels", "annotations")


def one_source(source: str | os.PathLike[str], split: str | None) -> Examples | Records:
    """Find the examples of one split, which may be prepared records.

    Args:
        source: As in `open_source`, or what `keras-exfuse data prepare` wrote.
        split: Name of one list of a VOC layout, or of what was prepared; nothing else has splits.

    Returns:
        The examples.

    Raises:
        ValueError: If there is nothing of the kind, or no split is named where there are several.
    """
    folder = records_folder(source, split)
    if folder is not None:
        return Records(folder)
    try:
        sources = open_source(source, split=split)
    except ValueError:
        prepared = prepared_splits(source)
        if not prepared or (Path(source) / "ImageSets").is_dir():
            raise
        raise ValueError(
            f"{DATA_ERROR} {source} holds prepared records of {', '.join(prepared)}, and none of {split!r}: name one "
            "of these as the split."
        ) from None
    if len(sources) > 1:
        raise ValueError(f"{source} has the lists {', '.join(sources)}: name one of them as the split.")
    return next(iter(sources.values()))


def open_source(
    source: str | os.PathLike[str],
    *,
    split: str | None = None,
    extract_to: str | os.PathLike[str] | None = None,
    check_files: bool = True,
    on_problem: Callable[[str, str], None] | None = None,
) -> dict[str, Examples]:
    """Find the examples behind a path.

    Args:
        source: A folder in VOC layout (or a `VOCdevkit`, or an official tar), a list in a .csv or .json file,
            or a folder with `images` and `masks` in it.
        split: Name of one list of a VOC layout; all of them if `None`.
        extract_to: Where a tar is unpacked; beside it if `None`.
        check_files: Whether a listed file that is missing, or a name that stands twice, is an error now.
        on_problem: Called with the split and what is wrong with it, for a list of a VOC layout that cannot be read at
            all, and the others are read; such a list is an error if `None`.

    Returns:
        Examples by the name of their split.

    Raises:
        ValueError: If there is nothing of the kind, or a list is empty or has an id twice.
    """
    path = Path(source)
    if not path.exists():
        raise ValueError(f"{DATA_ERROR} {path}: there is no such file or folder.")
    if path.suffix.lower() in (".csv", ".json"):
        return {path.stem: list_file(path, check_files=check_files)}
    if path.is_dir():
        images = next((path / name for name in _IMAGE_FOLDERS if (path / name).is_dir()), None)
        masks = next((path / name for name in _MASK_FOLDERS if (path / name).is_dir()), None)
        if images and masks:
            return {path.name: folder_pair(images, masks, check_files=check_files)}
        root = find_voc_root(path)
    else:
        root = voc_root(path, extract_to)
    lists = sorted(file.stem for file in (root / "ImageSets/Segmentation").glob("*.txt"))
    wanted = [split] if split else lists
    if not wanted:
        raise ValueError(f"{DATA_ERROR} {root}: there is no list in ImageSets/Segmentation.")
    parts = {}
    for name in wanted:
        try:
            parts[name] = voc_examples(root, name, check_files=check_files)
        except ValueError as error:
            if on_problem is None or name not in lists:
                raise
            on_problem(name, str(error).removeprefix(DATA_ERROR).strip())
    return parts
