"""`keras-exfuse predict`."""

import csv
import enum
import functools
import glob
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from keras_exfuse.cli import common, geotiff
from keras_exfuse.cli.masks import value_range as parsed_range


class Uncertainty(enum.StrEnum):
    """Maps of how unsure the model is."""

    entropy = "entropy"
    margin = "margin"


class Polygons(enum.StrEnum):
    """Ways to write polygons."""

    coco = "coco"
    geojson = "geojson"


def predict(
    paths: Annotated[
        list[str],
        typer.Argument(help="Images, folders of images, or patterns in quotes.", show_default=False),
    ],
    model: common.ModelOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory for labels/ and overlays/.", show_default=False)
    ],
    overlay: Annotated[bool, typer.Option(help="Also write overlays with a legend.")] = True,
    polygons: Annotated[
        Polygons | None,
        typer.Option(
            help="Also write polygons, without the class called background: one polygons.json for all images, "
            "or polygons/*.geojson.",
            show_default=False,
        ),
    ] = None,
    areas: Annotated[
        Path | None,
        typer.Option(help="Also write a CSV table of each image's area by class.", show_default=False),
    ] = None,
    uncertainty: Annotated[
        Uncertainty | None,
        typer.Option(
            help="Also write a gray PNG of how unsure the model is of each pixel, white where it is most: by the "
            "entropy of the classes' probabilities, or the margin between the best two.",
            show_default=False,
        ),
    ] = None,
    class_names: Annotated[
        str | None,
        typer.Option(
            help="Names of the classes, with commas, a file with one on each line, or voc; those saved with the model "
            "by default, which for an exported one are in a file classes.txt beside it.",
            show_default=False,
        ),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(
            help="GeoTIFF: the bands that are the model's channels, counted from 1, for example 4,3,2; the first ones "
            "by default.",
            metavar="LIST",
        ),
    ] = None,
    value_range: Annotated[
        str | None,
        typer.Option(
            "--range",
            help="Images of more than 8 bits: which values are black and white, for example 0,10000. By default the "
            "upper eight of the bits that an image uses count.",
            metavar="LOW,HIGH",
        ),
    ] = None,
    overwrite: common.OverwriteOption = False,
    scales: common.ScalesOption = "1",
    flip: common.FlipOption = False,
    window: common.WindowOption = None,
) -> None:
    """Segment images: a palette PNG of labels, and an overlay, for each.

    A GeoTIFF (extra geo) is read and written window by window, however large: labels/NAME.tif lies where it lies on the
    map, --polygons geojson has its coordinates, and --areas square metres.

    Unreadable files are passed over and listed at the end; the exit code is then 1.
    """
    from keras_exfuse.data.reading import file_problem

    found = find_images(paths)
    _check_names(found)
    maps, others = geotiff.split(found, bands)
    geotiff.check_options(maps, bands, polygons == Polygons.coco, uncertainty is not None)
    limits = parsed_range(value_range)
    problems = {path: file_problem(path) for path in others}  # Before the model is loaded, which takes long.
    unreadable = [problem for problem in problems.values() if problem]
    images = [path for path in others if not problems[path]]
    if not images and not maps:
        report_unreadable(unreadable)
    files = _all_files(images, output, overlay, polygons, areas, uncertainty)
    for path in maps:
        files += geotiff.files_of(path, output, polygons is not None)
    common.check_nothing_there(files, overwrite)
    network, names = read_network(model, class_names)
    results = Results(output, names, overlay, polygons, areas, uncertainty)
    predictor = common.predictor_of(network, scales, flip, window, return_uncertainty=uncertainty is not None)
    segment(images, predictor, results, unreadable, limits)
    if maps:
        # A window at a time: on a CPU as fast as four, in three quarters of the memory.
        on_map = common.predictor_of(network, scales, flip, window, value_range=limits, batch_size=1)
        geotiff.segment(
            maps, on_map, bands, output, names, polygons is not None, results.rows.extend, unreadable
        )
    results.finish()
    done = len(found) - len(unreadable)
    overlays = " and overlays" * (overlay and bool(images))
    written = f": {output}/labels{overlays}" if done else "."
    common.print_plain(f"{done} of {len(found)} images segmented{written}")
    report_unreadable(unreadable)


