"""`predict` on GeoTIFFs, beside photographs, and what its options say where there is none."""

import csv
import json
import re

import keras
import numpy as np
import pytest
from PIL import Image

from keras_exfuse import Predictor

pytestmark = pytest.mark.backend_independent
rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed (extra: geo)")


@pytest.fixture
def model(tmp_path):
    """A model of one pixel alone."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.Rescaling(1 / 128, -1), keras.layers.Conv2D(4, 1)]
    )
    model.save(tmp_path / "model.keras")
    return model


def write_field(path, dtype="uint16", most=10_000):
    values = np.random.default_rng(0).integers(0, most, (4, 80, 90)).astype(dtype)
    transform = rasterio.Affine(2, 0, 500_000, 0, -2, 5_400_000)
    profile = dict(
        driver="GTiff", height=80, width=90, count=4, dtype=dtype, crs="EPSG:32632", transform=transform
    )
    with rasterio.open(path, "w", **profile) as image:
        image.write(values)
    return np.moveaxis(values, 0, -1)


def test_a_geotiff_and_a_photograph(command, model, tmp_path):
    values, output = write_field(tmp_path / "field.tif"), tmp_path / "out"
    Image.fromarray(values[:40, :40, :3].astype("uint8")).save(tmp_path / "photo.png")
    arguments = ["predict", tmp_path / "field.tif", tmp_path / "photo.png", "-m", tmp_path / "model.keras"]
    arguments += ["-o", output, "--window", 32, "--bands", "4,3,2", "--range", "0,10000"]
    arguments += ["--polygons", "geojson", "--areas", tmp_path / "areas.csv"]
    code, out, err = command(*arguments)
    assert code == 0, err
    assert "2 of 2 images segmented" in out
    with rasterio.open(output / "labels" / "field.tif") as image:
        labels = image.read(1)
        assert image.crs.to_epsg() == 32632
    expected = Predictor(model, value_range=(0, 10_000))(values[..., [3, 2, 1]])
    np.testing.assert_array_equal(labels, expected)
    assert (output / "labels" / "photo.png").is_file() and (output / "overlays" / "photo.png").is_file()
    found = json.loads((output / "polygons" / "field.geojson").read_text())
    assert found["features"][0]["geometry"]["coordinates"][0][0][0] >= 500_000
    rows = [
        row for row in csv.DictReader((tmp_path / "areas.csv").open()) if row["image"].endswith("field.tif")
    ]
    assert {int(row["label"]): float(row["square_metres"]) for row in rows} == {
        label: 4.0 * count for label, count in enumerate(np.bincount(labels.ravel())) if count
    }
    code, _, err = command(*arguments)
    assert code == 2 and "would be written over" in err


def test_what_the_options_are_about(command, model, tmp_path):
    write_field(tmp_path / "field.tif")
    Image.fromarray(np.zeros((40, 40, 3), "uint8")).save(tmp_path / "photo.png")
    common = ["-m", tmp_path / "model.keras", "-o", tmp_path / "out"]
    for arguments, text in (
        (["photo.png", "--bands", "1,2,3"], "none of the images is one"),
        (["field.tif", "--polygons", "coco"], "--polygons geojson"),
        (["field.tif", "--uncertainty", "entropy"], "Leave it out"),
        (["field.tif"], "holds uint16.*--range"),
        (["field.tif", "--range", "0,10000", "--bands", "1,2"], "takes 3 bands, got 2"),
        (["field.tif", "--range", "0"], "--range: expected two numbers"),
    ):
        code, _, err = command("predict", tmp_path / arguments[0], *arguments[1:], *common)
        assert code == 2 and re.search(text, err), (text, err)
    assert not (tmp_path / "out" / "labels").exists()


def test_a_broken_geotiff_is_passed_over_and_named(command, model, tmp_path):
    write_field(tmp_path / "field.tif", "uint8", 256)
    content = (tmp_path / "field.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[: len(content) // 3])
    code, out, err = command(
        "predict",
        tmp_path / "cut.tif",
        tmp_path / "field.tif",
        "-m",
        tmp_path / "model.keras",
        "-o",
        tmp_path / "out",
    )
    assert code == 1 and "1 of 2 images" in out and "cut.tif: cannot be read" in err
    assert [path.name for path in (tmp_path / "out" / "labels").iterdir()] == ["field.tif"]
