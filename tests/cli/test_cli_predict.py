"""What `predict` writes beside labels and overlays, and the archive of `submission`."""

import csv
import json
import tarfile

import keras
import numpy as np
import pytest
from PIL import Image

from keras_exfuse.cli.demonstration.synthetic import CLASS_NAMES
from keras_exfuse.cli.submission import check_archive
from keras_exfuse.data import read_mask

pytestmark = pytest.mark.backend_independent
FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"


def images_in(folder, *sizes):
    folder.mkdir()
    for number, (height, width) in enumerate(sizes):
        noise = np.random.default_rng(number).integers(0, 256, (height, width, 3), "uint8")
        Image.fromarray(noise).save(folder / f"image_{number}.png")
    return folder


def pixelwise(path, num_classes):
    """A model with something to see: the class follows from the color."""
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(num_classes, 1)])
    weights = np.random.default_rng(0).normal(size=(1, 1, 3, num_classes))
    model.layers[0].set_weights([weights - weights.mean(), np.zeros(num_classes)])
    model.save(path)
    return path


def test_areas_add_up(command, model_folder, tmp_path):
    images = images_in(tmp_path / "images", (40, 50), (33, 64))
    table = tmp_path / "deep" / "areas.csv"
    arguments = ["predict", images, "-m", model_folder, "-o", tmp_path / "out", "--areas", table]
    code, _, err = command(*arguments)
    assert code == 0, err
    rows = list(csv.DictReader(table.open()))
    assert {row["class"] for row in rows} <= set(CLASS_NAMES)
    for number, area in enumerate((40 * 50, 33 * 64)):
        name = f"image_{number}.png"
        labels = read_mask(tmp_path / "out" / "labels" / name)
        mine = [row for row in rows if row["image"] == str(images / name)]
        assert {int(row["label"]): int(row["pixels"]) for row in mine} == dict(
            zip(*(each.tolist() for each in np.unique(labels, return_counts=True)), strict=True)
        )
        assert sum(int(row["pixels"]) for row in mine) == area
        assert sum(float(row["share"]) for row in mine) == pytest.approx(1, abs=1e-4)
    (tmp_path / "out" / "labels" / "image_0.png").unlink()
    code, _, err = command(*arguments[:-2], "--areas", table, "--no-overlay")
    assert code == 2 and "--overwrite" in err


def test_shards_are_each_a_share_and_together_all(command, tmp_path):
    pytest.importorskip("rasterio.features", reason="rasterio is not installed (extra: polygons)")
    images, model = images_in(tmp_path / "images", *[(20, 30)] * 5), pixelwise(tmp_path / "model.keras", 21)
    arguments = ["predict", images, "-m", model, "-o", tmp_path / "out", "--no-overlay", "--polygons", "coco"]
    for shard, names in {"0/2": (0, 2, 4), "1/2": (1, 3)}.items():
        code, out, err = command(*arguments, "--shard", shard)
        assert code == 0 and f"{len(names)} of {len(names)} images" in out, err
        found = json.loads((tmp_path / "out" / f"polygons-{shard.replace('/', '-of-')}.json").read_text())
        assert [each["file_name"] for each in found["images"]] == [f"image_{number}.png" for number in names]
    assert len(list((tmp_path / "out" / "labels").iterdir())) == 5


@pytest.mark.parametrize(
    ("shard", "text"),
    [("2/2", "I from 0 to N-1"), ("1", "such as 0/4, got '1'"), ("-1/2", "I/N"), ("7/8", "share is empty")],
)
def test_a_wrong_shard_is_refused(command, tmp_path, shard, text):
    images = images_in(tmp_path / "images", (20, 30))
    code, _, err = command("predict", images, "-m", "none", "-o", tmp_path / "out", f"--shard={shard}")
    assert code == 2 and text in err


@pytest.mark.parametrize("kind", ["coco", "geojson"])
def test_polygons_drawn_back_are_the_labels(command, tmp_path, kind):
    features = pytest.importorskip("rasterio.features", reason="rasterio is not installed (extra: polygons)")
    images = images_in(tmp_path / "images", (20, 30))
    (images / "broken.jpg").write_text("no image")
    output, model = tmp_path / "out", pixelwise(tmp_path / "model.keras", 21)
    arguments = ["predict", images, "-m", model, "-o", output, "--polygons", kind, "--no-overlay"]
    code, out, err = command(*arguments)
    assert code == 1 and "1 of 2 images" in out and "broken.jpg" in err
    labels = read_mask(output / "labels" / "image_0.png")
    assert len(np.unique(labels)) > 3
    if kind == "coco":
        found = json.loads((output / "polygons.json").read_text())
        assert [each["file_name"] for each in found["images"]] == ["image_0.png"]
        shapes = [
            ({"type": "Polygon", "coordinates": [np.reshape(ring, (-1, 2)).tolist()]}, each["category_id"])
            for each in found["annotations"]
            for ring in each["segmentation"]
        ]
    else:
        found = json.loads((output / "polygons" / "image_0.geojson").read_text())
        shapes = [(each["geometry"], each["properties"]["label"]) for each in found["features"]]
    # The background, class 0 of VOC's, is what is left.
    np.testing.assert_array_equal(features.rasterize(shapes, labels.shape, fill=0), labels)
    (output / "labels" / "image_0.png").unlink()
    code, _, err = command(*arguments)
    assert code == 2 and "polygons" in err and "--overwrite" in err