def read_network(path: Path, class_names: str | None) -> tuple[Any, tuple[str, ...]]:
    """What a user named as the model, and the names of its classes.

    Raises:
        ValueError: If it is no model, or has another number of classes than there are names.
    """
    from keras_exfuse.inference import ExportedModel
    from keras_exfuse.loading import load

    network = load(path)
    names = network.class_names if class_names is None else common.read_class_names(class_names)
    if isinstance(network, ExportedModel):
        return network, names or tuple(f"class {label}" for label in range(255))
    if len(names) != len(network.class_names):
        raise ValueError(
            f"--class-names: {len(names)} names for a model of {len(network.class_names)} classes."
        )
    return network, names


def segment(
    images: Sequence[Path],
    predictor: Any,
    results: "Results",
    unreadable: list[str],
    limits: tuple[float, float] | None = None,
) -> None:
    """Read, segment and write: files are prefetched and written behind, each in a thread, while the model runs.

    Args:
        images: Files.
        predictor: From an image to its labels.
        results: What writes.
        unreadable: Gets a line for each file that could not be read.
        limits: Black and white in images of more than eight bits, as in `keras_exfuse.data.read_image`.
    """
    from keras_exfuse._threads import WriteBehind

    with common.progress_bar("segmenting", len(images)) as advance, WriteBehind() as queue:
        for path, image in read_images(images, unreadable, advance, limits):
            queue.call(results.add, path, image, predictor(image))


# === Images ===


def find_images(paths: list[str]) -> list[Path]:
    """The images that a user means.

    Args:
        paths: Files, folders (their images, not those of folders in them), or glob patterns.

    Returns:
        Files, each once, in the order given; those of folders and patterns sorted.

    Raises:
        ValueError: If something does not exist or holds no image.
    """
    from keras_exfuse.data.reading import images_in, other_files

    found: dict[Path, None] = {}
    for text in paths:
        path = Path(text)
        if path.is_dir():
            files = images_in(path)
            others = other_files(path)
            if others:
                common.console_error.print(f"{path}: {others}", markup=False)
        elif path.exists():
            files = [path]
        else:
            files = sorted(Path(match) for match in glob.glob(text, recursive=True) if Path(match).is_file())
            if not files:
                raise ValueError(f"There is no file, folder or match for {text!r}.")
        found.update(dict.fromkeys(files))
    return list(found)


def read_images(
    images: Sequence[Path],
    unreadable: list[str],
    advance: Callable[[], None],
    limits: tuple[float, float] | None = None,
) -> Iterator[tuple[Path, np.ndarray]]:
    """Read images one after another, prefetched in a thread.

    Args:
        images: Files.
        unreadable: Gets a line for each file that could not be read; it is passed over.
        advance: Called after each file.
        limits: Black and white in images of more than eight bits, as in `keras_exfuse.data.read_image`.

    Yields:
        The file and its image, RGB (H, W, 3).
    """
    from keras_exfuse._threads import prefetch

    for path, image in prefetch(functools.partial(_read, limits=limits), images):
        if isinstance(image, str):
            unreadable.append(image)
        else:
            yield path, image
        advance()


def _read(path: Path, limits: tuple[float, float] | None) -> tuple[Path, np.ndarray | str]:
    """A file, and its image or what is wrong with it."""
    from keras_exfuse.data import read_image

    try:
        return path, read_image(path, limits)
    except (ValueError, OSError) as error:
        return path, str(error)


def report_unreadable(unreadable: list[str]) -> None:
    """List what could not be read, and end with the exit code 1 if there is any."""
    if not unreadable:
        return
    common.console_error.print(f"[bold red]{len(unreadable)} could not be read:[/]")
    for line in unreadable:
        common.console_error.print(f"  {line}", markup=False)
    raise typer.Exit(1)


# === Results ===


def _files(image: Path, output: Path) -> dict[str, Path]:
    """Where one image's results go, by kind."""
    return {
        "labels": output / "labels" / f"{image.stem}.png",
        "overlay": output / "overlays" / f"{image.stem}.png",
        "geojson": output / "polygons" / f"{image.stem}.geojson",
        "uncertainty": output / "uncertainty" / f"{image.stem}.png",
    }


