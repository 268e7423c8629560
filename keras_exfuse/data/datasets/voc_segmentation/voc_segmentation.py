"""`voc_segmentation` for TensorFlow Datasets: PASCAL VOC with masks, from a manual folder or tar."""

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from keras_exfuse._palette import VOC_CLASSES
from keras_exfuse.data.datasets.sbd import SBD_ARCHIVE, voc_trainaug
from keras_exfuse.data.datasets.voc import VOC_ARCHIVES, voc_root
from keras_exfuse.data.decoding import EncodedImage
from keras_exfuse.data.errors import DATA_ERROR
from keras_exfuse.data.examples import Examples, find_voc_root, voc_examples
from keras_exfuse.data.pairs import checked_pair
from keras_exfuse.data.reading import image_to_rgb


class ExactImage(tfds.features.Image):
    """An image feature that keeps the file's bytes and decodes them as the folder reader does.

    The decoder of `tfds.features.Image` uses the fast cosine transform, which is up to 21 gray values off
    pillow, and knows no EXIF orientation.
    """

    def decode_example(self, example: Any) -> Any:
        """In graph: the image, as `read_image` reads it."""
        return EncodedImage(example).whole()

    def decode_example_np(self, example: bytes) -> np.ndarray:
        """For `as_data_source`, without TensorFlow."""
        from PIL import Image

        return image_to_rgb(Image.open(io.BytesIO(example)))


@dataclasses.dataclass(kw_only=True)
class VocConfig(tfds.core.BuilderConfig):
    """A configuration: which lists become splits.

    Args:
        splits: Names of lists in `ImageSets/Segmentation`; `trainaug` is computed with SBD where there is no
            such list.
        official: Whether to insist on the official number of examples of trainaug.
    """

    splits: tuple[str, ...] = ("train", "val")
    official: bool = True


class VocSegmentation(tfds.core.GeneratorBasedBuilder):
    """PASCAL VOC semantic segmentation with 21 classes and 255 for void."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First version."}
    BUILDER_CONFIGS: ClassVar = [
        VocConfig(name="voc2012", description="VOC 2012: train and val."),
        VocConfig(
            name="voc2012_aug",
            description="VOC 2012 with SBD: trainaug (10,582) and val.",
            splits=("trainaug", "val"),
        ),
        VocConfig(
            name="voc2012_animals",
            description="A subset of VOC 2012 and SBD, resized, with its own lists.",
            splits=("train", "trainaug", "val"),
            official=False,
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Put VOCtrainval_11-May-2012.tar, or the VOCdevkit unpacked from it, into the manual folder; for
    voc2012_aug also SBD's benchmark.tgz, or benchmark_RELEASE. For voc2012_animals: the folder with
    JPEGImages, SegmentationClass and ImageSets, or its parent.
    """

    def _info(self) -> tfds.core.DatasetInfo:
        mask = tfds.features.Image(shape=(None, None, 1), dtype=np.uint8, encoding_format="png")
        features = {
            "image": ExactImage(shape=(None, None, 3), encoding_format="jpeg"),
            "mask": mask,
            "name": tfds.features.Text(),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "mask"),
            homepage="http://host.robots.ox.ac.uk/pascal/VOC/",
            description=f"{self.__doc__} Classes: {', '.join(VOC_CLASSES)}.",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        manual, work = Path(dl_manager.manual_dir), Path(dl_manager.download_dir)
        root = find_in_manual_folder(manual, work, self.builder_config.name)
        return {
            split: self._generate_examples(self._list(root, split, manual, work))
            for split in self.builder_config.splits
        }

    def _list(self, root: Path, split: str, manual: Path, work: Path) -> Examples:
        if split != "trainaug" or (root / "ImageSets/Segmentation/trainaug.txt").is_file():
            return voc_examples(root, split)
        for source in (manual / "benchmark_RELEASE", manual / SBD_ARCHIVE.name):
            if source.exists():
                masks = work / "sbd_masks"
                return voc_trainaug(root, source, mask_folder=masks, official=self.builder_config.official)
        raise ValueError(
            f"{DATA_ERROR} {manual}: expected {SBD_ARCHIVE.name} or benchmark_RELEASE for trainaug."
        )

    def _generate_examples(self, examples: Examples) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, name in enumerate(examples.names):
            _, mask = checked_pair(examples.images[number], examples.masks[number], len(VOC_CLASSES))
            yield number, {"image": examples.images[number], "mask": mask[..., None], "name": name}


def find_in_manual_folder(manual: Path, work: Path, config: str) -> Path:
    """The folder in VOC layout in a manual folder: a tar of VOC 2012, a VOCdevkit, or the layout itself."""
    tar = manual / VOC_ARCHIVES["2012"].name
    if tar.is_file():
        return voc_root(tar, work / "extracted_voc2012")
    for folder in (manual / config, manual):  # The folder of that name first: there may be others beside it.
        if folder.is_dir():
            try:
                return find_voc_root(folder, 2012)
            except ValueError:
                continue
    raise ValueError(
        f"{DATA_ERROR} {manual}: expected {tar.name}, a VOCdevkit, or a folder in VOC layout in it."
    )
