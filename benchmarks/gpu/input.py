"""Crops per second that the machine's cores read, cut and batch: files, and records, which need TensorFlow.

Started by `python -m benchmarks.gpu`. The package's pipelines are tf.data; where TensorFlow is not installed, the same
reading and cutting runs in threads, and the rows say so. The last column is what the fastest training step in the
table of speeds eats.
"""

import argparse
import importlib.util
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.contest import about, quartiles
from benchmarks.gpu import crops
from benchmarks.gpu import plan as planning
from benchmarks.gpu.plan import Plan, tell
from benchmarks.inference.folder import make_images
from keras_exfuse import data

SCALE, NUM_CLASSES, ROUNDS, MADE = (0.5, 2.0), 21, 3, 64


def made_examples(folder: Path, number: int = MADE) -> data.Examples:
    """Random photographs and masks in a folder, where there is no data set."""
    from PIL import Image

    images, masks = folder / "images", folder / "masks"
    for each in (images, masks):
        each.mkdir()
    make_images(images, number)
    generator = np.random.default_rng(0)
    for path in images.iterdir():
        with Image.open(path) as image:
            size = image.size
        coarse = Image.fromarray(generator.integers(0, NUM_CLASSES, (12, 16), "uint8"))
        coarse.resize(size, Image.Resampling.NEAREST).save(masks / f"{path.stem}.png")
    return data.folder_pair(images, masks)


def sources_of(
    examples: data.Examples, folder: Path, plan: Plan
) -> Iterator[tuple[str, str, Callable[[], Iterable]]]:
    """Name, reader and a function that begins to read, of every source that can be read here."""
    augmentation = data.Augmentation(plan.crop, scale=SCALE)
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    read = crops.reader(examples, NUM_CLASSES)
    yield (
        "files",
        "threads",
        lambda: crops.crop_batches(read, len(examples), plan.crop_batch, augmentation, 0, threads),
    )
    if not importlib.util.find_spec("tensorflow"):
        return
    options = {"batch_size": plan.crop_batch, "augmentation": augmentation, "start": 0}
    yield (
        "files",
        "tf.data",
        lambda: data.examples_dataset(examples, num_classes=NUM_CLASSES, **options).as_numpy_iterator(),
    )
    for pixels in ("raw", "encoded"):
        data.write_records(examples, folder / pixels, num_classes=NUM_CLASSES, pixels=pixels)
        yield (
            f"records, {pixels}",
            "tf.data",
            lambda pixels=pixels: data.records_dataset(folder / pixels, **options).as_numpy_iterator(),
        )


def crops_per_second(begin: Callable[[], Iterable], plan: Plan) -> float:
    """Of some batches in a row, after as many as warm caches and fill buffers."""
    batches = iter(begin())
    for _ in itertools.islice(batches, 3):
        pass
    start = time.perf_counter()
    found = sum(len(image) for image, _ in itertools.islice(batches, plan.crop_batches))
    return found / (time.perf_counter() - start)


def run(plan: Plan) -> None:
    """A row for each source."""
    clock = planning.Clock(plan.seconds)
    signed = about(("keras", "numpy"), "")
    told = {"crop": plan.crop, "batch": plan.crop_batch, "scale": " ".join(map(str, SCALE)), "rounds": ROUNDS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        examples = data.voc_examples(plan.camvid, "train") if plan.camvid else made_examples(folder)
        images = "CamVid" if plan.camvid else f"{len(examples)} random ones of photographs' sizes"
        if not importlib.util.find_spec("tensorflow"):
            for source in ("files", "records, raw", "records, encoded"):
                row = {"source": source, "reader": "tf.data", "crops_per_second": "", "quartiles": ""}
                tell({**row, **told, "images": images, "trouble": "TensorFlow is not installed", **signed})
        for source, reader, begin in sources_of(examples, folder, plan):
            if clock.left() <= 0:
                return
            low, middle, high = quartiles([crops_per_second(begin, plan) for _ in range(ROUNDS)])
            row = {
                "source": source,
                "reader": reader,
                "crops_per_second": f"{middle:.0f}",
                "quartiles": f"{low:.0f} {high:.0f}",
            }
            tell({**row, **told, "images": images, "trouble": "", **signed})


def main() -> None:
    """Read the plan and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan")
    run(planning.read(parser.parse_args().plan))


if __name__ == "__main__":
    main()