def _all_files(images, output, overlay, polygons, areas, uncertainty) -> list[Path]:
    """Every file that will be written."""
    wanted = {
        "labels": True,
        "overlay": overlay,
        "geojson": polygons == Polygons.geojson,
        "uncertainty": uncertainty is not None,
    }
    each = [file for image in images for kind, file in _files(image, output).items() if wanted[kind]]
    together = [output / "polygons.json"] if polygons == Polygons.coco else []
    return [*each, *together, *([areas] if areas else [])]


def _check_names(images: list[Path]) -> None:
    taken: dict[str, Path] = {}
    for image in images:
        other = taken.setdefault(image.stem, image)
        if other != image:
            raise ValueError(
                f"{other} and {image} would both become {image.stem}.png. Segment them into different directories."
            )


class Results:
    """Writes what was asked for, each file as a whole or not at all.

    Args:
        output: Directory.
        names: Names of the classes.
        overlay: Whether to write overlays.
        polygons: How to write polygons, if at all.
        areas: File of the table of areas, if any.
        uncertainty: Which map of uncertainty to write, if any.
    """

    def __init__(self, output, names, overlay, polygons, areas, uncertainty=None):
        from keras_exfuse._optional import require
        from keras_exfuse.inference.polygons import CocoPolygons

        if polygons:
            require("rasterio.features", extra="polygons")  # Missing, it is said before the work.
        if overlay and len(names) > 255:
            raise ValueError(
                f"Overlays have colors for up to 255 classes, the model has {len(names)}. Pass --no-overlay."
            )
        self.output, self.names, self.overlay = output, names, overlay
        self.polygons, self.areas, self.uncertainty = polygons, areas, uncertainty
        self.skip = [label for label, name in enumerate(names) if name == "background"]
        self.coco = CocoPolygons(names, self.skip)
        self.rows: list[dict[str, Any]] = []

    def add(self, path: Path, image: np.ndarray, found: Any) -> None:
        """Write the files of one image, from what the predictor found: labels, or a `Segmentation`."""
        from keras_exfuse import visualize
        from keras_exfuse._files import replace_file
        from keras_exfuse.inference.polygons import to_geojson

        labels = found if self.uncertainty is None else found.labels
        if labels.max() >= len(self.names):
            raise ValueError(
                f"{path} has the label {labels.max()}, and there are names for {len(self.names)} classes: "
                "give --class-names for all of them."
            )
        files = _files(path, self.output)
        replace_file(files["labels"], visualize.label_image(labels).save)
        if self.uncertainty is not None:
            values = found.entropy if self.uncertainty == Uncertainty.entropy else 1 - found.margin
            replace_file(files["uncertainty"], visualize.uncertainty_image(values).save)
        if self.overlay:
            replace_file(files["overlay"], visualize.overlay(image, labels, self.names).save)
        if self.polygons == Polygons.geojson:
            _write_json(files["geojson"], to_geojson(labels, self.names, self.skip))
        elif self.polygons == Polygons.coco:
            self.coco.add(path.name, labels)
        if self.areas:
            self.rows.extend(_area_rows(path, labels, self.names))

    def finish(self) -> None:
        """Write the files about all images."""
        from keras_exfuse._files import replace_file

        if self.polygons == Polygons.coco:
            _write_json(self.output / "polygons.json", self.coco.to_dict())
        if self.areas:
            replace_file(self.areas, self._write_areas)

    def _write_areas(self, path: Path) -> None:
        with path.open("w", newline="") as file:
            fields = ["image", "label", "class", "pixels", "share"]
            if any("square_metres" in row for row in self.rows):
                fields.append("square_metres")
            writer = csv.DictWriter(file, fields)
            writer.writeheader()
            writer.writerows(self.rows)


def _area_rows(path: Path, labels: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row a class that occurs."""
    found, counts = np.unique(labels, return_counts=True)
    return [
        {
            "image": str(path),
            "label": label,
            "class": names[label],
            "pixels": count,
            "share": f"{count / labels.size:.6f}",
        }
        for label, count in zip(found.tolist(), counts.tolist(), strict=True)
    ]


def _write_json(file: Path, content: dict) -> None:
    from keras_exfuse._files import replace_file

    replace_file(file, lambda path: path.write_text(json.dumps(content)))
