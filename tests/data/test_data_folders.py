"""Your own folders and lists."""

import json
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.backend_independent

pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")

from keras_exfuse import data  # noqa: E402


def test_a_pair_of_folders(make_voc, tmp_path):
    root = make_voc()
    examples = data.folder_pair(root / "JPEGImages", root / "SegmentationClass", class_names="abcde")
    assert examples.names == data.voc_split(root, "train").names and examples.class_names == tuple("abcde")
    (root / "SegmentationClass/train_003.png").unlink()
    with pytest.raises(ValueError, match=r"train_003\.jpg: no mask of that name"):
        data.folder_pair(root / "JPEGImages", root / "SegmentationClass")
    with pytest.raises(ValueError, match="no such folder"):
        data.folder_pair(root / "nowhere", root)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="none: the folder holds no image"):
        data.folder_pair(tmp_path / "none", root)


def test_a_color_table_reads_rgb_masks(tmp_path):
    table = np.array([[10, 20, 30], [200, 0, 0], [0, 0, 0]])
    labels = np.random.default_rng(0).integers(0, 3, (20, 30))
    for folder, pixels in (("x", np.zeros((20, 30, 3))), ("y", table[labels])):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / folder / "one.png")
    examples = data.folder_pair(tmp_path / "x", tmp_path / "y")
    _, mask = next(iter(data.examples_dataset(examples, num_classes=3, color_table=table)))
    np.testing.assert_array_equal(mask[0], labels)


@pytest.mark.parametrize("kind", ["csv", "json", "written"])
def test_lists_in_files(make_voc, kind):
    root = make_voc(count=3)
    examples = data.voc_split(root, "train")
    path = root / f"my list.{'csv' if kind == 'csv' else 'json'}"
    rows = [
        {"name": f"n{i}", "image": f"JPEGImages/{name}.jpg", "mask": f"SegmentationClass/{name}.png"}
        for i, name in enumerate(examples.names)
    ]
    if kind == "csv":
        path.write_text("name,image,mask\n" + "".join(",".join(row.values()) + "\n" for row in rows))
    elif kind == "json":
        path.write_text(json.dumps({"classes": ["a", "b"], "examples": rows}))
    else:
        data.write_list(path, examples)
    found = data.list_file(path)
    assert [Path(p).read_bytes() for p in found.images] == [Path(p).read_bytes() for p in examples.images]
    assert [Path(p).read_bytes() for p in found.masks] == [Path(p).read_bytes() for p in examples.masks]
    assert found.class_names == {"csv": None, "json": ("a", "b"), "written": data.VOC_CLASSES}[kind]


def test_a_list_of_images_without_masks(make_voc, tmp_path):
    root = make_voc(count=2, split="test")
    for mask in (root / "SegmentationClass").iterdir():
        mask.unlink()
    examples = data.voc_split(root, "test")
    data.write_list(tmp_path / "test.json", examples)
    found = data.list_file(tmp_path / "test.json")
    assert found.masks == ("", "") and found.names == examples.names
    _, mask = next(iter(data.examples_dataset(found, num_classes=5)))
    assert (mask.numpy() == 255).all()


def test_images_and_masks_in_one_folder(tmp_path):
    for name in ("a", "b"):
        Image.new("RGB", (30, 20)).save(tmp_path / f"{name}.png")
        Image.new("L", (30, 20), 1).save(tmp_path / f"{name}_mask.png")
    examples = data.folder_pair(tmp_path, tmp_path, mask_suffix="_mask")
    assert examples.names == ("a", "b")
    assert all(mask.endswith("_mask.png") for mask in examples.masks)


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB" if name.endswith("jpg") else "L", (4, 3)).save(folder / name)


