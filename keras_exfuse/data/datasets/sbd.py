"""The Semantic Boundaries Dataset, and `trainaug`: VOC's train with SBD's masks added."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from keras_exfuse._files import replace_file
from keras_exfuse._optional import require
from keras_exfuse._palette import VOC_CLASSES, voc_palette
from keras_exfuse.data.archives import Archive, extract_tar
from keras_exfuse.data.datasets.voc import check_count, voc_root
from keras_exfuse.data.errors import DATA_ERROR
from keras_exfuse.data.examples import Examples, read_id_list

#: MD5: torchvision/datasets/sbd.py; SHA-256: torchvision/prototype/datasets/_builtin/sbd.py.
SBD_ARCHIVE = Archive(
    "benchmark.tgz",
    ("https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",),
    md5="82b4d87ceb2ed10f6038a1cba92111cb",
    sha256="6a5a2918d5c73ce032fdeba876574d150d9d04113ab87540a1304cbcc715be53",
)
#: Number of examples of VOC 2012 train with SBD, without VOC's val.
TRAINAUG_COUNT = 10582


def sbd_root(source: str | os.PathLike[str], extract_to: str | os.PathLike[str] | None = None) -> Path:
    """The folder of SBD (`img`, `cls`, `train.txt`, `val.txt`) behind its tgz, its release folder or itself.

    Raises:
        ValueError: If there is none.
    """
    path = Path(source)
    if path.is_file():
        path = extract_tar(path, extract_to or path.with_suffix(""))
    for folder in (path, path / "dataset", path / "benchmark_RELEASE/dataset"):
        if (folder / "cls").is_dir() and (folder / "train.txt").is_file():
            return folder
    raise ValueError(
        f"{DATA_ERROR} {source}: expected SBD with img/, cls/, train.txt and val.txt (in the tgz under "
        "benchmark_RELEASE/dataset); there is no such folder in it."
    )


def read_sbd_mask(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the class mask of SBD's .mat file.

    Args:
        path: A file of `cls/`.

    Returns:
        Array (height, width) of uint8, the VOC labels. SBD has no void.

    Raises:
        ValueError: If the file is missing or is no such file.
    """
    loadmat = require("scipy.io", extra="data").loadmat
    try:
        record = loadmat(path, squeeze_me=True, struct_as_record=False)["GTcls"]
        return np.asarray(record.Segmentation, np.uint8)
    except Exception as error:  # scipy raises whatever the bytes lead it to.
        raise ValueError(f"{DATA_ERROR} {path}: not an SBD class file ({error}).") from error


def trainaug_ids(
    voc_train: Iterable[str], voc_val: Iterable[str], sbd_train: Iterable[str], sbd_val: Iterable[str]
) -> list[str]:
    """The ids of trainaug: all of VOC's train and of SBD, without VOC's val.

    Returns:
        The ids, sorted.

    Example:
    >>> trainaug_ids(["a", "b"], ["c"], ["b", "c"], ["d"])
    ['a', 'b', 'd']
    """
    return sorted((set(voc_train) | set(sbd_train) | set(sbd_val)) - set(voc_val))


def voc_trainaug(
    voc_source: str | os.PathLike[str],
    sbd_source: str | os.PathLike[str],
    *,
    mask_folder: str | os.PathLike[str] | None = None,
    official: bool = True,
) -> Examples:
    """List trainaug, and write SBD's masks as palette PNGs where that was not done yet.

    Examples of VOC's train keep VOC's own masks, which have a void border; the others get SBD's, which have
    none.

    Args:
        voc_source: As in `voc_root`.
        sbd_source: As in `sbd_root`.
        mask_folder: Where the PNGs go; `SegmentationClass` in SBD's folder if `None`.
        official: Whether to insist on the 10,582 examples of the complete data sets.

    Returns:
        The examples, with `class_names`.

    Raises:
        ValueError: If a source is not as expected, or the number is another.

    Source: Hariharan et al. 2011 (SBD); paper Sec. 4 trains on these 10,582.
    """
    voc_folder, sbd_folder = voc_root(voc_source, year=2012), sbd_root(sbd_source)
    lists = voc_folder / "ImageSets/Segmentation"
    train = set(read_id_list(lists / "train.txt"))
    names = trainaug_ids(
        train,
        read_id_list(lists / "val.txt"),
        read_id_list(sbd_folder / "train.txt"),
        read_id_list(sbd_folder / "val.txt"),
    )
    masks = Path(mask_folder or sbd_folder / "SegmentationClass")
    images = [voc_folder / f"JPEGImages/{name}.jpg" for name in names]
    images = [path if path.is_file() else sbd_folder / f"img/{path.name}" for path in images]
    examples = Examples(
        names=tuple(names),
        images=tuple(map(str, images)),
        masks=tuple(
            str(voc_folder / f"SegmentationClass/{name}.png" if name in train else masks / f"{name}.png")
            for name in names
        ),
        source=f"{voc_folder} with {sbd_folder}",
        class_names=VOC_CLASSES,
    )
    if official:
        check_count(examples, TRAINAUG_COUNT, "VOC 2012 trainaug")
    convert_sbd_masks(sbd_folder, masks, [name for name in names if name not in train])
    return examples.check_files()


def sbd_split(
    source: str | os.PathLike[str], split: str = "train", *, mask_folder: str | os.PathLike[str] | None = None
) -> Examples:
    """List a split of SBD by itself (its val is not VOC's val: do not mix them up).

    Args:
        source: As in `sbd_root`.
        split: `"train"` or `"val"`, SBD's own, or the name of another list in its folder.
        mask_folder: As in `voc_trainaug`.

    Returns:
        The examples, with `class_names`.
    """
    folder = sbd_root(source)
    list_file = folder / f"{split}.txt"
    if not list_file.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.txt")))
        raise ValueError(f"{DATA_ERROR} unknown split {split!r} of SBD: expected one of {known}.")
    names = read_id_list(list_file)
    masks = Path(mask_folder or folder / "SegmentationClass")
    convert_sbd_masks(folder, masks, names)
    return Examples(
        names=tuple(names),
        images=tuple(str(folder / f"img/{name}.jpg") for name in names),
        masks=tuple(str(masks / f"{name}.png") for name in names),
        source=str(list_file),
        class_names=VOC_CLASSES,
    ).check_files()


def convert_sbd_masks(folder: Path, masks: Path, names: Iterable[str]) -> int:
    """Write the masks of `cls/` as palette PNGs where they are missing; give how many were written."""
    masks.mkdir(parents=True, exist_ok=True)
    missing = [name for name in names if not (masks / f"{name}.png").exists()]

    def convert(name: str) -> None:
        write_mask(masks / f"{name}.png", read_sbd_mask(folder / f"cls/{name}.mat"))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(convert, missing))
    return len(missing)


def write_mask(path: str | os.PathLike[str], labels: np.ndarray) -> None:
    """Write labels as a PNG with the VOC palette, completely or not at all.

    Args:
        path: The file.
        labels: Array (height, width) of uint8.
    """
    image = require("PIL.Image", extra="data").fromarray(np.ascontiguousarray(labels, np.uint8))
    image.putpalette(voc_palette().tobytes(), "RGB")  # Turns gray into palette; the values stay.
    replace_file(Path(path), lambda temporary: image.save(temporary, format="PNG"))
