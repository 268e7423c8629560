"""Annotation tools whose exports are not masks of labels yet: Supervisely and Label Studio."""

import base64
import io
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_exfuse._optional import require
from keras_exfuse.data.datasets.converting import (
    BACKGROUND,
    check_class_names,
    finished_conversion,
    write_masks,
)
from keras_exfuse.data.errors import DATA_ERROR
from keras_exfuse.data.examples import Examples, read_text
from keras_exfuse.data.masks import MaskFormat

_MOST_BYTES = 1 << 26  # Of an unpacked bitmap, which is a PNG of one bit.
# task-TASK-annotation-ID-by-WHO-TAG-LABEL-NUMBER.png
_LABEL_STUDIO_NAME = re.compile(r"task-(?P<task>\d+)-annotation-(?P<annotation>\d+)-by-(?P<rest>.+)-\d+")


def supervisely_project(
    project: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Examples:
    """Turn a project of Supervisely's, as it is downloaded, into masks.

    Bitmaps, polygons and rectangles are drawn in their order, later ones on top; lines and points are left out.

    Args:
        project: With `meta.json`, and datasets of `img/NAME` and `ann/NAME.json`.
        output: Folder for the masks and the list `examples.json` (read again by `list_file`). If the list is there,
            nothing is converted.
        class_names: Names of the classes, the background included; "background" and those of `meta.json`, in its
            order, if `None`. Objects of other classes are left out.
        progress: Called with the images done and in all.

    Returns:
        The examples, with `class_names`.

    Raises:
        ValueError: If a file is missing or is not as Supervisely writes it; the text names it.

    Source: https://developer.supervisely.com/getting-started/supervisely-annotation-format
    """
    done = finished_conversion(output)
    if done is not None:
        return done
    root = Path(project)
    meta = _json(root / "meta.json")
    if class_names is None:
        found = [entry["title"] for entry in _entries(meta, "classes", root / "meta.json")]
        class_names = found if BACKGROUND in found else [BACKGROUND, *found]
    check_class_names(class_names, str(root))
    labels = {name: label for label, name in enumerate(class_names)}
    annotations = sorted(root.glob("*/ann/*.json"))

    def masks() -> Iterator[tuple[str, Path, np.ndarray]]:
        for file in annotations:
            image = file.parents[1] / "img" / file.stem  # NAME.jpg.json
            name = f"{file.parents[1].name}/{Path(file.stem).stem}"
            yield name, image, _supervisely_mask(file, labels)

    return write_masks(masks(), len(annotations), output, str(root), class_names, progress)


def _supervisely_mask(file: Path, labels: dict[str, int]) -> np.ndarray:
    """The labels of one annotation file."""
    drawing = require("PIL.ImageDraw", extra="data")
    annotation = _json(file)
    try:
        height, width = (int(annotation["size"][side]) for side in ("height", "width"))
        canvas = require("PIL.Image", extra="data").new("L", (width, height), labels.get(BACKGROUND, 0))
        pen = drawing.Draw(canvas)
        for entry in annotation["objects"]:
            label, kind = labels.get(entry["classTitle"]), entry["geometryType"]
            if label is None:
                continue
            if kind == "bitmap":
                _paste(canvas, entry["bitmap"], label)
            elif kind == "rectangle":
                pen.rectangle([tuple(point) for point in entry["points"]["exterior"]], fill=label)
            elif kind == "polygon":
                _polygon(canvas, entry["points"], label)
    except (KeyError, TypeError, ValueError, zlib.error, OSError, SyntaxError) as error:
        raise ValueError(
            f"{DATA_ERROR} {file}: is not an annotation of Supervisely's ({type(error).__name__}: {error})."
        ) from error
    return np.asarray(canvas)


def _paste(canvas: Any, bitmap: dict[str, Any], label: int) -> None:
    """Draw a bitmap: base64 of a zlib stream of a PNG, at its place."""
    unpacking = zlib.decompressobj()
    content = unpacking.decompress(base64.b64decode(bitmap["data"]), _MOST_BYTES)
    if unpacking.unconsumed_tail:
        raise ValueError("a bitmap is too large")
    image = require("PIL.Image", extra="data").open(io.BytesIO(content), formats=["PNG"])
    values = np.asarray(image.convert("RGBA"))[..., 3] if image.mode in ("RGBA", "LA") else np.asarray(image)
    stamp = require("PIL.Image", extra="data").fromarray((values != 0).astype(np.uint8) * 255)
    canvas.paste(label, tuple(bitmap["origin"]), stamp)


def _polygon(canvas: Any, points: dict[str, Any], label: int) -> None:
    """Draw a polygon with holes, through which what is below stays to be seen."""
    pil, drawing = require("PIL.Image", extra="data"), require("PIL.ImageDraw", extra="data")
    stamp = pil.new("L", canvas.size, 0)
    pen = drawing.Draw(stamp)
    pen.polygon([tuple(point) for point in points["exterior"]], fill=255)
    for hole in points.get("interior", ()):
        pen.polygon([tuple(point) for point in hole], fill=0)
    canvas.paste(label, (0, 0), stamp)


def label_studio_brush(
    masks: str | os.PathLike[str],
    tasks: str | os.PathLike[str],
    images: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Examples:
    """Turn Label Studio's export "Brush labels to PNG" into masks.

    It has a black and white PNG for each region that was drawn, called task-TASK-annotation-ID-by-WHO-TAG-LABEL-N.png.
    Which image a task is about stands in the export "JSON" of the same project. Regions are drawn in the order of
    their names, the last annotation of a task on top.

    Args:
        masks: Folder of the PNGs.
        tasks: The export "JSON" (or "JSON-MIN").
        images: Folder of the images, under the names that they were uploaded with (Label Studio puts eight characters
            and a hyphen in front, which may be there or not).
        output: As in `supervisely_project`.
        class_names: Names of the classes, the background included; "background" and the labels that occur, sorted, if
            `None`. Labels that are not among them are left out.
        progress: Called with the images done and in all.

    Returns:
        The examples, one for each task that has a region.

    Raises:
        ValueError: If a file has another name, a task or an image is missing, or regions differ in size.

    Source: label_studio_sdk/converter/brush.py
    """
    done = finished_conversion(output)
    if done is not None:
        return done
    regions = _regions(Path(masks), class_names)
    if class_names is None:
        class_names = [BACKGROUND, *sorted({label for found in regions.values() for label, _ in found})]
    check_class_names(class_names, str(masks))
    labels = {name: label for label, name in enumerate(class_names)}
    by_task = {int(task["id"]): task for task in _entries(_json(Path(tasks)), None, Path(tasks))}

    def drawn() -> Iterator[tuple[str, Path, np.ndarray]]:
        for task, found in sorted(regions.items()):
            if task not in by_task:
                raise ValueError(f"{DATA_ERROR} {tasks}: there is no task {task}, of which there are masks.")
            image = _image_of(by_task[task], Path(images), tasks)
            mask: np.ndarray | None = None
            for label, file in found:
                white = MaskFormat(binary=True).read(file)
                mask = np.full(white.shape, labels.get(BACKGROUND, 0), np.uint8) if mask is None else mask
                if mask.shape != white.shape:
                    raise ValueError(
                        f"{DATA_ERROR} {file}: has another size than the other masks of its task."
                    )
                if label in labels:
                    mask[white == 1] = labels[label]
            assert mask is not None
            yield image.stem, image, mask

    return write_masks(drawn(), len(regions), output, str(masks), class_names, progress)


def _regions(folder: Path, class_names: Sequence[str] | None) -> dict[int, list[tuple[str, Path]]]:
    """Labels and files of the regions of each task."""
    regions: dict[int, list[tuple[str, Path]]] = {}

    def place(file: Path) -> tuple[list[int], str]:
        return [int(number) for number in re.findall(r"\d+", file.stem)[:2]], file.name

    for file in sorted(folder.glob("*.png"), key=place):
        found = _LABEL_STUDIO_NAME.fullmatch(file.stem)
        if not found:
            raise ValueError(
                f"{DATA_ERROR} {file}: expected a name task-TASK-annotation-ID-by-WHO-TAG-LABEL-N.png, as Label "
                'Studio\'s "Brush labels to PNG" has it.'
            )
        # Hyphens may be in each part: a label that is known decides, else what follows the last one.
        known = [name for name in class_names or () if found["rest"].endswith(f"-{name}")]
        label = max(known, key=len, default=found["rest"].rpartition("-")[2])
        regions.setdefault(int(found["task"]), []).append((label, file))
    if not regions:
        raise ValueError(f"{DATA_ERROR} {folder}: there is no task-...png in it.")
    return regions


def _image_of(task: dict[str, Any], images: Path, source: str | os.PathLike[str]) -> Path:
    """The image of a task: by the name it was uploaded with, or the last part of its address."""
    data = task.get("data", task)
    addresses = [task.get("file_upload"), *(value for value in data.values() if isinstance(value, str))]
    names = [re.sub(r"[?#].*", "", address).rpartition("/")[2] for address in addresses if address]
    names += [re.sub(r"^[0-9a-f]{8}-", "", name) for name in names]
    found = [images / name for name in names if name and (images / name).is_file()]
    if not found:
        raise ValueError(
            f"{DATA_ERROR} {images}: has no image of task {task['id']} of {source}; expected "
            f"{' or '.join(dict.fromkeys(names)) or 'a file name in the task'}."
        )
    return found[0]


def _json(file: Path) -> Any:
    if not file.is_file():
        raise ValueError(f"{DATA_ERROR} {file}: there is no such file.")
    try:
        return json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise ValueError(f"{DATA_ERROR} {file}: is not JSON ({error}).") from error


def _entries(content: Any, key: str | None, file: Path) -> list[dict[str, Any]]:
    """A list of objects in a JSON file."""
    entries = content.get(key) if key is not None and isinstance(content, dict) else content
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{DATA_ERROR} {file}: expected a list{f' {key!r}' if key else ''} of objects.")
    return entries
