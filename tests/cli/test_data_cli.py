"""`keras-exfuse data`: check, show, prepare."""

import json

import numpy as np
import pytest

pytestmark = pytest.mark.backend_independent

pytest.importorskip("tensorflow")
pytest.importorskip("typer")
Image = pytest.importorskip("PIL.Image")

from typer.testing import CliRunner  # noqa: E402

from keras_exfuse import data  # noqa: E402
from keras_exfuse.cli.data import app  # noqa: E402


@pytest.fixture
def voc(tmp_path):
    """A data set in VOC layout with two lists and five classes."""
    folder = tmp_path / "voc"
    (folder / "ImageSets/Segmentation").mkdir(parents=True)
    (folder / "JPEGImages").mkdir()
    random = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        names = [f"{split}_{number}" for number in range(count)]
        for name in names:
            labels = random.integers(0, 5, (4, 6)).astype(np.uint8).repeat(10, 0).repeat(10, 1)
            labels[0] = 255
            data.write_mask(folder / f"SegmentationClass/{name}.png", labels)
            colors = random.integers(0, 256, (40, 60, 3)).astype(np.uint8)
            Image.fromarray(colors).save(folder / f"JPEGImages/{name}.jpg")
        (folder / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(names))
    return folder


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_check_reports_counts_sizes_and_shares(voc, tmp_path):
    result = run(
        "check", voc, "-n", 5, "--class-names", "ground,cat,dog,cow,hen", "--json", tmp_path / "r.json"
    )
    assert result.exit_code == 0, result.output
    assert "train: 4 examples, 4 good" in result.output and "val: 2 examples, 2 good" in result.output
    assert "60 x 40 to 60 x 40" in result.output and "4 hen" in result.output
    report = json.loads((tmp_path / "r.json").read_text())["train"]
    masks = np.stack([data.read_mask(path) for path in data.voc_examples(voc, "train").masks])
    assert report["class_pixels"] == [int((masks == label).sum()) for label in range(5)]
    assert report["class_images"] == [int((masks == label).any(axis=(1, 2)).sum()) for label in range(5)]
    assert report["void_share"] == pytest.approx((masks == 255).mean())


def test_check_names_every_bad_example_and_exits_with_1(voc):
    (voc / "JPEGImages/train_1.jpg").write_bytes(b"")
    (voc / "SegmentationClass/train_3.png").unlink()
    result = run("check", voc, "--split", "train", "-n", 5)
    assert result.exit_code == 1
    assert "train_1.jpg: the file is empty (0 bytes)" in result.output
    assert "train_3.png: there is no such file" in result.output
    assert "2 of 4 examples are bad" in result.output
    assert run("check", voc, "--split", "val", "-n", 5).exit_code == 0


def test_check_goes_on_behind_lists_that_are_wrong(voc, tmp_path):
    lists = voc / "ImageSets/Segmentation"
    (lists / "a_empty.txt").write_text("\n")
    (lists / "b_twice.txt").write_text("train_1\ntrain_2\ntrain_1\nnobody\n")
    (voc / "JPEGImages/val_0.jpg").write_bytes(b"")
    result = run("check", voc, "-n", 5, "--json", tmp_path / "r.json")
    assert result.exit_code == 1
    assert "a_empty.txt: the split is empty" in result.output
    assert "b_twice.txt: train_1 listed more than once" in result.output
    assert "nobody.jpg: there is no such file" in result.output
    assert "train: 4 examples, 4 good" in result.output and "val_0.jpg: the file is empty" in result.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert {name: len(found["errors"]) for name, found in report.items()} == {
        "a_empty": 1, "b_twice": 2, "train": 0, "val": 1,
    }  # fmt: skip
    only = run("check", voc, "-n", 5, "--split", "a_empty")
    assert only.exit_code == 1 and "a_empty.txt: the split is empty" in only.output


def test_check_names_every_image_without_a_mask(voc, tmp_path):
    (voc / "JPEGImages").rename(voc / "images")
    (voc / "SegmentationClass").rename(voc / "masks")
    for name in ("train_0", "val_1"):
        (voc / f"masks/{name}.png").unlink()
    (voc / "images/train_3.jpg").write_bytes(b"")
    Image.new("RGB", (60, 40)).save(voc / "images/val_0.png")
    result = run("check", voc, "-n", 5)
    assert result.exit_code == 1
    for text in ("train_0.png: there is no such file", "val_1.png: there is no such file"):
        assert text in result.output
    assert "train_3.jpg: the file is empty" in result.output
    assert "val_0 listed more than once" in result.output


