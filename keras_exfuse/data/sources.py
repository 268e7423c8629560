"""What a path that a user names holds: VOC layout, a tar of it, a list, two folders, or prepared records."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_exfuse.data.datasets.exports import (
    CVAT_LABELS,
    LABELME_LABELS,
    cvat_export,
    labelme_export,
    roboflow_export,
    roboflow_splits,
)
from keras_exfuse.data.datasets.folders import folder_pair, list_file, suffixes_in
from keras_exfuse.data.datasets.records import Records, prepared_splits, records_folder
from keras_exfuse.data.datasets.scenes import ADE20K_LABELS, ade20k, cityscapes
from keras_exfuse.data.datasets.voc import voc_root
from keras_exfuse.data.errors import DATA_ERROR
from keras_exfuse.data.examples import Examples, find_voc_root, voc_examples

_IMAGE_FOLDERS, _MASK_FOLDERS = ("images", "image", "img"), ("masks", "mask", "labels", "annotations")


def one_source(source: str | os.PathLike[str], split: str | None, **names: Any) -> Examples | Records:
    """Find the examples of one split, which may be prepared records.

    Args:
        source: As in `open_source`, or what `keras-exfuse data prepare` wrote.
        split: Name of one list of a VOC layout, of what was prepared, or of folders NAME and NAMEannot; nothing else
            has splits.
        **names: `masks`, `image_suffix` and `mask_suffix`, as in `open_source`.

    Returns:
        The examples.

    Raises:
        ValueError: If there is nothing of the kind, or no split is named where there are several.
    """
    folder = records_folder(source, split)
    if folder is not None:
        return Records(folder)
    try:
        sources = open_source(source, split=split, **names)
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
    masks: str | os.PathLike[str] | None = None,
    image_suffix: str = "",
    mask_suffix: str = "",
    extract_to: str | os.PathLike[str] | None = None,
    check_files: bool = True,
    on_problem: Callable[[str, str], None] | None = None,
) -> dict[str, Examples]:
    """Find the examples behind a path.

    Args:
        source: A folder in VOC layout (or a `VOCdevkit`, or an official tar), a list in a .csv or .json file,
            an export that `cvat_export`, `labelme_export` or `roboflow_export` reads, Cityscapes, ADE20K with its
            `objectInfo150.txt`, a folder with `images` and `masks` in it, with folders NAME and NAMEannot (as SegNet's
            CamVid), or with images and masks side by side (with `mask_suffix`).
        split: Name of one list of a VOC layout, or of a folder NAME; all of them if `None`.
        masks: The folder of the masks, where `source` is the folder of the images.
        image_suffix: As in `folder_pair`, for folders of images and masks.
        mask_suffix: As in `folder_pair`.
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
    exported = {} if masks is not None else _exports(path, split, check_files)
    if exported:
        return exported
    pairs = _folder_pairs(path, masks, bool(image_suffix or mask_suffix), split)
    if pairs:
        names = {"image_suffix": image_suffix, "mask_suffix": mask_suffix}
        return {
            name: folder_pair(*folders, **names, check_files=check_files) for name, folders in pairs.items()
        }
    if masks is not None or image_suffix or mask_suffix:
        raise ValueError(
            f"{path}: a folder of masks and suffixes of names are for folders of images and masks; in VOC layout and "
            "in lists the masks are known."
        )
    if path.suffix.lower() in (".csv", ".json"):
        return {path.stem: list_file(path, check_files=check_files)}
    if path.is_dir():
        try:
            root = find_voc_root(path)
        except ValueError as error:
            other = (
                "Images and masks in folders of their own: masks=FOLDER (--masks); side by side: mask_suffix= "
                "(--mask-suffix)."
            )
            advice = _to_draw(path) or suffixes_in(path) or other
            raise ValueError(f"{error} {advice}") from None
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


def _exports(path: Path, split: str | None, check_files: bool) -> dict[str, Examples]:
    """Examples by their split of a data set that a file or folders in it give away; none if there is no such sign."""
    if (path / CVAT_LABELS).is_file() and (path / "ImageSets/Segmentation").is_dir():
        lists = sorted(file.stem for file in (path / "ImageSets/Segmentation").glob("*.txt"))
        return {
            name: cvat_export(path, name, check_files=check_files) for name in ([split] if split else lists)
        }
    if (path / LABELME_LABELS).is_file() and (path / "JPEGImages").is_dir():
        return {path.name: labelme_export(path, check_files=check_files)}
    if roboflow_splits(path):
        splits = [split] if split else roboflow_splits(path)
        return {name: roboflow_export(path, name, check_files=check_files) for name in splits}
    if (path / "leftImg8bit").is_dir() and (path / "gtFine").is_dir():
        splits = [split] if split else _folders(path / "leftImg8bit")
        return {name: cityscapes(path, name, check_files=check_files) for name in splits}
    if (path / ADE20K_LABELS).is_file() and (path / "images").is_dir():
        splits = [split] if split else _folders(path / "images")
        return {name: ade20k(path, name, check_files=check_files) for name in splits}
    return {}


def _to_draw(path: Path) -> str:
    """Which function makes masks of an export that has none yet; nothing for other folders."""
    if (path / "meta.json").is_file() and any(path.glob("*/ann")):
        call = f"supervisely_project({str(path)!r}, FOLDER)"
    elif any(path.glob("task-*-annotation-*.png")):
        call = f"label_studio_brush({str(path)!r}, TASKS_JSON, IMAGES, FOLDER)"
    else:
        return ""
    return f"Make masks of it first: keras_exfuse.data.{call}, and take FOLDER/examples.json."


def _folders(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir() if each.is_dir())


def _folder_pairs(
    path: Path, masks: str | os.PathLike[str] | None, have_suffixes: bool, split: str | None
) -> dict[str, tuple[Path, Path]]:
    """Folders of images and of masks by the name of their split; none if the data are of another kind."""
    if not path.is_dir():
        return {}
    if masks is not None:
        return {path.name: (path, Path(masks))}
    found = [
        next((path / name for name in names if (path / name).is_dir()), None)
        for names in (_IMAGE_FOLDERS, _MASK_FOLDERS)
    ]
    if found[0] and found[1]:
        return {path.name: (found[0], found[1])}
    annotated = {
        folder.name: (folder, folder.with_name(f"{folder.name}annot"))
        for folder in sorted(path.iterdir())
        if folder.with_name(f"{folder.name}annot").is_dir()
    }
    if split is not None and annotated:
        if split not in annotated:
            raise ValueError(
                f"{DATA_ERROR} unknown split {split!r}: expected one of {', '.join(annotated)}, the folders in {path} "
                "that have one with annot behind its name."
            )
        return {split: annotated[split]}
    if annotated or not have_suffixes:
        return annotated
    return {path.name: (path, path)}
