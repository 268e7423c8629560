"""COCO with VOC's classes, out of tiny annotations."""

import json

import numpy as np
import pytest

pytestmark = pytest.mark.backend_independent

pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")

from keras_exfuse import data  # noqa: E402
from keras_exfuse.data.datasets import coco  # noqa: E402


@pytest.fixture
def tiny_coco(tmp_path):
    """Four images: a cat on a person beside a crowd, a giraffe only, a crowd only, a tv by polygon."""
    mask_tools = pytest.importorskip("pycocotools.mask")
    (tmp_path / "coco").mkdir()
    identities = {name: number for number, name in enumerate([*coco.COCO_TO_VOC, "giraffe"], start=1)}

    def region(rows, columns):
        mask = np.zeros((30, 40), np.uint8, order="F")
        mask[rows, columns] = 1
        code = mask_tools.encode(mask)
        return {"size": code["size"], "counts": code["counts"].decode()}

    def entry(image, name, segmentation, area, crowd=0):
        entries.append(
            {"id": len(entries) + 1, "image_id": image, "category_id": identities[name], "iscrowd": crowd}
            | {"segmentation": segmentation, "area": area, "bbox": [0, 0, 1, 1]}
        )

    entries: list = []
    entry(1, "cat", region(slice(5, 10), slice(5, 10)), 25)
    entry(1, "person", region(slice(0, 20), slice(0, 20)), 400)
    entry(1, "person", region(slice(15, 30), slice(0, 40)), 600, crowd=1)
    entry(1, "giraffe", region(slice(0, 5), slice(30, 40)), 50)
    entry(2, "giraffe", region(slice(0, 9), slice(0, 9)), 81)
    entry(3, "car", region(slice(0, 9), slice(0, 9)), 81, crowd=1)
    entry(4, "tv", [[10, 10, 20, 10, 20, 20, 10, 20]], 100)
    images = [{"id": i, "file_name": f"{i:012d}.jpg", "height": 30, "width": 40} for i in range(1, 5)]
    for image in images:
        Image.new("RGB", (40, 30)).save(tmp_path / "coco" / image["file_name"])
    categories = [{"id": number, "name": name} for name, number in identities.items()]
    annotations = tmp_path / "instances.json"
    annotations.write_text(json.dumps({"images": images, "annotations": entries, "categories": categories}))
    return annotations, tmp_path / "coco"


def test_coco_becomes_voc(tiny_coco, make_voc, tmp_path, capsys):
    annotations, images = tiny_coco
    examples = data.coco_to_voc(annotations, images, tmp_path / "out")
    assert examples.names == ("000000000001", "000000000004") and examples.class_names == data.VOC_CLASSES
    expected = np.zeros((30, 40), np.uint8)
    expected[15:] = 255
    expected[:20, :20] = data.VOC_CLASSES.index("person")
    expected[5:10, 5:10] = data.VOC_CLASSES.index("cat")
    np.testing.assert_array_equal(data.read_mask(examples.masks[0]), expected)
    screen = data.read_mask(examples.masks[1])
    assert set(np.unique(screen)) == {0, data.VOC_CLASSES.index("tvmonitor")} and (screen > 0).sum() >= 100
    assert data.coco_to_voc(annotations, images, tmp_path / "out").names == examples.names
    capsys.readouterr()
    joined = data.mix(examples, data.voc_split(make_voc(), "train"))
    assert len(joined) == 8
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["2", "6", "8"]
    _, masks = next(iter(data.examples_dataset(joined, num_classes=21)))
    assert masks.shape[0] == 8


def test_coco_mistakes_are_named(tmp_path):
    pytest.importorskip("pycocotools")
    with pytest.raises(ValueError, match="there is no such file"):
        data.coco_to_voc(tmp_path / "none.json", tmp_path, tmp_path / "out")
    (tmp_path / "other.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    with pytest.raises(ValueError, match="expected COCO's categories; none for aeroplane"):
        data.coco_to_voc(tmp_path / "other.json", tmp_path, tmp_path / "out")
    with pytest.raises(ValueError, match="at least one list"):
        data.mix()


def test_all_twenty_classes_are_in_coco_under_its_names():
    assert sorted(coco.COCO_TO_VOC.values()) == list(range(1, 21))
    assert coco.COCO_TO_VOC["dining table"] == 11 and coco.COCO_TO_VOC["cat"] == 8


def test_coco_of_any_classes(tiny_coco, tmp_path):
    annotations, images = tiny_coco
    names = ["background", "giraffe", "cat"]
    examples = data.coco_masks(annotations, images, tmp_path / "out", class_names=names)
    assert len(examples) == 4 and examples.class_names == tuple(names)
    expected = np.zeros((30, 40), np.uint8)
    expected[:5, 30:] = 1
    expected[5:10, 5:10] = 2
    np.testing.assert_array_equal(data.read_mask(examples.masks[0]), expected)
    assert not data.read_mask(examples.masks[2]).any()  # A crowd of another class.
    everything = data.coco_masks(annotations, images, tmp_path / "all")
    assert everything.class_names == ("background", *coco.COCO_TO_VOC, "giraffe")
    car = everything.class_names.index("car")
    assert set(np.unique(data.read_mask(everything.masks[2])).tolist()) == {0, 255} and car
    assert data.coco_masks("gone.json", images, tmp_path / "all").names == everything.names  # Converted once.
    with pytest.raises(ValueError, match="there is no category 'lion'; expected some of airplane"):
        data.coco_masks(annotations, images, tmp_path / "new", class_names=["background", "lion"])
    content = json.loads(annotations.read_text())
    content["annotations"][0]["segmentation"] = []
    annotations.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="annotation 1 of 000000000001.jpg has no segmentation"):
        data.coco_masks(annotations, images, tmp_path / "new")


def test_real_coco_with_all_its_classes(shared_data, tmp_path):
    """Against pycocotools' own masks, object by object."""
    tools = pytest.importorskip("pycocotools.coco")
    annotations = shared_data / "coco_sample/annotations/instances_val2017.json"
    examples = data.coco_masks(annotations, shared_data / "coco_sample/val2017", tmp_path / "out")
    api = tools.COCO(str(annotations))
    assert len(examples) == len(api.imgs) and len(examples.class_names) == 81
    labels = {entry["id"]: examples.class_names.index(entry["name"]) for entry in api.cats.values()}
    for index, identity in enumerate(sorted(api.imgs)):
        image, mask = examples.read(index)
        objects = api.imgToAnns[identity]
        assert image.shape[:2] == mask.shape
        covered = np.zeros(mask.shape, bool)
        for entry in objects:
            covered |= api.annToMask(entry).astype(bool)
        np.testing.assert_array_equal(covered, mask != 0)
        alone = [entry for entry in objects if not entry["iscrowd"]]
        if alone:  # The smallest object is nowhere hidden.
            entry = min(alone, key=lambda each: each["area"])
            assert (mask[api.annToMask(entry).astype(bool)] == labels[entry["category_id"]]).all()
