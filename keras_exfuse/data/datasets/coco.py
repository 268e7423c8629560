"""COCO with the classes of PASCAL VOC, for the first stage of the paper's training."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse._optional import require
from keras_exfuse._palette import VOC_CLASSES
from keras_exfuse.data.datasets.folders import list_file, write_list
from keras_exfuse.data.datasets.sbd import write_mask
from keras_exfuse.data.errors import DATA_ERROR
from keras_exfuse.data.examples import Examples

#: COCO's name of each VOC class where it is another one.
_OTHER_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
#: VOC label by COCO category name; everything else is background.
COCO_TO_VOC = {_OTHER_NAMES.get(name, name): label for label, name in enumerate(VOC_CLASSES) if label}


def coco_to_voc(
    annotations: str | os.PathLike[str],
    images: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Examples:
    """Turn COCO's instances into VOC masks; images without any of the 20 classes are left out.

    Crowd regions become 255 where no single object covers them. Where objects overlap, the smaller one is on
    top.

    Args:
        annotations: `instances_train2017.json` or the like.
        images: Folder of the images.
        output: Folder for the masks and the list `examples.json` (read again by `list_file`). If the list is
            there, nothing is converted.
        progress: Called with the images done and in all.

    Returns:
        The examples, with `class_names`.

    Raises:
        ValueError: If a file is missing, or the annotations lack a class of VOC.

    Source: paper Sec. 4 (stage 1 trains on COCO, SBD and VOC).
    """
    folder = Path(output)
    finished = folder / "examples.json"
    if finished.is_file():
        return list_file(finished)
    if not Path(annotations).is_file():
        raise ValueError(f"{DATA_ERROR} {annotations}: there is no such file.")
    coco = _quiet_coco(annotations)
    labels = {
        entry["id"]: COCO_TO_VOC[entry["name"]]
        for entry in coco.cats.values()
        if entry["name"] in COCO_TO_VOC
    }
    absent = sorted(set(COCO_TO_VOC.values()) - set(labels.values()))
    if absent:
        raise ValueError(
            f"{DATA_ERROR} {annotations}: expected COCO's categories; none for "
            f"{', '.join(VOC_CLASSES[label] for label in absent)}."
        )
    kept: list[tuple[str, str, str]] = []
    for number, (identity, record) in enumerate(sorted(coco.imgs.items()), start=1):
        mask = coco_mask(coco, identity, labels)
        if mask is not None:
            name = Path(record["file_name"]).stem
            write_mask(folder / f"SegmentationClass/{name}.png", mask)
            image = Path(images) / record["file_name"]
            kept.append((name, str(image), str(folder / f"SegmentationClass/{name}.png")))
        if progress:
            progress(number, len(coco.imgs))
    names, image_paths, masks = zip(*kept, strict=True) if kept else ((), (), ())
    examples = Examples(
        names, image_paths, masks, source=str(annotations), class_names=VOC_CLASSES
    ).check_files()
    write_list(finished, examples)  # Last: its presence says that the conversion was completed.
    return examples


def coco_mask(coco: Any, image_id: int, labels: dict[int, int]) -> np.ndarray | None:
    """The VOC mask of one image of COCO.

    Args:
        coco: A `pycocotools.coco.COCO`.
        image_id: The image.
        labels: VOC label by COCO category id.

    Returns:
        Array (height, width) of uint8, or `None` if none of the 20 classes is in it.
    """
    record = coco.imgs[image_id]
    mask = np.zeros((record["height"], record["width"]), np.uint8)
    objects = [entry for entry in coco.imgToAnns[image_id] if entry["category_id"] in labels]
    # Crowds first, then large before small, so that single and small objects stay on top.
    objects.sort(key=lambda entry: (not entry.get("iscrowd"), -entry["area"]))
    for entry in objects:
        inside = coco.annToMask(entry).astype(bool)
        mask[inside] = IGNORE_CLASS if entry.get("iscrowd") else labels[entry["category_id"]]
    return mask if ((mask != 0) & (mask != IGNORE_CLASS)).any() else None


def _quiet_coco(annotations: str | os.PathLike[str]) -> Any:
    """Read the annotations; pycocotools prints its progress, which belongs to nobody's output."""
    import contextlib
    import io

    module = require("pycocotools.coco", extra="coco")
    with contextlib.redirect_stdout(io.StringIO()):
        return module.COCO(str(annotations))


def mix(*parts: Examples) -> Examples:
    """Join lists of examples, and print how many come from each: the stage-1 mix of COCO, SBD and VOC.

    For SBD and VOC together take `voc_trainaug`: it has no image twice, and none of VOC's val, which SBD's own lists
    do have.

    Args:
        *parts: The lists. They must agree on the names of the classes.

    Returns:
        One list; the names get the number of their part in front, so that none stands twice.

    Raises:
        ValueError: If there is nothing to mix, or the classes differ.

    Source: paper Sec. 4: COCO, SBD and VOC, 109,892 images.

    Example:
    >>> coco = coco_to_voc("instances_train2017.json", "train2017", "coco_voc")  # doctest: +SKIP
    >>> stage_1 = mix(coco, voc_trainaug("VOCdevkit", "benchmark.tgz"))  # doctest: +SKIP
    """
    if not parts:
        raise ValueError("Nothing to mix: expected at least one list of examples.")
    classes = {part.class_names for part in parts}
    if len(classes) > 1:
        raise ValueError("The parts name different classes; remap their labels first.")
    joined = Examples(
        names=tuple(f"{number}/{name}" for number, part in enumerate(parts) for name in part.names),
        images=tuple(path for part in parts for path in part.images),
        masks=tuple(path for part in parts for path in part.masks),
        source=" + ".join(part.source for part in parts),
        class_names=parts[0].class_names,
    )
    for part in parts:
        print(f"{len(part):8d}  {part.source}")
    print(f"{len(joined):8d}  in all")
    return joined
