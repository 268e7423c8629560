"""Polygons, drawn back into labels by two other libraries."""

import json

import numpy as np
import pytest

from keras_exfuse.inference.polygons import CocoPolygons, to_geojson

features = pytest.importorskip("rasterio.features", reason="rasterio is not installed (extra: polygons)")
pytestmark = pytest.mark.backend_independent


def random_labels(height=37, width=52, seed=0):
    """Blobs of three classes with islands in lakes, single pixels and corners that touch."""
    random = np.random.default_rng(seed)
    labels = np.kron(random.integers(0, 4, (height // 6 + 1, width // 6 + 1)), np.ones((6, 6), int))
    labels = labels[:height, :width].astype("uint8")
    speckled = random.random(labels.shape) < 0.1
    labels[speckled] = random.integers(0, 4, speckled.sum())
    labels[5:25, 5:25], labels[10:20, 10:20], labels[14:16, 14:16] = 2, 1, 2
    return labels


@pytest.mark.parametrize("seed", [0, 1])
def test_geojson_drawn_back_gives_the_labels(seed):
    labels = random_labels(seed=seed)
    found = json.loads(json.dumps(to_geojson(labels, ["ground", "a", "b"])))
    assert found["type"] == "FeatureCollection"
    drawn = features.rasterize(
        [(each["geometry"], each["properties"]["label"]) for each in found["features"]], labels.shape, fill=99
    )
    np.testing.assert_array_equal(drawn, labels)
    for label in range(4):
        areas = [
            each["properties"]["area"] for each in found["features"] if each["properties"]["label"] == label
        ]
        assert sum(areas) == (labels == label).sum()
    assert {each["properties"]["class"] for each in found["features"]} == {"ground", "a", "b", "class 3"}
    assert any(len(each["geometry"]["coordinates"]) > 1 for each in found["features"])


def test_coco_polygons_read_by_pycocotools_give_the_labels(tmp_path):
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed (extra: coco)")
    polygons = CocoPolygons(["background", "a", "b", "c"], skip=[0])
    several = {f"{seed}.jpg": random_labels(seed=seed) for seed in (0, 1)}
    for name, labels in several.items():
        polygons.add(name, labels)
    (tmp_path / "polygons.json").write_text(json.dumps(polygons.to_dict()))
    data = coco.COCO(tmp_path / "polygons.json")
    assert [each["name"] for each in data.loadCats(data.getCatIds())] == ["a", "b", "c"]
    for image in data.loadImgs(data.getImgIds()):
        labels, drawn = several[image["file_name"]], np.zeros((image["height"], image["width"]), int)
        for each in data.loadAnns(data.getAnnIds(imgIds=image["id"])):
            region = data.annToMask(each).astype(bool)
            assert region.sum() == each["area"]
            assert not drawn[region].any()
            drawn[region] = each["category_id"]
            rows, columns = np.nonzero(region)
            left, top, width, height = each["bbox"]
            assert (left, top) == (columns.min(), rows.min())
            assert (left + width, top + height) == (columns.max() + 1, rows.max() + 1)
        np.testing.assert_array_equal(drawn, labels)


def test_sixteen_bits_are_labels_too():
    labels = np.array([[300, 300], [2, 300]], "uint16")
    found = {
        each["properties"]["label"]: each["properties"]["area"] for each in to_geojson(labels)["features"]
    }
    assert found == {300: 3, 2: 1}
