"""Tiny data sets in VOC layout, written for the tests of the data pipeline."""

import tarfile
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def make_voc(tmp_path):
    """A function that writes a data set in VOC layout and returns its folder."""
    from PIL import Image

    from keras_exfuse.data import voc_palette

    def make(count=6, root=None, sizes=((40, 60), (50, 30)), split="train", num_classes=5) -> Path:
        folder = Path(root or tmp_path / "voc")
        for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(count)
        names = [f"{split}_{number:03d}" for number in range(count)]
        for number, name in enumerate(names):
            height, width = sizes[number % len(sizes)]
            mask = random.integers(0, num_classes, (height // 5 + 1, width // 5 + 1)).astype(np.uint8)
            mask = mask.repeat(5, axis=0).repeat(5, axis=1)[:height, :width]
            mask[0] = 255
            image = Image.fromarray(mask, "P")
            image.putpalette(voc_palette().tobytes())
            image.save(folder / "SegmentationClass" / f"{name}.png")
            colors = random.integers(0, 256, (height, width, 3)).astype(np.uint8)
            Image.fromarray(colors).save(folder / "JPEGImages" / f"{name}.jpg", quality=95)
        (folder / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(names) + "\n")
        return folder

    return make


@pytest.fixture
def packed():
    """A function that packs a folder into a tar under a name inside it, and returns the tar."""

    def pack(folder: Path, archive: Path, inside: str) -> Path:
        with tarfile.open(archive, "w:gz" if archive.suffix == ".tgz" else "w") as tar:
            tar.add(folder, arcname=inside)
        return archive

    return pack
