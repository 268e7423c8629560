"""PASCAL VOC 2012 and 2007: from the official tar, an extracted development kit, or the network."""

import os
from pathlib import Path

from keras_exfuse._palette import VOC_CLASSES
from keras_exfuse.data.archives import Archive, download, extract_tar
from keras_exfuse.data.errors import DATA_ERROR
from keras_exfuse.data.examples import Examples, find_voc_root, voc_examples

_OFFICIAL = "http://host.robots.ox.ac.uk/pascal/VOC"
_MIRROR = "http://pjreddie.com/media/files"

#: The archives as published. MD5: torchvision's `DATASET_YEAR_DICT` (torchvision/datasets/voc.py); SHA-256 and
#: size: TensorFlow Datasets' `url_checksums/voc.txt`. Both publish them for the same files.
VOC_ARCHIVES = {
    "2012": Archive(
        "VOCtrainval_11-May-2012.tar",
        (f"{_OFFICIAL}/voc2012/VOCtrainval_11-May-2012.tar", f"{_MIRROR}/VOCtrainval_11-May-2012.tar"),
        md5="6cd6e144f989b92b3379bac3b3de84fd",
        sha256="e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
        size=1999639040,
    ),
    "2012-test": Archive(
        "VOC2012test.tar",
        (f"{_MIRROR}/VOC2012test.tar",),
        sha256="f08582b1935816c5eab3bbb1eb6d06201a789eaa173cdf1cf400c26f0cac2fb3",
        size=1850626560,
    ),
    "2007": Archive(
        "VOCtrainval_06-Nov-2007.tar",
        (f"{_OFFICIAL}/voc2007/VOCtrainval_06-Nov-2007.tar", f"{_MIRROR}/VOCtrainval_06-Nov-2007.tar"),
        md5="c52e279531787c972589f7e41ab4ae64",
        sha256="7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
        size=460032000,
    ),
    "2007-test": Archive(
        "VOCtest_06-Nov-2007.tar",
        (f"{_OFFICIAL}/voc2007/VOCtest_06-Nov-2007.tar", f"{_MIRROR}/VOCtest_06-Nov-2007.tar"),
        md5="b6e924de25625d8de591ea690078ad9f",
        sha256="6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
        size=451020800,
    ),
}

#: Number of examples of the official segmentation splits.
VOC_COUNTS = {
    2012: {"train": 1464, "val": 1449, "trainval": 2913, "test": 1456},
    2007: {"train": 209, "val": 213, "trainval": 422, "test": 210},
}


def voc_root(
    source: str | os.PathLike[str],
    extract_to: str | os.PathLike[str] | None = None,
    year: int | None = None,
) -> Path:
    """The folder in VOC layout behind a source.

    Args:
        source: An official tar, a `VOCdevkit`, the folder that holds it, or a folder in VOC layout.
        extract_to: Folder for the contents of a tar; beside the tar, under its name without `.tar`, if
            `None`.
        year: Which one to take if a `VOCdevkit` holds more.

    Returns:
        The folder with `JPEGImages`, `SegmentationClass` and `ImageSets`.

    Raises:
        ValueError: If the tar is broken or not safe, or the folder has another layout.
    """
    path = Path(source)
    if path.is_file():
        path = extract_tar(path, extract_to or path.with_suffix(""))
    return find_voc_root(path, year)


def voc_split(
    source: str | os.PathLike[str],
    split: str = "train",
    *,
    year: int = 2012,
    official: bool = False,
    extract_to: str | os.PathLike[str] | None = None,
) -> Examples:
    """List a split of PASCAL VOC segmentation.

    The images of VOC 2012's split `test` have no public masks: theirs are read as all 255.

    Args:
        source: As in `voc_root`.
        split: `"train"`, `"val"`, `"trainval"` or `"test"`; or another list in `ImageSets/Segmentation`.
        year: 2012 or 2007: chooses the folder where a `VOCdevkit` holds both, and the number for `official`.
        official: Whether to insist on the official number of examples.
        extract_to: As in `voc_root`.

    Returns:
        The examples, with `class_names`.

    Raises:
        ValueError: If the source, the split or the number is not as expected.

    Source: Everingham et al., The PASCAL Visual Object Classes Challenge 2012.

    Example:
    >>> examples = voc_split("VOCtrainval_11-May-2012.tar", "train", official=True)  # doctest: +SKIP
    """
    if year not in VOC_COUNTS:
        raise ValueError(f"year must be one of {sorted(VOC_COUNTS)}, got {year}.")
    examples = voc_examples(voc_root(source, extract_to, year), split, class_names=VOC_CLASSES)
    if official:
        check_count(examples, VOC_COUNTS[year].get(split), f"VOC {year} {split}")
    return examples


def check_count(examples: Examples, expected: int | None, what: str) -> None:
    """Insist on a known number of examples.

    Raises:
        ValueError: If there is another number, or none is known.
    """
    if expected is None:
        raise ValueError(f"{what} is no official split.")
    if len(examples) != expected:
        raise ValueError(
            f"{DATA_ERROR} {what} has {expected} examples, {examples.source} lists {len(examples)}; "
            "the copy is not complete, or not the official one."
        )


def download_voc(folder: str | os.PathLike[str], year: int = 2012, test: bool = False) -> Path:
    """Download PASCAL VOC, check it against the published hashes, and unpack it.

    An interrupted download goes on where it stopped; what is there is not fetched or unpacked again.

    Args:
        folder: Where the tar and its contents go.
        year: 2012 (2 GB) or 2007.
        test: Whether the test part is wanted instead of train and val.

    Returns:
        The folder in VOC layout.

    Raises:
        ValueError: If the download fails or is not the published file.
    """
    key = f"{year}-test" if test else str(year)
    if key not in VOC_ARCHIVES:
        raise ValueError(f"year must be one of {sorted(VOC_COUNTS)}, got {year}.")
    return voc_root(download(VOC_ARCHIVES[key], folder))
