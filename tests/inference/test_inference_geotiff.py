"""GeoTIFFs segmented window by window, against the Predictor on the whole array; areas against those of the Earth."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

from keras_exfuse import ExFuse
from keras_exfuse.data.geotiff import is_georeferenced
from keras_exfuse.inference import Predictor, segment_geotiff
from keras_exfuse.inference.geotiff import pixel_areas, write_polygons
from tests.helpers import draw_weights, tiny_backbone

pytestmark = pytest.mark.backend_independent
rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed (extra: geo)")
features = pytest.importorskip("rasterio.features")

UTM = "EPSG:32632"
# Two metres a pixel.
PLACE = rasterio.Affine(2, 0, 500_000, 0, -2, 5_400_000)
NAMES = ("ground", "crop", "water", "road")


def pixelwise(channels):
    """A model of one pixel alone, which sees this many bands."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [keras.Input((None, None, channels)), keras.layers.Rescaling(1 / 128, -1), keras.layers.Conv2D(4, 1)]
    )


def write(path, values, crs=UTM, transform=PLACE, **options):
    """A GeoTIFF of values (H, W, bands)."""
    height, width, count = values.shape
    profile = dict(driver="GTiff", height=height, width=width, count=count, dtype=values.dtype.name)
    with rasterio.open(path, "w", **profile, crs=crs, transform=transform, **options) as image:
        image.write(np.moveaxis(values, -1, 0))
    return path


def noise(height, width, bands, most=256, dtype="uint8"):
    return np.random.default_rng(0).integers(0, most, (height, width, bands)).astype(dtype)


def read_labels(path):
    with rasterio.open(path) as image:
        return image.read(1), image.profile, image.tags(), image.colormap(1)


@pytest.mark.parametrize(("size", "window"), [((150, 210), 64), ((40, 50), 64), ((150, 210), None)])
def test_labels_are_those_of_the_whole_image_and_lie_where_it_lies(tmp_path, size, window):
    values = noise(*size, 3)
    predictor = Predictor(pixelwise(3), window=window)
    done = []
    source, target = write(tmp_path / "field.tif", values), tmp_path / "deep" / "labels.tif"
    areas = segment_geotiff(
        predictor, source, target, class_names=NAMES, progress=lambda *each: done.append(each)
    )
    labels, profile, tags, colors = read_labels(target)
    np.testing.assert_array_equal(labels, Predictor(pixelwise(3))(values))
    assert profile["crs"].to_epsg() == 32632 and profile["transform"] == PLACE
    assert (profile["dtype"], profile["nodata"], profile["compress"]) == ("uint8", 255, "deflate")
    assert tags["class_2"] == "water" and colors[1] == (128, 0, 0, 255)
    assert done[-1] == (size[0], size[0])
    np.testing.assert_array_equal(areas.pixels[:4], np.bincount(labels.ravel(), minlength=4))
    np.testing.assert_allclose(areas.square_metres, areas.pixels * 4.0)
    assert [path.name for path in target.parent.iterdir()] == ["labels.tif"]


def test_bands_in_any_order_and_values_of_any_range(tmp_path):
    values = noise(70, 90, 4, 10_000, "uint16")
    source = write(tmp_path / "field.tif", values)
    predictor = Predictor(pixelwise(3), window=32, value_range=(0, 10_000))
    segment_geotiff(predictor, source, tmp_path / "labels.tif", bands=(4, 3, 2))
    expected = Predictor(pixelwise(3), value_range=(0, 10_000))(values[..., [3, 2, 1]])
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.tif")[0], expected)
    four = Predictor(pixelwise(4), window=32, value_range=(0, 10_000))
    segment_geotiff(four, source, tmp_path / "labels.tif")
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.tif")[0], four(values))


@pytest.mark.parametrize("kind", ["nodata", "nan"])
def test_no_data_stays_no_data(tmp_path, kind):
    values = noise(70, 90, 3).astype("float32")
    values[20:50, 30:60] = -9999 if kind == "nodata" else np.nan
    options = {"nodata": -9999} if kind == "nodata" else {"nodata": float("nan")}
    source = write(tmp_path / "field.tif", values, **options)
    predictor = Predictor(pixelwise(3), window=32, value_range=(0, 255))
    areas = segment_geotiff(predictor, source, tmp_path / "labels.tif")
    labels = read_labels(tmp_path / "labels.tif")[0]
    missing = np.zeros((70, 90), bool)
    missing[20:50, 30:60] = True
    np.testing.assert_array_equal(labels == 255, missing)
    expected = Predictor(pixelwise(3), value_range=(0, 255))(np.where(missing[..., None], 0, values))
    np.testing.assert_array_equal(labels[~missing], expected[~missing])
    assert areas.pixels.sum() == (~missing).sum()