@pytest.mark.parametrize(
    ("images", "masks", "advice"),
    [
        (["a.jpg", "b.jpg"], ["a_mask.png", "b_mask.png"], {"mask_suffix": "_mask"}),
        (["x/a.jpg", "x/b.png"], ["x/a-seg.png", "x/b-seg.png", "x/other.png"], {"mask_suffix": "-seg"}),
        (
            ["ulm/ulm_0_leftImg8bit.png", "bonn/bonn_0_leftImg8bit.png"],
            ["ulm/ulm_0_gtFine_labelIds.png", "bonn/bonn_0_gtFine_labelIds.png"],
            {"image_suffix": "_leftImg8bit", "mask_suffix": "_gtFine_labelIds"},
        ),
        (["photo.jpg"], ["photo_mask.png"], {"mask_suffix": "_mask"}),
    ],
)
@pytest.mark.parametrize("together", [False, True])
def test_the_suffixes_of_masks_are_found(tmp_path, images, masks, advice, together):
    if together and "image_suffix" in advice:
        return  # Names of images and masks share no end there that tells them apart.
    folders = [tmp_path / "cats", tmp_path / ("cats" if together else "truth")]
    touch(folders[0], *images)
    touch(folders[1], *masks)
    with pytest.raises(ValueError, match="keras_exfuse data error") as caught:
        data.folder_pair(*folders)
    line = ", ".join(f'{name}="{suffix}"' for name, suffix in advice.items())
    assert f"pass {line} (--" in str(caught.value), caught.value
    if len(masks) == len(images):
        assert len(data.folder_pair(*folders, **advice)) == len(images)


def test_of_several_suffixes_all_are_told(tmp_path):
    touch(tmp_path / "x", "a.jpg", "b.jpg")
    touch(tmp_path / "y", *(f"{name}_{kind}.png" for name in "ab" for kind in ("color", "labelIds")))
    with pytest.raises(
        ValueError, match=r"called NAME_color \(or _labelIds\): pass mask_suffix=\"_color\" \(--mask"
    ):
        data.folder_pair(tmp_path / "x", tmp_path / "y")


def test_names_that_say_nothing(tmp_path):
    touch(tmp_path / "x", "1.jpg", "2.jpg", "c.jpg")
    touch(tmp_path / "y", "10.png", "c.png")  # A number goes on, and is no suffix.
    with pytest.raises(
        ValueError, match=r"2\.jpg: no mask of that name.*Add the masks, move the images away"
    ):
        data.folder_pair(tmp_path / "x", tmp_path / "y")
    with pytest.raises(ValueError, match="x holds images and masks: say how the names of the masks differ"):
        data.folder_pair(tmp_path / "x", tmp_path / "x")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.csv",
            "photo,mask\nx,y\n",
            "expected the columns image and mask in the first line, got photo",
        ),
        ("b.csv", "image,mask\nx.jpg,\n", "entry 1 has no 'image' or no 'mask'"),
        ("c.csv", "image,mask\nx.jpg,y.png\n", "x.jpg.*there is no such file"),
        ("d.json", "{", "neither CSV .* nor JSON"),
        ("e.json", '{"a": 1}', "expected a list of examples"),
        ("f.json", "[]", "empty"),
        ("g.json", '[{"image": 5, "mask": "y"}]', "entry 1 has no 'image' or no 'mask'"),
        ("h.json", '[{"image": null, "mask": "y"}]', "entry 1 has no 'image' or no 'mask'"),
        ("i.json", '[{"image": "x", "mask": ""}]', "entry 1 has no 'image' or no 'mask'"),
        ("j.json", '[{"image": "x"}]', "entry 1 has no 'image' or no 'mask'"),
        ("k.csv", "image,mask\nx\n", "entry 1 has no 'image' or no 'mask'"),
        (
            "l.json",
            '[{"image": "x", "mask": "y", "name": 3}, {"image": "z", "mask": "y", "name": "3"}]',
            "3 listed",
        ),
        ("latin.csv", b"image,mask\nL\xf6we.jpg,y.png\n", "is not UTF-8 text"),
    ],
)
def test_broken_lists_are_named(tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=f"keras_exfuse data error: .*{message}"):
        data.list_file(tmp_path / name)
    with pytest.raises(ValueError, match="no such file"):
        data.list_file(tmp_path / "nothing.csv")
