"""What `keras-exfuse predict` writes: labels, overlays, polygons, areas, maps of uncertainty."""

import csv
import enum
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


class Uncertainty(enum.StrEnum):
    """Maps of how unsure the model is."""

    entropy = "entropy"
    margin = "margin"


class Polygons(enum.StrEnum):
    """Ways to write polygons."""

    coco = "coco"
    geojson = "geojson"


def _files(image: Path, output: Path) -> dict[str, Path]:
    """Where one image's results go, by kind."""
    return {
        "labels": output / "labels" / f"{image.stem}.png",
        "overlay": output / "overlays" / f"{image.stem}.png",
        "geojson": output / "polygons" / f"{image.stem}.geojson",
        "uncertainty": output / "uncertainty" / f"{image.stem}.png",
    }


def all_files(images, output, overlay, polygons, areas, uncertainty, shard="") -> list[Path]:
    """Every file that will be written."""
    wanted = {
        "labels": True,
        "overlay": overlay,
        "geojson": polygons == Polygons.geojson,
        "uncertainty": uncertainty is not None,
    }
    each = [file for image in images for kind, file in _files(image, output).items() if wanted[kind]]
    together = [_polygons_file(output, shard)] if polygons == Polygons.coco else []
    return [*each, *together, *([areas] if areas else [])]


def _polygons_file(output: Path, shard: str) -> Path:
    """One file for all images; a shard has one of its own, as others are being written beside it."""
    return output / (f"polygons-{shard.replace('/', '-of-')}.json" if shard else "polygons.json")


class Results:
    """Writes what was asked for, each file as a whole or not at all.

    Args:
        output: Directory.
        names: Names of the classes.
        overlay: Whether to write overlays.
        polygons: How to write polygons, if at all.
        areas: File of the table of areas, if any.
        uncertainty: Which map of uncertainty to write, if any.
        shard: "I/N" if the images are a shard.
    """

    def __init__(self, output, names, overlay, polygons, areas, uncertainty=None, shard=""):
        from keras_exfuse._optional import require
        from keras_exfuse.inference.polygons import CocoPolygons

        if polygons:
            require("rasterio.features", extra="polygons")  # Missing, it is said before the work.
        if overlay and len(names) > 255:
            raise ValueError(
                f"Overlays have colors for up to 255 classes, the model has {len(names)}. Pass --no-overlay."
            )
        self.output, self.names, self.overlay, self.shard = output, names, overlay, shard
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
            _write_json(_polygons_file(self.output, self.shard), self.coco.to_dict())
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
