"""GeoTIFFs for `keras-exfuse predict`: window by window, onto the map."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keras_exfuse.cli import common


def split(paths: Sequence[Path], bands: str | None) -> tuple[list[Path], list[Path]]:
    """GeoTIFFs, and other images.

    Args:
        paths: Files.
        bands: With `--bands`, every TIFF is taken as a GeoTIFF.
    """
    from keras_exfuse.data.geotiff import is_georeferenced

    maps = [
        path
        for path in paths
        if path.suffix.lower() in (".tif", ".tiff") and (bands is not None or is_georeferenced(path))
    ]
    found = set(maps)
    return maps, [path for path in paths if path not in found]


def check_options(maps: Sequence[Path], bands: str | None, coco: bool, uncertainty: bool) -> None:
    """Raise a `ValueError` where an option has no meaning for what there is."""
    if not maps:
        if bands is not None:
            raise ValueError("--bands is about TIFF, and none of the images is one. Leave it out.")
        return
    if coco:
        raise ValueError(
            f"{maps[0]} is a GeoTIFF, whose polygons are GeoJSON on the map: --polygons geojson."
        )
    if uncertainty:
        raise ValueError(f"{maps[0]} is a GeoTIFF: --uncertainty is for other images. Leave it out.")


def files_of(image: Path, output: Path, polygons: bool) -> list[Path]:
    """Where the results of a GeoTIFF go: labels, and polygons if they are wanted."""
    labels = output / "labels" / f"{image.stem}.tif"
    return [labels, output / "polygons" / f"{image.stem}.geojson"] if polygons else [labels]


def segment(
    maps: Sequence[Path],
    predictor: Any,
    bands: str | None,
    output: Path,
    names: Sequence[str],
    polygons: bool,
    add_areas: Callable[[list[dict[str, Any]]], None],
    unreadable: list[str],
) -> None:
    """Segment GeoTIFFs one after another.

    Args:
        maps: Files.
        predictor: A `Predictor`, with the range of the values.
        bands: Numbers with commas, or `None`.
        output: Directory of the results.
        names: Names of the classes.
        polygons: Whether to write polygons too.
        add_areas: Called with rows of the table of areas for each file.
        unreadable: Gets a line for each file that could not be read.
    """
    from keras_exfuse._optional import require
    from keras_exfuse.inference import segment_geotiff
    from keras_exfuse.inference.geotiff import write_polygons

    errors = require("rasterio.errors", extra="geo")
    chosen = None if bands is None else common.numbers(bands, "--bands", int)
    skip = [label for label, name in enumerate(names) if name == "background"]
    for path in maps:
        labels, *outlines = files_of(path, output, polygons)
        try:
            with common.progress_bar(f"segmenting {path.name}") as advance:
                areas = segment_geotiff(
                    predictor, path, labels, bands=chosen, class_names=names, progress=advance
                )
        except errors.RasterioIOError as error:
            unreadable.append(f"{path}: cannot be read ({error}).")
            continue
        for file in outlines:
            write_polygons(labels, file, names, skip)
        add_areas(_rows(path, areas, names))


def _rows(path: Path, areas: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row a class that occurs."""
    total = max(int(areas.pixels.sum()), 1)
    return [
        {
            "image": str(path),
            "label": label,
            "class": names[label],
            "pixels": int(areas.pixels[label]),
            "share": f"{areas.pixels[label] / total:.6f}",
            "square_metres": "" if areas.square_metres is None else f"{areas.square_metres[label]:.2f}",
        }
        for label in areas.pixels.nonzero()[0].tolist()
    ]