def test_polygons_have_the_coordinates_of_the_map(tmp_path):
    source = write(tmp_path / "field.tif", noise(40, 50, 3))
    labels_file = tmp_path / "labels.tif"
    segment_geotiff(Predictor(pixelwise(3)), source, labels_file)
    found = json.loads(write_polygons(labels_file, tmp_path / "fields.geojson", NAMES, skip=[0]).read_text())
    assert found["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32632"
    labels, profile, *_ = read_labels(labels_file)
    shapes = [(each["geometry"], each["properties"]["label"]) for each in found["features"]]
    drawn = features.rasterize(shapes, labels.shape, fill=0, transform=profile["transform"])
    np.testing.assert_array_equal(drawn, labels)
    for label in (1, 2, 3):
        mine = [each["properties"] for each in found["features"] if each["properties"]["label"] == label]
        assert sum(each["pixels"] for each in mine) == (labels == label).sum()
        assert sum(each["square_metres"] for each in mine) == pytest.approx(4 * (labels == label).sum())
        assert {each["class"] for each in mine} == {NAMES[label]}


def test_areas_on_the_ellipsoid_and_in_feet():
    """The whole Earth, and a degree at the equator; a system in US feet."""
    crs = rasterio.crs.CRS.from_epsg(4326)
    rows = pixel_areas(crs, rasterio.Affine(0.5, 0, -180, 0, -0.5, 90), 360)
    assert rows.sum() * 720 == pytest.approx(510_065_621.724e6, rel=1e-9)
    np.testing.assert_allclose(rows, rows[::-1])
    # 111,319.49 m of longitude and 110,574.28 m of latitude.
    assert pixel_areas(crs, rasterio.Affine(1, 0, 9, 0, -1, 0.5), 1)[0] == pytest.approx(
        111_319.49 * 110_574.28, rel=1e-4
    )
    feet = pixel_areas(rasterio.crs.CRS.from_epsg(2263), rasterio.Affine(10, 0, 0, 0, -10, 0), 2)
    np.testing.assert_allclose(feet, (10 * 1200 / 3937) ** 2)
    assert pixel_areas(None, rasterio.Affine(1, 0, 0, 0, -1, 0), 3) is None
    with pytest.raises(ValueError, match="rotated.*gdalwarp"):
        pixel_areas(crs, rasterio.Affine(1, 0.2, 0, 0.2, -1, 0), 3)


def test_what_is_georeferenced(tmp_path):
    assert is_georeferenced(write(tmp_path / "map.tif", noise(20, 30, 1)))
    assert is_georeferenced(write(tmp_path / "big.tif", noise(20, 30, 5), BIGTIFF="YES"))
    assert is_georeferenced(write(tmp_path / "motorola.tif", noise(20, 30, 3), ENDIANNESS="BIG"))
    Image.fromarray(noise(20, 30, 3)).save(tmp_path / "photo.tif")
    Image.fromarray(noise(20, 30, 3)).save(tmp_path / "photo.png")
    for name, content in (
        ("empty.tif", b""),
        ("cut.tif", b"II*\0\x08\0\0\0"),
        ("text.tif", b"no image at all."),
    ):
        (tmp_path / name).write_bytes(content)
    for name in ("photo.tif", "photo.png", "empty.tif", "cut.tif", "text.tif"):
        assert not is_georeferenced(tmp_path / name), name


def test_mistakes_are_explained(tmp_path):
    source, target = write(tmp_path / "field.tif", noise(40, 50, 4, 4000, "uint16")), tmp_path / "labels.tif"
    predictor = Predictor(pixelwise(3), value_range=(0, 4000))
    with pytest.raises(ValueError, match="takes 3 bands, got 2"):
        segment_geotiff(predictor, source, target, bands=(1, 2))
    with pytest.raises(ValueError, match=r"has the bands 1\.\.4.*no band 5"):
        segment_geotiff(predictor, source, target, bands=(1, 2, 5))
    with pytest.raises(ValueError, match=r"holds uint16.*--range \d+,\d+"):
        segment_geotiff(Predictor(pixelwise(3)), source, target)
    assert not target.exists() and len(list(tmp_path.iterdir())) == 1


def test_a_network_for_four_bands(tmp_path):
    values = noise(100, 90, 4, 10_000, "uint16")
    model = draw_weights(ExFuse(4, backbone=tiny_backbone(input_channels=4), kernel_size=3, input_channels=4))
    predictor = Predictor(model, window=128, value_range=(0, 10_000))
    segment_geotiff(predictor, write(tmp_path / "field.tif", values), tmp_path / "labels.tif")
    labels = read_labels(tmp_path / "labels.tif")[0]
    assert len(np.unique(labels)) > 1
    assert (labels == predictor(values)).mean() > 0.999
