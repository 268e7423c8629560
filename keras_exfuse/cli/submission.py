"""`keras-exfuse submission`: the archive that the PASCAL VOC test server takes."""

import io
import tarfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from keras_exfuse.cli import common
from keras_exfuse.cli.predict import find_images, read_images, report_unreadable

FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"
NUM_CLASSES = 21


def submission(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Images of the test set, their folder, or patterns in quotes.", show_default=False
        ),
    ],
    model: common.ModelOption,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The archive, .tar, .tar.gz or .tgz.", show_default=False),
    ],
    split: Annotated[
        Path | None,
        typer.Option(
            help="A file with an image's name on each line, such as ImageSets/Segmentation/test.txt: only these, "
            "and all of them.",
            show_default=False,
        ),
    ] = None,
    overwrite: common.OverwriteOption = False,
    scales: common.ScalesOption = "1",
    flip: common.FlipOption = False,
    window: common.WindowOption = None,
) -> None:
    """Segment the VOC 2012 test set and pack the results for its server.

    The archive holds results/VOC2012/Segmentation/comp6_test_cls/*.png with palette indices. It is read back and
    compared before it takes its name. Is an image unreadable, there is no archive: the server wants all of them.
    """
    from keras_exfuse._files import replace_file
    from keras_exfuse.loading import load

    _check_output(output, overwrite)
    images = _choose(find_images(paths), split)
    network = load(model)
    # An exported model may not tell; its labels are checked in the archive.
    if network.class_names and len(network.class_names) != NUM_CLASSES:
        raise ValueError(
            f"The VOC server takes {NUM_CLASSES} classes (20 and the background), {model} has "
            f"{len(network.class_names)}."
        )
    predictor = common.predictor_of(network, scales, flip, window)
    unreadable: list[str] = []

    def write(archive_path: Path) -> None:
        shapes = {}
        with (
            tarfile.open(archive_path, "w" if output.suffix == ".tar" else "w:gz") as archive,
            common.progress_bar("segmenting", len(images)) as advance,
        ):
            for path, image in read_images(images, unreadable, advance):
                _add(archive, path.stem, predictor(image))
                shapes[path.stem] = image.shape[:2]
        report_unreadable(unreadable)
        check_archive(archive_path, shapes)

    replace_file(output, write)
    common.console.print(f"{len(images)} images, read back: {output}", markup=False)


def check_archive(path: Path, shapes: dict[str, tuple[int, int]]) -> None:
    """Read an archive as the server does, and complain about anything that it would complain about.

    Args:
        path: The archive.
        shapes: Height and width of each image by its name.

    Raises:
        ValueError: If a result is missing, too much, of another size, no palette PNG, or holds other labels than
            0..20.
    """
    from PIL import Image

    wanted = {f"{FOLDER}/{name}.png": shape for name, shape in shapes.items()}
    with tarfile.open(path) as archive:
        found = {member.name: member for member in archive.getmembers()}
        if set(found) != set(wanted):
            wrong = sorted(set(found) ^ set(wanted))
            raise ValueError(f"The archive {path} lacks or should not have: {', '.join(wrong[:5])}.")
        for name, member in found.items():
            content = archive.extractfile(member)
            image = Image.open(io.BytesIO(content.read() if content else b""))
            labels = np.asarray(image)
            if image.mode != "P" or labels.shape != wanted[name] or labels.max() >= NUM_CLASSES:
                raise ValueError(
                    f"{name} in {path} should be a palette PNG of {wanted[name]} (height, width) with labels below "
                    f"{NUM_CLASSES}; it is of mode {image.mode}, {labels.shape}, up to {labels.max()}."
                )


def _add(archive: tarfile.TarFile, name: str, labels: np.ndarray) -> None:
    from keras_exfuse.visualize import palette_image

    content = io.BytesIO()
    palette_image(labels).save(content, "png")
    member = tarfile.TarInfo(f"{FOLDER}/{name}.png")
    member.size = content.tell()
    content.seek(0)
    archive.addfile(member, content)


def _check_output(output: Path, overwrite: bool) -> None:
    if not output.name.endswith((".tar", ".tar.gz", ".tgz")):
        raise ValueError(f"--output: expected a name that ends in .tar, .tar.gz or .tgz, got {output}.")
    if output.exists() and not overwrite:
        raise ValueError(f"{output} would be written over. Pass --overwrite, or choose another --output.")


def _choose(images: list[Path], split: Path | None) -> list[Path]:
    """The images of a split, all of which must be there; all images without a split."""
    by_name = {path.stem: path for path in images}
    if len(by_name) < len(images):
        raise ValueError("Two images have the same name; the results would be written over each other.")
    if split is None:
        return images
    names = [line.split()[0] for line in split.read_text().splitlines() if line.strip()]
    missing = [name for name in names if name not in by_name]
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(names)} images in {split} are not among those given, {missing[0]} for one."
        )
    return [by_name[name] for name in names]