def test_more_than_255_classes_are_written_with_sixteen_bits(command, tmp_path):
    images = images_in(tmp_path / "images", (33, 40))
    model = pixelwise(tmp_path / "model.keras", 300)
    arguments = ["predict", images, "-m", model, "-o", tmp_path / "out"]
    code, _, err = command(*arguments)
    assert code == 2 and "--no-overlay" in err
    assert command(*arguments, "--no-overlay")[0] == 0
    labels = Image.open(tmp_path / "out" / "labels" / "image_0.png")
    assert labels.mode == "I;16" and np.asarray(labels).max() > 255


# === Submission ===


@pytest.fixture(scope="module")
def voc_model(tmp_path_factory):
    return pixelwise(tmp_path_factory.mktemp("voc") / "model.keras", 21)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_submission(command, voc_model, tmp_path, suffix):
    images = images_in(tmp_path / "JPEGImages", (40, 50), (33, 64), (35, 35))
    split, archive = tmp_path / "test.txt", tmp_path / f"results{suffix}"
    split.write_text("image_2\nimage_0\n")
    arguments = ["submission", images, "-m", voc_model, "-o", archive, "--split", split]
    code, out, err = command(*arguments)
    assert code == 0, err
    assert "2 images" in out
    assert command("predict", images, "-m", voc_model, "-o", tmp_path / "out")[0] == 0
    with tarfile.open(archive) as members:
        assert sorted(members.getnames()) == [f"{FOLDER}/image_0.png", f"{FOLDER}/image_2.png"]
        for name in members.getnames():
            image = Image.open(members.extractfile(name))
            assert image.mode == "P"
            expected = read_mask(tmp_path / "out" / "labels" / name.rpartition("/")[2])
            np.testing.assert_array_equal(np.asarray(image), expected)
    assert command(*arguments)[0] == 2
    assert command(*arguments, "--overwrite")[0] == 0


def test_what_the_server_would_refuse_is_not_packed(command, voc_model, model_folder, tmp_path):
    images = images_in(tmp_path / "images", (33, 33))
    archive, split = tmp_path / "results.tar", tmp_path / "test.txt"
    code, _, err = command("submission", images, "-m", model_folder, "-o", archive)
    assert code == 2 and "21 classes" in err and "has 5" in err
    code, _, err = command("submission", images, "-m", voc_model, "-o", tmp_path / "results.zip")
    assert code == 2 and "expected a name that ends in .tar" in err
    split.write_text("image_0\n2008_000001\n")
    code, _, err = command("submission", images, "-m", voc_model, "-o", archive, "--split", split)
    assert code == 2 and "1 of the 2 images" in err and "2008_000001" in err
    (images / "broken.jpg").write_text("no image")
    code, _, err = command("submission", images, "-m", voc_model, "-o", archive)
    assert code == 1 and "broken.jpg" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "test.txt"]


@pytest.mark.parametrize(
    ("name", "mode", "text"),
    [
        ("other", "P", "lacks or should not have"),
        ("image", "L", "palette PNG"),
        ("image", "P", r"\(9, 8\)"),
    ],
)
def test_an_archive_is_checked_as_the_server_does(tmp_path, name, mode, text):
    Image.new(mode, (8, 8)).save(tmp_path / "mask.png")
    with tarfile.open(tmp_path / "results.tar", "w") as archive:
        archive.add(tmp_path / "mask.png", f"{FOLDER}/{name}.png")
    with pytest.raises(ValueError, match=text):
        check_archive(tmp_path / "results.tar", {"image": (9, 8)})


def test_an_exported_model_is_run_by_its_engine(command, model_folder, tmp_path):
    pytest.importorskip("openvino", reason="openvino is not installed (extra: openvino)")
    images, file = images_in(tmp_path / "images", (40, 50), (33, 64)), tmp_path / "exfuse.xml"
    code, out, err = command("export", "-m", model_folder, "-o", file, "--format", "openvino")
    assert code == 0 and f"keras-exfuse predict IMAGES --model {file}" in out, err
    areas = tmp_path / "areas.csv"
    arguments = ["predict", images, "-o", tmp_path / "out", "--areas", areas, "--overwrite", "-m"]
    for names, expected in (
        (None, {f"class {label}" for label in range(255)}),
        (",".join(CLASS_NAMES), set(CLASS_NAMES)),
    ):
        code, out, err = command(*arguments, file, *(["--class-names", names] if names else []))
        assert code == 0 and "2 of 2 images" in out, err
        with areas.open() as rows:
            assert {row["class"] for row in csv.DictReader(rows)} <= expected
    (tmp_path / "classes.txt").write_text("\n".join(CLASS_NAMES))
    code, _, err = command(*arguments, file)
    assert code == 0, err
    with areas.open() as rows:
        assert {row["class"] for row in csv.DictReader(rows)} <= set(CLASS_NAMES)
    code, _, err = command(*arguments, file, "--flip")
    assert code == 2 and "An exported model gives labels" in err


def test_names_for_too_few_classes_are_said(command, model_folder, tmp_path):
    images, model = images_in(tmp_path / "images", (40, 50)), pixelwise(tmp_path / "model.keras", 21)
    arguments = ["predict", images, "-o", tmp_path / "out", "-m", model, "--class-names"]
    code, _, err = command(*arguments, "a,b")
    assert code == 2 and "--class-names: 2 names for a model of 21 classes." in err
    assert not (tmp_path / "out").exists()