def test_check_tells_suspicious_things(voc):
    result = run("check", voc, "--split", "val", "-n", 6)
    assert "suspicious: 1 class was never seen: 5" in result.output and result.exit_code == 0
    data.write_mask(voc / "SegmentationClass/val_0.png", np.full((40, 60), 255, np.uint8))
    result = run("check", voc, "--split", "val", "-n", 6)
    assert "1 masks are all void (255): val_0" in result.output and result.exit_code == 0
    (voc / "JPEGImages/val_0.jpg").write_bytes((voc / "JPEGImages/val_1.jpg").read_bytes())
    assert (
        "more than once, byte for byte: val_0 = val_1" in run("check", voc, "--split", "val", "-n", 6).output
    )


@pytest.mark.parametrize(("classes", "code"), [(5, 1), (6, 0)])
def test_check_sees_labels_that_are_off_by_one(voc, classes, code):
    for path in data.voc_examples(voc, "val").masks:
        labels = data.read_mask(path)
        data.write_mask(path, np.where(labels == 255, 255, labels + 1).astype(np.uint8))
    result = run("check", voc, "--split", "val", "-n", classes)
    assert "off by one" in result.output and result.exit_code == code
    assert run("check", voc, "--split", "val", "-n", 5, "--remap", "1:0,2:1,3:2,4:3,5:4").exit_code == 0


def test_check_says_how_many_classes_there_may_be(voc):
    result = run("check", voc, "--split", "train", "-n", 3)
    assert result.exit_code == 1 and "num_classes is at least 5" in result.output


def test_show_writes_a_contact_sheet(voc, tmp_path):
    result = run(
        "show", voc, "--split", "train", "-o", tmp_path / "sheet.png", "-n", 5, "--count", 3, "--columns", 2
    )
    assert result.exit_code == 0, result.output
    assert "3 of 4 images" in result.output
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] > 1200 and sheet.size[1] > 400


def test_prepare_writes_records_that_read_as_the_folder(voc, tmp_path):
    result = run("prepare", voc, tmp_path / "records", "-n", 5)
    assert result.exit_code == 0, result.output
    assert "train: 4 examples" in result.output
    for split in ("train", "val"):
        records = list(data.records_dataset(tmp_path / "records" / split).as_numpy_iterator())
        folder = list(data.voc_folder(voc, split, num_classes=5).as_numpy_iterator())
        for (image, mask), (other_image, other_mask) in zip(records, folder, strict=True):
            np.testing.assert_array_equal(image, other_image)
            np.testing.assert_array_equal(mask, other_mask)
    result = run("prepare", voc, tmp_path / "records", "-n", 5)
    assert isinstance(result.exception, ValueError) and "already there" in str(result.exception)


def test_prepare_leaves_bad_examples_out_when_told(voc, tmp_path):
    (voc / "JPEGImages/train_1.jpg").write_bytes(b"")
    result = run("prepare", voc, tmp_path / "records", "--split", "train", "-n", 5)
    assert isinstance(result.exception, ValueError) and "train_1.jpg" in str(result.exception)
    assert not (tmp_path / "records/train").exists()
    result = run("prepare", voc, tmp_path / "records", "--split", "train", "-n", 5, "--on-error", "skip")
    assert (
        result.exit_code == 0 and "train: 3 examples" in result.output and "left out train_1" in result.output
    )


def test_lists_and_pairs_of_folders_are_sources_too(voc, tmp_path):
    data.write_list(tmp_path / "list.json", data.voc_examples(voc, "val"))
    assert "list: 2 examples, 2 good" in run("check", tmp_path / "list.json", "-n", 5).output
    pair = tmp_path / "pair"
    pair.mkdir()
    (voc / "JPEGImages").rename(pair / "images")
    (voc / "SegmentationClass").rename(pair / "masks")
    (pair / "classes.txt").write_text("a\nb\nc\nd\ne\n")
    result = run("check", pair)
    assert "pair: 6 examples, 6 good" in result.output and "4 e" in result.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nowhere"], "there is no such file or folder"),
        (["DIR", "--split", "test"], "unknown split 'test': expected one of train, val"),
        (["DIR", "--remap", "1-2"], "--remap: expected OLD:NEW"),
        (["DIR", "--colors", "nothing.json"], "--colors: nothing.json is no JSON file"),
        (["DIR", "-n", "2", "--class-names", "a,b,c"], "3 class names for --num-classes 2"),
    ],
)
def test_mistakes_are_value_errors_that_the_command_line_prints(voc, arguments, text):
    result = run("check", *[voc if argument == "DIR" else argument for argument in arguments])
    assert isinstance(result.exception, ValueError) and text in str(result.exception)
