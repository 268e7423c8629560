"""COCO: with the classes of PASCAL VOC, for the first stage of the paper's training, and with any."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse._optional import require
from keras_exfuse._palette import VOC_CLASSES
from keras_exfuse.data.datasets.converting import (
    BACKGROUND,
    check_class_names,
    finished_conversion,
    write_masks,
)
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
    done = finished_conversion(output)
    if done is not None:
        return done
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
    masks = _masks(coco, images, labels, keep_empty=False)
    return write_masks(masks, len(coco.imgs), output, str(annotations), VOC_CLASSES, progress)


def coco_masks(
    annotations: str | os.PathLike[str],
    images: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Examples:
    """Turn COCO's polygons and run lengths of any classes into masks.

    Crowd regions become 255 where no single object covers them. Where objects overlap, the smaller one is on
    top. What no object covers is background; an image without objects is all background.

    Args:
        annotations: A file in COCO's format of instances, as many tools export it.
        images: Folder of the images.
        output: As in `coco_to_voc`.
        class_names: Names of the classes, the background included; "background" and the categories, in the order of
            their ids, if `None`. Objects of other categories become background.
        progress: Called with the images done and in all.

    Returns:
        The examples, with `class_names`.

    Raises:
        ValueError: If a file is missing, a name is no category, or an object has a box only.

    Example:
    >>> pets = coco_masks("instances.json", "photos", "masks", class_names=["background", "cat"])  # doctest: +SKIP
    """
    done = finished_conversion(output)
    if done is not None:
        return done
    coco = _quiet_coco(annotations)
    identities = {entry["name"]: identity for identity, entry in sorted(coco.cats.items())}
    if class_names is None:
        class_names = list(identities) if BACKGROUND in identities else [BACKGROUND, *identities]
    check_class_names(class_names, str(annotations))
    unknown = [name for name in class_names if name not in identities and name != BACKGROUND]
    if unknown:
        raise ValueError(
            f"{DATA_ERROR} {annotations}: there is no category {unknown[0]!r}; expected some of "
            f"{', '.join(identities)}."
        )
    labels = {identities[name]: label for label, name in enumerate(class_names) if name in identities}
    ground = list(class_names).index(BACKGROUND) if BACKGROUND in class_names else IGNORE_CLASS
    masks = _masks(coco, images, labels, keep_empty=True, ground=ground)
    return write_masks(masks, len(coco.imgs), output, str(annotations), class_names, progress)


def _masks(
    coco: Any, images: str | os.PathLike[str], labels: dict[int, int], keep_empty: bool, ground: int = 0
) -> Iterator[tuple[str, Path, np.ndarray | None]]:
    """Name, image and mask of each image; no mask for one without objects, unless they are kept."""
    for identity, record in sorted(coco.imgs.items()):
        mask = coco_mask(coco, identity, labels, ground)
        wanted = keep_empty or bool(((mask != ground) & (mask != IGNORE_CLASS)).any())
        name = record["file_name"]
        yield Path(name).stem, Path(images) / name, mask if wanted else None


def coco_mask(coco: Any, image_id: int, labels: dict[int, int], ground: int = 0) -> np.ndarray:
    """The mask of one image of COCO.

    Args:
        coco: A `pycocotools.coco.COCO`.
        image_id: The image.
        labels: Label by COCO category id.
        ground: Label of what no object covers.

    Returns:
        Array (height, width) of uint8.

    Raises:
        ValueError: If an object has no region, but a box alone.
    """
    record = coco.imgs[image_id]
    mask = np.full((record["height"], record["width"]), ground, np.uint8)
    objects = [entry for entry in coco.imgToAnns[image_id] if entry["category_id"] in labels]
    bare = [entry["id"] for entry in objects if not entry.get("segmentation")]
    if bare:
        raise ValueError(
            f"{DATA_ERROR} annotation {bare[0]} of {record['file_name']} has no segmentation: a box makes no mask."
        )
    # Crowds first, then large before small, so that single and small objects stay on top.
    regions = [(entry, coco.annToMask(entry).astype(bool)) for entry in objects]
    regions.sort(key=lambda each: (not each[0].get("iscrowd"), -each[0].get("area", each[1].sum())))
    for entry, inside in regions:
        mask[inside] = IGNORE_CLASS if entry.get("iscrowd") else labels[entry["category_id"]]
    return mask


def _quiet_coco(annotations: str | os.PathLike[str]) -> Any:
    """Read the annotations; pycocotools prints its progress, which belongs to nobody's output."""
    if not Path(annotations).is_file():
        raise ValueError(f"{DATA_ERROR} {annotations}: there is no such file.")
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
    if len({(part.mask_format, part.value_range) for part in parts}) > 1:
        raise ValueError(
            "The files of the parts are read in different ways; write them as records one by one."
        )
    joined = Examples(
        names=tuple(f"{number}/{name}" for number, part in enumerate(parts) for name in part.names),
        images=tuple(path for part in parts for path in part.images),
        masks=tuple(path for part in parts for path in part.masks),
        source=" + ".join(part.source for part in parts),
        class_names=parts[0].class_names,
        mask_format=parts[0].mask_format,
        value_range=parts[0].value_range,
    )
    for part in parts:
        print(f"{len(part):8d}  {part.source}")
    print(f"{len(joined):8d}  in all")
    return joined
