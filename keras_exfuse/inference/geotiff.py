"""GeoTIFFs of any size, window by window: labels with their coordinates kept, polygons on the map, areas in m2."""

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_exfuse._constants import cycled_color
from keras_exfuse._files import replace_file
from keras_exfuse._optional import require
from keras_exfuse._palette import voc_palette
from keras_exfuse.inference._images import scaled
from keras_exfuse.inference.polygons import Ring, ring_area
from keras_exfuse.inference.predictor import Predictor
from keras_exfuse.visualize import class_name

# Of the side of the blocks that labels are stored in.
_BLOCK = 512
# Megabytes of blocks that GDAL keeps; by default it would be a share of the machine's memory.
_CACHE = 128
# The ellipsoid WGS 84: half axes in metres.
_EQUATOR, _POLE = 6378137.0, 6356752.314245


@dataclasses.dataclass(frozen=True)
class Areas:
    """What each label covers.

    Attributes:
        pixels: int64 (num_labels,).
        square_metres: float64 (num_labels,), or `None` where the file has no coordinate system.
    """

    pixels: np.ndarray
    square_metres: np.ndarray | None


def segment_geotiff(
    predictor: Predictor,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    bands: Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Areas:
    """Segment a GeoTIFF without reading it as a whole, and write a GeoTIFF of its labels.

    The labels have the size, the coordinate system and the transform of the source, VOC's colors, and the no-data
    value 255 (65535 above 255 classes) where the source has no data. Memory grows with the width, not with the height.

    Args:
        predictor: How to segment: its `window` (512 pixels where it has none), its `value_range`, needed for anything
            but 8 bits, and its averaging.
        source: The file; anything that rasterio reads.
        target: The file to write. It appears once it is complete.
        bands: The bands, counted from 1, that are the model's channels in this order; the first ones by default.
        class_names: A name for each class, stored in the tags `class_0`, `class_1` and so on.
        progress: Called with the rows done and in all.

    Returns:
        The area of each label.

    Raises:
        ValueError: If there are no such bands, or the values are not of 8 bits and the predictor has no `value_range`.
        ImportError: If rasterio is not installed (extra `geo`).

    Example:
    >>> import keras_exfuse
    >>> from keras_exfuse.inference.geotiff import segment_geotiff
    >>> model = keras_exfuse.ExFuse(num_classes=3, backbone="efficientnet_lite0")
    >>> predictor = keras_exfuse.Predictor(model, window=512, value_range=(0, 10000))
    >>> segment_geotiff(predictor, "field.tif", "labels.tif", bands=(4, 3, 2))  # doctest: +SKIP
    """
    rasterio = require("rasterio", extra="geo")
    windows = require("rasterio.windows", extra="geo")
    with rasterio.Env(GDAL_CACHEMAX=_CACHE), rasterio.open(source) as image:
        bands = _checked_bands(image, bands, predictor.channels)
        _check_depth(image, bands, predictor.value_range)
        height, width = image.height, image.width
        row_areas = pixel_areas(image.crs, image.transform, height)
        # Where a channel has no data it gets the mean color, as the border has.
        filling = np.array(cycled_color(len(bands)), "float32")

        def read(top: int, left: int, rows: int, columns: int) -> np.ndarray:
            window = windows.Window(left, top, columns, rows)
            values = np.moveaxis(image.read(bands, window=window), 0, -1)
            missing = image.dataset_mask(window=window) == 0
            if values.dtype.kind == "f":
                missing |= ~np.isfinite(values).all(axis=-1)
            values[missing] = 0
            pixels = values if predictor.value_range is None else scaled(values, predictor.value_range)
            pixels = pixels.astype("float32", copy=False)
            pixels[missing] = filling
            return pixels

        def write(path: Path) -> Areas:
            pixels, metres = np.zeros(0, "int64"), np.zeros(0)
            output = None
            try:
                for top, left, labels in predictor.blocks(height, width, read):
                    rows, columns = labels.shape
                    nodata = np.iinfo(labels.dtype).max
                    if output is None:
                        output = rasterio.open(path, "w", **_profile(image, labels.dtype, nodata))
                        _describe(output, class_names, labels.dtype)
                        pixels, metres = np.zeros(nodata + 1, "int64"), np.zeros(nodata + 1)
                    window = windows.Window(left, top, columns, rows)
                    labels = np.where(image.dataset_mask(window=window) == 0, nodata, labels)
                    output.write(labels.astype(output.dtypes[0]), 1, window=window)
                    pixels += np.bincount(labels.ravel(), minlength=len(pixels))
                    if row_areas is not None:
                        weights = np.repeat(row_areas[top : top + rows], columns)
                        metres += np.bincount(labels.ravel(), weights, minlength=len(metres))
                    if progress is not None and left + columns == width:
                        progress(top + rows, height)
            finally:
                if output is not None:
                    output.close()
            return Areas(pixels[:-1], None if row_areas is None else metres[:-1])

        found: list[Areas] = []
        replace_file(Path(target), lambda path: found.append(write(path)))
    return found[0]


def _checked_bands(image: Any, bands: Sequence[int] | None, channels: int) -> list[int]:
    chosen = list(range(1, channels + 1)) if bands is None else [int(band) for band in bands]
    if len(chosen) != channels:
        raise ValueError(
            f"The model takes {channels} bands, got {len(chosen)}: {chosen}. Name one band a channel of the model, "
            "e.g. --bands 4,3,2."
        )
    wrong = [band for band in chosen if not 1 <= band <= image.count]
    if wrong:
        raise ValueError(
            f"{image.name} has the bands 1..{image.count}, and the model takes {channels}; there is no band "
            f"{wrong[0]}. Choose others, e.g. --bands 1,1,1 for one that is repeated."
        )
    return chosen


def _check_depth(image: Any, bands: Sequence[int], value_range: tuple[float, float] | None) -> None:
    kinds = {image.dtypes[band - 1] for band in bands}
    if kinds == {"uint8"} or value_range is not None:
        return
    # A few hundred rows and columns of them, to say something of use.
    size = len(bands), min(image.height, 512), min(image.width, 512)
    values = image.read(list(bands), out_shape=size, masked=True)
    values = np.ma.masked_invalid(values).compressed()
    low, high = np.percentile(values, (2, 98)) if values.size else (0, 1)
    if not any("float" in kind for kind in kinds):
        low, high = np.floor(low), np.ceil(high)
    raise ValueError(
        f"{image.name} holds {', '.join(sorted(kinds))}, and which values are black and white is not known. Give them, "
        f"e.g. --range {low:g},{high:g}, between which most of its values lie; take the same for all files of a kind, "
        "and in training."
    )


def _profile(image: Any, dtype: Any, nodata: int) -> dict[str, Any]:
    """How labels are stored: tiles, compressed, where the image lies."""
    return {
        "driver": "GTiff",
        "height": image.height,
        "width": image.width,
        "count": 1,
        "dtype": str(dtype),
        "crs": image.crs,
        "transform": image.transform,
        "nodata": nodata,
        "compress": "deflate",
        "tiled": True,
        "blockxsize": _BLOCK,
        "blockysize": _BLOCK,
        "BIGTIFF": "IF_SAFER",
    }


def _describe(output: Any, class_names: Sequence[str] | None, dtype: Any) -> None:
    """Colors and names."""
    if str(dtype) == "uint8":
        colors = {label: (*map(int, color), 255) for label, color in enumerate(voc_palette())}
        output.write_colormap(1, colors)
    for label, name in enumerate(class_names or ()):
        output.update_tags(**{f"class_{label}": name})


# === Areas ===


def pixel_areas(crs: Any, transform: Any, height: int) -> np.ndarray | None:
    """The area of a pixel of each row in square metres; `None` without a coordinate system.

    In a projected system it is the same everywhere, as its units are. In degrees it is that of the cell on the
    ellipsoid WGS 84.

    Args:
        crs: rasterio's `CRS`, or `None`.
        transform: rasterio's `Affine`, from columns and rows to the map.
        height: Number of rows.

    Returns:
        float64 (height,), or `None`.

    Raises:
        ValueError: If rows do not run along a parallel, in degrees.
    """
    if crs is None:
        return None
    if crs.is_projected:
        metres = crs.linear_units_factor[1]
        return np.full(height, abs(transform.a * transform.e - transform.b * transform.d) * metres**2)
    if not crs.is_geographic:
        return None
    if transform.b or transform.d:
        raise ValueError(
            "The image is rotated, and its coordinates are degrees: the area of its pixels is not computed. Warp it "
            "first: gdalwarp -t_srs EPSG:32633 (the zone where it lies)."
        )
    edges = np.radians(transform.f + transform.e * np.arange(height + 1))
    return np.abs(np.diff(_area_below(edges))) * abs(np.radians(transform.a))


def _area_below(latitude: np.ndarray) -> np.ndarray:
    """The area of the ellipsoid between the equator and a latitude in radians, for one radian of longitude."""
    eccentricity = np.sqrt(1 - (_POLE / _EQUATOR) ** 2)
    sine = eccentricity * np.sin(latitude)
    return _POLE**2 / 2 * (np.sin(latitude) / (1 - sine**2) + np.arctanh(sine) / eccentricity)


# === Polygons ===


def write_polygons(
    labels: str | os.PathLike[str],
    target: str | os.PathLike[str],
    class_names: Sequence[str] | None = None,
    skip: Sequence[int] = (),
) -> Path:
    """Write the regions of a GeoTIFF of labels as GeoJSON, in the coordinates of its map.

    Args:
        labels: What `segment_geotiff` wrote.
        target: The file to write.
        class_names: A name for each class.
        skip: Labels to leave out, such as the background's.

    Returns:
        The file. Its member `crs` names the coordinate system. A feature's properties are `label`, `class`, `pixels`
        and, in a projected system, `square_metres`.
    """
    rasterio = require("rasterio", extra="geo")
    features = require("rasterio.features", extra="geo")

    def write(path: Path) -> None:
        with rasterio.open(labels) as image, path.open("w", encoding="utf-8") as file:
            left_out = {*skip, int(image.nodata)}
            transform = image.transform
            pixel = abs(transform.a * transform.e - transform.b * transform.d)
            projected = image.crs is not None and image.crs.is_projected
            metres = image.crs.linear_units_factor[1] ** 2 if projected else None
            head = {"type": "FeatureCollection", "crs": _crs_member(image.crs)}
            file.write(json.dumps(head)[:-1] + ', "features": [')
            separator = "\n"
            shapes = features.shapes(rasterio.band(image, 1), connectivity=4, transform=transform)
            for geometry, value in shapes:
                label = int(value)
                if label in left_out:
                    continue
                area = _polygon_area(geometry["coordinates"])
                properties = {"label": label, "class": class_name(label, class_names)}
                properties["pixels"] = round(area / pixel)
                if metres is not None:
                    properties["square_metres"] = round(area * metres, 3)
                feature = {"type": "Feature", "properties": properties, "geometry": geometry}
                file.write(separator + json.dumps(feature))
                separator = ",\n"
            file.write("\n]}\n")

    return replace_file(Path(target), write)


def _polygon_area(rings: list[Ring]) -> float:
    """The area of a polygon in the units of its map: of the outer ring without the holes."""
    return ring_area(rings[0]) - sum(ring_area(hole) for hole in rings[1:])


def _crs_member(crs: Any) -> dict[str, Any] | None:
    if crs is None:
        return None
    code = crs.to_epsg()
    name = f"urn:ogc:def:crs:EPSG::{code}" if code else crs.to_wkt()
    return {"type": "name", "properties": {"name": name}}
