"""Labels as polygons, exactly along the pixels' edges: GeoJSON with holes, COCO annotations without.

Coordinates are pixels, x to the right and y down, with (0, 0) the upper left corner of the first pixel.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_exfuse._constants import IGNORE_CLASS
from keras_exfuse._optional import require
from keras_exfuse.visualize import class_name

Ring = list[tuple[float, float]]


def regions(labels: np.ndarray, skip: Sequence[int] = ()) -> Iterator[tuple[int, list[Ring]]]:
    """The connected regions of each label; pixels that touch at a corner only are not connected.

    Args:
        labels: Integers (H, W), uint8 or uint16.
        skip: Labels to leave out.

    Yields:
        The label and the rings of its polygon: the outer one, then the holes; each closed.
    """
    features = require("rasterio.features", extra="polygons")
    wanted = ~np.isin(labels, skip)
    for geometry, label in features.shapes(labels, mask=wanted, connectivity=4):
        yield int(label), geometry["coordinates"]


def to_geojson(
    labels: np.ndarray, class_names: Sequence[str] | None = None, skip: Sequence[int] = ()
) -> dict[str, Any]:
    """Make a GeoJSON feature collection, one polygon a connected region, holes included.

    Args:
        labels: Integers (H, W), uint8 or uint16.
        class_names: A name for each class.
        skip: Labels to leave out, such as the background's.

    Returns:
        The collection as a dictionary for `json.dump`. A feature's properties are `label`, `class` and `area`
        in pixels.

    Example:
    >>> import numpy as np
    >>> found = to_geojson(np.array([[0, 7], [0, 7]], "uint8"), skip=[0])  # doctest: +SKIP
    >>> found["features"][0]["properties"]  # doctest: +SKIP
    {'label': 7, 'class': 'class 7', 'area': 2}
    """
    features = []
    for label, rings in regions(labels, skip):
        area = ring_area(rings[0]) - sum(ring_area(hole) for hole in rings[1:])
        properties = {"label": label, "class": class_name(label, class_names), "area": int(area)}
        geometry = {"type": "Polygon", "coordinates": [[list(point) for point in ring] for ring in rings]}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    return {"type": "FeatureCollection", "features": features}


class CocoPolygons:
    """A COCO data set of predictions, one annotation a connected region.

    COCO's polygons have no holes: a region with holes is cut into pieces without, which together are the region.

    Args:
        class_names: A name for each class; the category's id is the label.
        skip: Labels to leave out, such as the background's.
    """

    def __init__(self, class_names: Sequence[str], skip: Sequence[int] = ()):
        self.skip = tuple(skip)
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.categories = [
            {"id": label, "name": name} for label, name in enumerate(class_names) if label not in self.skip
        ]

    def add(self, file_name: str, labels: np.ndarray) -> None:
        """Add an image's labels.

        Args:
            file_name: The image's name.
            labels: Integers (H, W), uint8 or uint16.
        """
        image = len(self.images) + 1
        height, width = labels.shape
        self.images.append({"id": image, "file_name": file_name, "width": width, "height": height})
        for label, rings in regions(
            labels, (*self.skip, IGNORE_CLASS) if labels.dtype == "uint8" else self.skip
        ):
            points = np.array(rings[0])
            left, top = points.min(axis=0)
            right, bottom = points.max(axis=0)
            area = ring_area(rings[0]) - sum(ring_area(hole) for hole in rings[1:])
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1,
                    "image_id": image,
                    "category_id": label,
                    "segmentation": [np.ravel(ring[:-1]).tolist() for ring in without_holes(rings)],
                    "bbox": [float(left), float(top), float(right - left), float(bottom - top)],
                    "area": float(area),
                    "iscrowd": 0,
                }
            )

    def to_dict(self) -> dict[str, Any]:
        """The data set as a dictionary for `json.dump`."""
        return {"images": self.images, "annotations": self.annotations, "categories": self.categories}


def without_holes(rings: list[Ring]) -> list[Ring]:
    """Cut a polygon along pixel edges until no piece has a hole.

    Args:
        rings: The outer ring and the holes, with whole numbers as coordinates.

    Returns:
        The outer rings of the pieces.
    """
    if len(rings) == 1:
        return rings
    features = require("rasterio.features", extra="polygons")
    left, top = np.min(rings[0], axis=0).astype(int)
    right, bottom = np.max(rings[0], axis=0).astype(int)
    moved = [[(x - left, y - top) for x, y in ring] for ring in rings]
    polygon, shape = {"type": "Polygon", "coordinates": moved}, (bottom - top, right - left)
    region = features.rasterize([polygon], shape, dtype="uint8")
    # Through the middle of the first hole, across the region: that hole is in neither half.
    middle = int(np.mean([min(x for x, _ in moved[1]), max(x for x, _ in moved[1])]))
    pieces = []
    for start, half in ((left, region[:, :middle]), (left + middle, region[:, middle:])):
        for _, parts in regions(half, skip=[0]):
            placed = [[(x + start, y + top) for x, y in ring] for ring in parts]
            pieces.extend(without_holes(placed))
    return pieces


def ring_area(ring: Ring) -> float:
    """What a closed ring encloses."""
    # From its first point on: coordinates of a map are large, and their products would round the area away.
    x, y = (np.array(ring) - ring[0]).T
    return abs(float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]))) / 2
