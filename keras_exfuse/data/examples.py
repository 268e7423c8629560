"""Which picture belongs to which mask: the lists that a pipeline is made of, checked before reading."""

import collections
import dataclasses
import difflib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keras_exfuse.data.errors import DATA_ERROR


@dataclasses.dataclass(frozen=True)
class Examples:
    """A list of examples: a name, a picture and a mask each.

    Args:
        names: One name for each example, none twice.
        images: Paths of the pictures.
        masks: Paths of the masks; an empty one for a picture without: it is read as all 255.
        source: Where the list comes from, for messages.
        class_names: Names of the classes where known; the position is the label.

    Raises:
        ValueError: If the list is empty, a name stands twice, or the three lengths differ.
    """

    names: tuple[str, ...]
    images: tuple[str, ...]
    masks: tuple[str, ...]
    source: str = "the list of examples"
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.images) == len(self.masks):
            raise ValueError(
                f"{self.source}: {len(self.names)} names, {len(self.images)} pictures and {len(self.masks)} "
                "masks; expected the same number of each."
            )
        if not self.names:
            raise ValueError(
                f"{DATA_ERROR} {self.source}: the split is empty; expected at least one example."
            )
        twice = [name for name, count in collections.Counter(self.names).items() if count > 1]
        if twice:
            raise ValueError(
                f"{DATA_ERROR} {self.source}: {_some(twice)} listed more than once; remove the repetition."
            )

    def __len__(self) -> int:
        return len(self.names)

    def check_files(self) -> "Examples":
        """Check that every listed file is there.

        Returns:
            Itself.

        Raises:
            ValueError: If a file is missing; the text names the first ones.
        """
        with ThreadPoolExecutor(16) as pool:
            paths = self.images + tuple(filter(None, self.masks))
            missing = [
                path for path, there in zip(paths, pool.map(os.path.isfile, paths), strict=True) if not there
            ]
        if missing:
            raise ValueError(
                f"{DATA_ERROR} {_some(missing)} listed in {self.source}, but there is no such file. "
                "Complete the data set, or remove the line."
            )
        return self


def _some(things: list[str]) -> str:
    """The first three of a list, and how many more."""
    shown = ", ".join(things[:3])
    return shown if len(things) <= 3 else f"{shown} and {len(things) - 3} more"


def read_id_list(path: str | os.PathLike[str]) -> list[str]:
    """Read the ids of a split: one on every line that is not empty, as in
    `ImageSets/Segmentation`.

    Args:
        path: The text file.

    Returns:
        The ids in the order of the file. An id with a space in it stands alone on its line.
    """
    lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    return [line.strip() for line in lines if line.strip()]


def voc_examples(
    root: str | os.PathLike[str],
    split: str,
    mask_folder: str = "SegmentationClass",
    class_names: tuple[str, ...] | None = None,
    check_files: bool = True,
) -> Examples:
    """List a split of a folder in VOC layout.

    Args:
        root: Folder with `JPEGImages`, `SegmentationClass` and `ImageSets/Segmentation`; or a `VOCdevkit`
            that holds one such folder.
        split: Name of a file in `ImageSets/Segmentation`, without `.txt`.
        mask_folder: Folder of the masks.
        class_names: Names of the classes; the position is the label.
        check_files: Whether to look for every listed file.

    Returns:
        The examples, whose files are there.

    Raises:
        ValueError: If the folder has another layout, the split is unknown (the text names those that exist),
        it is
            empty, an id stands twice, or a file is missing.
    """
    folder = find_voc_root(root)
    lists = folder / "ImageSets" / "Segmentation"
    known = sorted(file.stem for file in lists.glob("*.txt"))
    if split not in known:
        near = difflib.get_close_matches(split, known, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"{DATA_ERROR} unknown split {split!r}: expected one of {', '.join(known) or '(none)'}, "
            f"the .txt files in {lists}.{hint}"
        )
    source = lists / f"{split}.txt"
    names = read_id_list(source)
    masks = tuple(str(folder / mask_folder / f"{name}.png") for name in names)
    if split == "test" and not any(map(os.path.isfile, masks)):
        masks = ("",) * len(names)  # VOC 2012 keeps the masks of its test pictures to itself.
    examples = Examples(
        names=tuple(names),
        images=tuple(str(folder / "JPEGImages" / f"{name}.jpg") for name in names),
        masks=masks,
        source=str(source),
        class_names=class_names,
    )
    return examples.check_files() if check_files else examples


def find_voc_root(root: str | os.PathLike[str]) -> Path:
    """Find the folder in VOC layout at or below `root` (`root`, `root/VOC20??`, `root/VOCdevkit/VOC20??`).

    Raises:
        ValueError: If there is none, or more than one.
    """
    start = Path(root)
    if not start.is_dir():
        raise ValueError(f"{DATA_ERROR} {start}: there is no such folder.")
    places = ("VOC20??", "VOCdevkit/VOC20??", "*/VOCdevkit/VOC20??")
    candidates = [start, *(folder for place in places for folder in sorted(start.glob(place)))]
    found = [folder for folder in candidates if (folder / "ImageSets" / "Segmentation").is_dir()]
    if not found:
        raise ValueError(
            f"{DATA_ERROR} {start}: expected a folder in VOC layout with JPEGImages/, SegmentationClass/ and "
            "ImageSets/Segmentation/; there is no ImageSets/Segmentation in it."
        )
    if len(found) > 1 and found[0] != start:
        raise ValueError(
            f"{DATA_ERROR} {start}: more than one data set ({', '.join(f.name for f in found)}); "
            "name one of them."
        )
    return found[0]
