"""Which image belongs to which mask: the lists that a pipeline is made of, checked before reading."""

import collections
import dataclasses
import difflib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from keras_exfuse.data.errors import DATA_ERROR
from keras_exfuse.data.masks import AS_STORED, MaskFormat
from keras_exfuse.data.reading import ValueRange, read_image


@dataclasses.dataclass(frozen=True, repr=False)
class Examples:
    """A list of examples: a name, an image and a mask each. Slices, such as `examples[:100]`, are lists again.

    Args:
        names: One name for each example, none twice.
        images: Paths of the images.
        masks: Paths of the masks; an empty one for an image without: it is read as all 255.
        source: Where the list comes from, for messages.
        class_names: Names of the classes where known; the position is the label.
        problems: What is wrong with the list itself, where it was read to be checked: text by name.
        mask_format: How to read the masks.
        value_range: Black and white in images of more than eight bits, as in `read_image`.
        passed_over: A sentence about the files in the folder of the images that are none, if there are any.

    Raises:
        ValueError: If the list is empty, a name stands twice, or the three lengths differ.
    """

    names: tuple[str, ...]
    images: tuple[str, ...]
    masks: tuple[str, ...]
    source: str = "the list of examples"
    class_names: tuple[str, ...] | None = None
    problems: dict[str, str] = dataclasses.field(default_factory=dict, compare=False)
    mask_format: MaskFormat = AS_STORED
    value_range: ValueRange | None = None
    passed_over: str = dataclasses.field(default="", compare=False)

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.images) == len(self.masks):
            raise ValueError(
                f"{self.source}: {len(self.names)} names, {len(self.images)} images and {len(self.masks)} "
                "masks; expected the same number of each."
            )
        if not self.names:
            raise ValueError(
                f"{DATA_ERROR} {self.source}: the split is empty; expected at least one example."
            )
        twice = _repeated(self.names)
        if twice:
            raise ValueError(f"{DATA_ERROR} {self.source}: {_some(twice)} {_TWICE}")

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        """A summary for people."""
        without = self.masks.count("")
        lines = [
            f"{len(self)} examples of {self.source}"
            + (f", {without} of them without a mask" if without else ""),
            f"  {self.images[0]} with {self.masks[0] or 'no mask'}" + (", ..." if len(self) > 1 else ""),
        ]
        if self.class_names:
            lines.append(f"  {len(self.class_names)} classes: {_some(list(self.class_names), 8)}")
        if self.mask_format.options():
            options = ", ".join(f"{name}={value}" for name, value in self.mask_format.options().items())
            lines.append(f"  masks read with {options}")
        if self.value_range is not None:
            lines.append(
                f"  images read from {self.value_range[0]:g} (black) to {self.value_range[1]:g} (white)"
            )
        if self.passed_over:
            lines.append(f"  {self.passed_over}")
        if self.problems:
            lines.append(f"  {len(self.problems)} problems: {_some(list(self.problems.values()))}")
        return "\n".join(lines)

    def __getitem__(self, chosen: slice) -> "Examples":
        if not isinstance(chosen, slice):
            raise TypeError(
                f"Examples are sliced, as in examples[:100], got {chosen!r}. examples.read(0) gives an "
                "image and its mask."
            )
        return self._part(range(len(self))[chosen], self.source)

    def _part(self, indices: Iterable[int], source: str) -> "Examples":
        """Some of the examples."""
        chosen = list(indices)
        lists = (self.names, self.images, self.masks)
        names, images, masks = (tuple(values[index] for index in chosen) for values in lists)
        return dataclasses.replace(self, names=names, images=images, masks=masks, source=source, problems={})

    def split(self, fraction: float = 0.8, seed: int = 0) -> tuple["Examples", "Examples"]:
        """Divide the examples at random, for training and validation.

        Pictures of one scene, such as the frames of a film, fall into both parts, and the validation then says too
        much: divide those by hand.

        Args:
            fraction: Of the examples in the first part, between 0 and 1; each part gets one at least.
            seed: The same seed gives the same parts, on every machine.

        Returns:
            The two parts, each in the order of the whole.

        Raises:
            ValueError: If the fraction is out of range, or there is only one example.

        Example:
        >>> train, val = folder_pair("photos", "masks").split(0.8, seed=0)  # doctest: +SKIP
        """
        if not 0 < fraction < 1:
            raise ValueError(f"`fraction` must lie between 0 and 1, got {fraction}.")
        if len(self) < 2:
            raise ValueError(f"{DATA_ERROR} {self.source}: 1 example cannot be split in two.")
        # Raw numbers of a counter-based generator do not change with numpy's version.
        order = np.argsort(np.random.Philox(key=seed % 2**64).random_raw(len(self)), kind="stable")
        count = min(max(1, round(fraction * len(self))), len(self) - 1)
        parts = (sorted(part.tolist()) for part in (order[:count], order[count:]))
        first, second = (self._part(part, f"{self.source} ({len(part)} of {len(self)})") for part in parts)
        return first, second

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (height, width, 3) and mask (height, width) of uint8."""
        return read_image(self.images[index], self.value_range), self.mask_format.read(self.masks[index])

    def with_masks(self, **options: Any) -> "Examples":
        """The same examples, whose masks are read in another way.

        Args:
            **options: `color_table`, `nearest_color`, `binary`, `reduce_zero_label`, `remap`, as in `MaskFormat`;
                what is `None` stays.

        Example:
        >>> examples = folder_pair("photos", "masks").with_masks(binary=True)  # doctest: +SKIP
        """
        return dataclasses.replace(self, mask_format=self.mask_format.changed(**options))

    def with_range(self, value_range: ValueRange | None) -> "Examples":
        """The same examples, whose images of more than eight bits have a range.

        Args:
            value_range: What stands for black and white, as in `read_image`; `None` leaves what there is.

        Example:
        >>> examples = folder_pair("photos", "masks").with_range((0, 4095))  # doctest: +SKIP
        """
        return self if value_range is None else dataclasses.replace(self, value_range=value_range)

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


_TWICE = "listed more than once; remove the repetition."


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in collections.Counter(names).items() if count > 1]


def listed(
    rows: Sequence[tuple[str, str, str]],
    source: str,
    class_names: Sequence[str] | None,
    check_files: bool,
) -> Examples:
    """Examples out of (name, image, mask).

    Args:
        rows: One for each example.
        source: Where the list comes from, for messages.
        class_names: Names of the classes where known.
        check_files: Whether to look for every file, and to stop at a repetition. If not, repetitions are left out
            and noted in `problems`, for what reads a data set to say everything that is wrong with it.
    """
    problems = {}
    if not check_files:
        problems = {
            f"{name} (listed again)": f"{source}: {name} {_TWICE}" for name in _repeated(r[0] for r in rows)
        }
        rows = list({row[0]: row for row in reversed(rows)}.values())[::-1]
    names, images, masks = zip(*rows, strict=True) if rows else ((), (), ())
    classes = tuple(class_names) if class_names else None
    examples = Examples(names, images, masks, source, classes, problems)
    return examples.check_files() if check_files else examples


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a text file of a user's.

    Raises:
        ValueError: If it is not UTF-8; the text names it.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{DATA_ERROR} {path}: is not UTF-8 text ({error.reason}); save it as UTF-8."
        ) from error


def _some(things: list[str], most: int = 3) -> str:
    """The first three of a list, or another number, and how many more."""
    shown = ", ".join(things[:most])
    return shown if len(things) <= most else f"{shown} and {len(things) - most} more"


def read_id_list(path: str | os.PathLike[str]) -> list[str]:
    """Read the ids of a split: one on every line that is not empty, as in `ImageSets/Segmentation`.

    Args:
        path: The text file.

    Returns:
        The ids in the order of the file. An id with a space in it stands alone on its line.

    Raises:
        ValueError: If the file is not UTF-8.
    """
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


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
        check_files: Whether to look for every listed file, and to stop at a repetition.

    Returns:
        The examples, whose files are there.

    Raises:
        ValueError: If the folder has another layout, the split is unknown (the text names those that exist), it is
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
        masks = ("",) * len(names)  # VOC 2012 keeps the masks of its test images to itself.
    images = (str(folder / "JPEGImages" / f"{name}.jpg") for name in names)
    return listed(list(zip(names, images, masks, strict=True)), str(source), class_names, check_files)


def find_voc_root(root: str | os.PathLike[str], year: int | None = None) -> Path:
    """Find the folder in VOC layout at or below `root` (`root`, `root/VOC20??`, `root/VOCdevkit/VOC20??`).

    Args:
        root: Where to look.
        year: Which one to take if there are more.

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
    of_year = [folder for folder in found if folder.name == f"VOC{year}"]
    if len(found) > 1 and len(of_year) == 1 and found[0] != start:
        return of_year[0]
    if len(found) > 1 and found[0] != start:
        raise ValueError(
            f"{DATA_ERROR} {start}: more than one data set ({', '.join(f.name for f in found)}); "
            "name one of them."
        )
    return found[0]
