"""What annotation tools export, written here as their documentation says."""

import base64
import io
import json
import zlib

import numpy as np
import pytest

pytestmark = pytest.mark.backend_independent

pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")

from keras_exfuse import data  # noqa: E402
from keras_exfuse.data.datasets.exports import read_labelmap  # noqa: E402

LABELS = np.random.default_rng(0).integers(0, 3, (6, 8)).astype(np.uint8).repeat(5, 0).repeat(5, 1)
NAMES = ("background", "cat", "dog: small")
COLORS = np.array([[0, 0, 0], [250, 50, 83], [51, 221, 255]], np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def photograph(path):
    save(path, np.full((*LABELS.shape, 3), 90))


def batch(examples, **options):
    dataset = data.examples_dataset(examples, num_classes=3, **options)
    return next(iter(dataset))[1].numpy()


# === CVAT ===


@pytest.fixture
def cvat(tmp_path):
    lines = [
        f"{name}:{','.join(map(str, color))}::" for name, color in zip(NAMES, COLORS.tolist(), strict=True)
    ]
    (tmp_path / "labelmap.txt").write_text("\n".join(["# label:color_rgb:parts:actions", *lines]) + "\n")
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/default.txt").write_text("one\nsub/two\n")
    for name in ("one", "sub/two"):
        save(tmp_path / f"SegmentationClass/{name}.png", COLORS[LABELS])
    photograph(tmp_path / "JPEGImages/one.png")
    photograph(tmp_path / "JPEGImages/sub/two.jpg")
    return tmp_path


def test_cvat(cvat):
    examples = data.cvat_export(cvat)
    assert examples.names == ("one", "sub/two") and examples.class_names == NAMES
    np.testing.assert_array_equal(batch(examples), [LABELS] * 2)
    save(cvat / "SegmentationClass/one.png", LABELS)  # Gray: the lines are counted.
    np.testing.assert_array_equal(batch(data.open_source(cvat)["default"]), [LABELS] * 2)


def test_cvat_mistakes(cvat):
    with pytest.raises(ValueError, match="unknown split 'train': expected one of default"):
        data.cvat_export(cvat, "train")
    (cvat / "JPEGImages/one.png").unlink()
    with pytest.raises(ValueError, match=r"JPEGImages/one\.jpg listed in .*there is no such file"):
        data.cvat_export(cvat)
    with pytest.raises(ValueError, match=r"labelmap\.txt: there is no such file"):
        data.cvat_export(cvat / "ImageSets")
    photograph(cvat / "elsewhere/one.jpg")
    photograph(cvat / "elsewhere/sub/two.jpg")
    assert len(data.cvat_export(cvat, images=cvat / "elsewhere")) == 2


@pytest.mark.parametrize("line", ["cat", "cat:1,2", "cat:red::", "cat:1,2,300::"])
def test_lines_of_a_labelmap_that_are_none(tmp_path, line):
    (tmp_path / "labelmap.txt").write_text(f"background:0,0,0::\n{line}\n")
    with pytest.raises(ValueError, match="line 2 is 'cat|lie in 0..255"):
        read_labelmap(tmp_path / "labelmap.txt")


def test_a_labelmap_of_names_and_colors_alone(tmp_path):
    (tmp_path / "labelmap.txt").write_text("ground:0,0,0\n\nleaf:0,200,0\n")
    assert read_labelmap(tmp_path / "labelmap.txt") == (["ground", "leaf"], [(0, 0, 0), (0, 200, 0)])


# === labelme ===


@pytest.mark.parametrize("folder", ["SegmentationClassPNG", "SegmentationClass"])
def test_labelme(tmp_path, folder):
    (tmp_path / "class_names.txt").write_text("_background_\ncat\ndog")
    photograph(tmp_path / "JPEGImages/one.jpg")
    labels = np.where(LABELS == 2, 255, LABELS)
    data.write_mask(tmp_path / folder / "one.png", labels)
    examples = data.labelme_export(tmp_path)
    assert examples.class_names == ("_background_", "cat", "dog")
    np.testing.assert_array_equal(batch(examples), [labels])
    np.testing.assert_array_equal(batch(data.open_source(tmp_path)[tmp_path.name]), [labels])
    (tmp_path / "class_names.txt").write_text("__ignore__\n_background_\ncat\n")
    assert data.labelme_export(tmp_path).class_names == ("_background_", "cat")
    with pytest.raises(ValueError, match=r"class_names\.txt: there is no such file"):
        data.labelme_export(tmp_path / "JPEGImages")


# === Roboflow ===


def test_roboflow(tmp_path):
    for split in ("train", "valid"):
        photograph(tmp_path / split / "cat_jpg.rf.0a1b.jpg")
        save(tmp_path / split / "cat_jpg.rf.0a1b_mask.png", LABELS)
        (tmp_path / split / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, cat\n2, dog\n")
    examples = data.roboflow_export(tmp_path)
    assert examples.names == ("cat_jpg.rf.0a1b",) and examples.class_names == ("background", "cat", "dog")
    np.testing.assert_array_equal(batch(examples), [LABELS])
    assert list(data.open_source(tmp_path)) == ["train", "valid"]
    # Values need not be counted from 0.
    (tmp_path / "valid/_classes.csv").write_text("Pixel Value, Class\n0, background\n5, dog\n4, cat\n")
    save(tmp_path / "valid/cat_jpg.rf.0a1b_mask.png", np.array([0, 4, 5])[LABELS])
    examples = data.roboflow_export(tmp_path, "valid")
    assert examples.class_names == ("background", "cat", "dog")
    np.testing.assert_array_equal(batch(examples), [LABELS])
    with pytest.raises(ValueError, match="unknown split 'test' of .*: expected one of train, valid"):
        data.roboflow_export(tmp_path, "test")
    (tmp_path / "valid/_classes.csv").write_text("Pixel Value, Class\ncat, 1\n")
    with pytest.raises(ValueError, match="expected lines VALUE, NAME"):
        data.roboflow_export(tmp_path, "valid")


# === Supervisely ===


def packed(mask):
    """A bitmap as Supervisely's SDK writes it: a palette PNG of one bit, zlib, base64."""
    image = Image.fromarray(mask.astype(np.uint8))
    image.putpalette([0, 0, 0, 255, 255, 255])
    stream = io.BytesIO()
    image.save(stream, format="PNG", transparency=0, optimize=0)
    return base64.b64encode(zlib.compress(stream.getvalue())).decode()


@pytest.fixture
def supervisely(tmp_path):
    project = tmp_path / "project"
    classes = [{"title": name, "shape": "any", "color": "#FF0000"} for name in ("cat", "dog", "line")]
    photograph(project / "first/img/one.jpg")
    (project / "first/ann").mkdir()
    (project / "meta.json").write_text(json.dumps({"classes": classes, "tags": []}))
    mask = np.zeros((10, 12), bool)
    mask[2:8, 3:9] = True
    objects = [
        {
            "classTitle": "dog",
            "geometryType": "rectangle",
            "points": {"exterior": [[0, 0], [19, 9]], "interior": []},
        },
        {"classTitle": "cat", "geometryType": "bitmap", "bitmap": {"origin": [10, 5], "data": packed(mask)}},
        {
            "classTitle": "cat",
            "geometryType": "polygon",
            "points": {
                "exterior": [[20, 20], [34, 20], [34, 28], [20, 28]],
                "interior": [[[24, 22], [30, 22], [30, 26], [24, 26]]],
            },
        },
        {
            "classTitle": "line",
            "geometryType": "line",
            "points": {"exterior": [[0, 0], [9, 9]], "interior": []},
        },
    ]
    content = {"size": {"height": LABELS.shape[0], "width": LABELS.shape[1]}, "tags": [], "objects": objects}
    (project / "first/ann/one.jpg.json").write_text(json.dumps(content))
    return project


def supervisely_truth():
    truth = np.zeros(LABELS.shape, np.uint8)
    truth[0:10, 0:20] = 2
    truth[7:13, 13:19] = 1
    truth[20:29, 20:35] = 1
    truth[22:27, 24:31] = 0
    return truth


def test_supervisely(supervisely, tmp_path):
    examples = data.supervisely_project(supervisely, tmp_path / "out")
    assert examples.names == ("first/one",) and examples.class_names == ("background", "cat", "dog", "line")
    np.testing.assert_array_equal(data.read_mask(examples.masks[0]), supervisely_truth())
    assert data.supervisely_project("gone", tmp_path / "out").names == examples.names  # Converted once.
    some = data.supervisely_project(supervisely, tmp_path / "some", class_names=["background", "dog"])
    truth = np.zeros(LABELS.shape, np.uint8)
    truth[0:10, 0:20] = 1
    np.testing.assert_array_equal(data.read_mask(some.masks[0]), truth)


def test_a_source_that_has_to_be_drawn_first_says_so(supervisely, label_studio, tmp_path):
    (tmp_path / "coco.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    for source, function in (
        (supervisely, "supervisely_project"),
        (label_studio[0], "label_studio_brush"),
        (tmp_path / "coco.json", "coco_masks"),
    ):
        with pytest.raises(
            ValueError, match=rf"first: keras_exfuse\.data\.{function}\(.*FOLDER/examples\.json"
        ):
            data.open_source(source)


def test_supervisely_mistakes(supervisely, tmp_path):
    file = supervisely / "first/ann/one.jpg.json"
    content = json.loads(file.read_text())
    for change, text in (
        ({"bitmap": {"origin": [0, 0], "data": "AAAA"}}, "not an annotation of Supervisely's"),
        ({"bitmap": {}}, r"KeyError: 'data'"),
        (
            {"bitmap": {"origin": [0, 0], "data": base64.b64encode(zlib.compress(bytes(1 << 27))).decode()}},
            "too large",
        ),
    ):
        content["objects"][1] |= change
        file.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=rf"one\.jpg\.json.*{text}"):
            data.supervisely_project(supervisely, tmp_path / "out")
        assert not (tmp_path / "out/examples.json").exists()
    with pytest.raises(ValueError, match=r"meta\.json: there is no such file"):
        data.supervisely_project(tmp_path / "nowhere", tmp_path / "out")


# === Label Studio ===


@pytest.fixture
def label_studio(tmp_path):
    """Two tasks; the first has two annotations with a region each, the later one on top."""
    for name, region in (
        ("task-7-annotation-3-by-me@x.org-tag-Cat-0", LABELS == 1),
        ("task-7-annotation-12-by-me@x.org-tag-Small dog-0", LABELS == 2),
        ("task-7-annotation-12-by-me@x.org-tag-Cat-1", LABELS == 2),
        ("task-10-annotation-4-by-1-tag-Cat-0", LABELS == 0),
    ):
        save(tmp_path / f"png/{name}.png", region * 255)
    tasks = [
        {
            "id": 7,
            "data": {"image": "/data/upload/1/0a1b2c3d-cat%20one.jpg"},
            "file_upload": "0a1b2c3d-one.jpg",
        },
        {"id": 10, "data": {"image": "https://example.com/two.png?token=1"}},
        {"id": 11, "data": {"image": "nobody drew on it.jpg"}},
    ]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    photograph(tmp_path / "images/one.jpg")
    photograph(tmp_path / "images/two.png")
    return tmp_path / "png", tmp_path / "tasks.json", tmp_path / "images"


def test_label_studio(label_studio, tmp_path):
    examples = data.label_studio_brush(*label_studio, tmp_path / "out")
    assert examples.names == ("one", "two") and examples.class_names == ("background", "Cat", "Small dog")
    np.testing.assert_array_equal(data.read_mask(examples.masks[0]), LABELS)
    np.testing.assert_array_equal(data.read_mask(examples.masks[1]), LABELS == 0)
    names = ["background", "Small dog"]
    some = data.label_studio_brush(*label_studio, tmp_path / "some", class_names=names)
    np.testing.assert_array_equal(data.read_mask(some.masks[0]), LABELS == 2)


def test_label_studio_mistakes(label_studio, tmp_path):
    masks, tasks, images = label_studio
    (images / "two.png").unlink()
    with pytest.raises(
        ValueError, match=r"images: has no image of task 10 of .*tasks\.json; expected two\.png"
    ):
        data.label_studio_brush(masks, tasks, images, tmp_path / "out")
    tasks.write_text("[]")
    with pytest.raises(ValueError, match=r"tasks\.json: there is no task 7"):
        data.label_studio_brush(masks, tasks, images, tmp_path / "out")
    save(masks / "mine.png", LABELS)
    with pytest.raises(ValueError, match=r"mine\.png: expected a name task-TASK-annotation-ID"):
        data.label_studio_brush(masks, tasks, images, tmp_path / "out")


# === Public data sets ===


@pytest.fixture
def cityscapes(tmp_path):
    root = tmp_path / "cityscapes"
    ids = np.array([7, 26, 6])[LABELS]  # Road, car, ground (which is not scored).
    name = "{}/train/ulm/ulm_000000_000019_{}.png"
    photograph(root / name.format("leftImg8bit", "leftImg8bit"))
    save(root / name.format("gtFine", "gtFine_labelIds"), ids)
    save(root / name.format("gtFine", "gtFine_instanceIds"), ids)
    save(root / name.format("gtFine", "gtFine_labelTrainIds"), np.array([0, 13, 255])[LABELS])
    return root


@pytest.mark.parametrize("labels", ["labelIds", "labelTrainIds"])
def test_cityscapes(cityscapes, labels):
    examples = data.cityscapes(cityscapes, "train", labels=labels)
    assert examples.names == ("ulm/ulm_000000_000019",) and len(examples.class_names) == 19
    np.testing.assert_array_equal(examples.read(0)[1], np.array([0, 13, 255])[LABELS])
    assert examples.class_names[13] == "car"
    assert not data.check_examples(examples, 19).errors
    np.testing.assert_array_equal(data.open_source(cityscapes)["train"].read(0)[1], examples.read(0)[1])
    with pytest.raises(ValueError, match="unknown split 'val': expected one of train"):
        data.cityscapes(cityscapes, "val")
    with pytest.raises(ValueError, match="'labelIds' or 'labelTrainIds'"):
        data.cityscapes(cityscapes, labels="color")


def test_ade20k(tmp_path):
    root = tmp_path / "ADEChallengeData2016"
    photograph(root / "images/training/ADE_train_00000001.jpg")
    save(root / "annotations/training/ADE_train_00000001.png", np.array([0, 1, 150])[LABELS])
    examples = data.ade20k(root)
    assert examples.class_names is None
    np.testing.assert_array_equal(examples.read(0)[1], np.array([255, 0, 149])[LABELS])
    # New labels are given to those that are left.
    _, masks = next(iter(data.examples_dataset(examples, num_classes=2, remap={149: 1})))
    np.testing.assert_array_equal(masks[0], np.array([255, 0, 1])[LABELS])
    lines = [
        "Idx\tRatio\tTrain\tVal\tStuff\tName",
        *(f"{n}\t0.1\t5\t5\t1\tclass {n}, other" for n in range(1, 151)),
    ]
    (root / "objectInfo150.txt").write_text("\n".join(lines))
    assert data.open_source(root)["training"].class_names[149] == "class 150"
    (root / "objectInfo150.txt").write_text("\n".join(lines[:9]))
    with pytest.raises(ValueError, match="expected 150 classes, got 8"):
        data.ade20k(root)


def test_reduce_zero_label_keeps_what_is_ignored():
    table = data.MaskFormat(reduce_zero_label=True, remap={0: 7}).table()
    assert table[[0, 1, 2, 150, 255]].tolist() == [255, 7, 1, 149, 255]
