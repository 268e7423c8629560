"""Masks and images as they come, on the command line."""

import json

import numpy as np
import pytest

from keras_exfuse.cli import common

pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")

MODEL = ("--backbone", "tiny", "--backbone-weights", "none", "--kernel-size", 3, "--switches", "none")
COURSE = ("--steps", 2, "--batch-size", 2, "--crop", 32)


@pytest.fixture
def cats(tmp_path):
    """Images and black and white masks side by side, each mask called NAME_mask."""
    folder = tmp_path / "cats"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(8):
        white = np.zeros((40, 50), np.uint8)
        white[10:30, 10 + number : 30 + number] = 255
        colors = random.integers(0, 256, (40, 50, 3)).astype(np.uint8)
        Image.fromarray(colors).save(folder / f"cat{number}.webp", lossless=True)
        Image.fromarray(white).save(folder / f"cat{number}_mask.png")
    return folder


def test_black_and_white_masks_beside_their_images(command, cats, tmp_path):
    arguments = ("--mask-suffix", "_mask", "--binary", "--val-fraction", 0.25)
    code, out, err = command(
        "train", "--data", cats, *arguments, "--seed", 5, *MODEL, *COURSE, "--output", tmp_path / "run"
    )
    assert code == 0, err
    assert "Notice" not in err
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["images"] == 6 and record["recipe"]["num_classes"] == 2
    assert record["recipe"]["binary"] is True and record["recipe"]["val_fraction"] == 0.25
    # What it says to type next is what evaluates on the same images.
    line = next(line for line in out.splitlines() if "keras-exfuse evaluate" in line).split()[1:]
    code, out, err = command(*line, "--json", tmp_path / "score.json")
    assert code == 0, err
    score = json.loads((tmp_path / "score.json").read_text())
    assert score["num_images"] == 2 and np.array(score["confusion_matrix"]).sum(axis=1).tolist() == [
        3200,
        800,
    ]
    code, out, err = command(
        "data", "review", cats, *arguments[:3], "--model", tmp_path / "run", "--output", tmp_path / "review"
    )
    assert code == 0 and "8 of 8 images, the worst" in out, err


@pytest.mark.filterwarnings("default::keras_exfuse.data.DataNotice")
def test_the_command_line_notices_masks_of_0_and_255(command, cats, tmp_path):
    text = "the masks hold only 0 and 255, and 255 is ignored: class 1 never occurs"
    options = ("--mask-suffix", "_mask", "-n", 2)
    code, out, _ = command("data", "check", cats, *options)
    assert code == 0 and text in out and "--binary" in out
    code, out, _ = command("data", "check", cats, "--mask-suffix", "_mask", "--binary")
    assert code == 0 and "suspicious" not in out and "1   " in out
    code, _, err = command("data", "prepare", cats, tmp_path / "records", *options)
    assert code == 0 and f"Notice: {cats} with {cats}: {text}" in err
    run = ("--num-classes", 2, *MODEL, *COURSE, "--output", tmp_path / "run")
    code, _, err = command("train", "--data", cats, "--mask-suffix", "_mask", *run)
    assert code == 0 and f"Notice: {cats} with {cats}: {text}" in err


def test_the_error_says_what_to_type(command, cats, tmp_path):
    code, _, err = command("train", "--data", cats, *MODEL, *COURSE, "--output", tmp_path / "run")
    assert code == 2 and 'called NAME_mask: pass mask_suffix="_mask" (--mask-suffix _mask).' in err


def test_segnets_camvid_is_one_command(command, tmp_path):
    """Folders train and trainannot, val and valannot; 11 is no class."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in "abcd":
            (tmp_path / "CamVid" / split).mkdir(parents=True, exist_ok=True)
            (tmp_path / "CamVid" / f"{split}annot").mkdir(exist_ok=True)
            labels = random.integers(0, 12, (4, 5)).astype(np.uint8).repeat(10, 0).repeat(10, 1)
            Image.fromarray(labels).save(tmp_path / "CamVid" / f"{split}annot" / f"{name}.png")
            Image.fromarray(labels * 20).convert("RGB").save(tmp_path / "CamVid" / split / f"{name}.png")
    names = "sky,building,pole,road,pavement,tree,sign,fence,car,pedestrian,bicyclist"
    options = ("--remap", "11:255", "--class-names", names, "--val-split", "val")
    code, out, err = command(
        "train", "--data", tmp_path / "CamVid", *options, *MODEL, *COURSE, "--output", tmp_path / "run"
    )
    assert code == 0, err
    line = next(line for line in out.splitlines() if "keras-exfuse evaluate" in line)
    assert line.endswith("--split val --remap 11:255")
    code, _, err = command(*line.split()[1:])
    assert code == 0, err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--val-fraction", 1.5), "`val_fraction` must lie between 0 and 1"),
        (("--val-fraction", 0.5, "--val-split", "val"), "leave `val_split` and `val_data` out"),
        (("--remap", "1"), "--remap: expected OLD:NEW"),
        (("--remap", "1:999"), "got 1: 999"),
        (("--colors", "nothing.json"), "--colors: nothing.json is no JSON file"),
        (("--set", "remap=[[1]]"), "`remap` must be a list, each a list of 2, each a whole number"),
    ],
)
def test_mistakes(command, cats, tmp_path, arguments, text):
    start = ("train", "--data", cats, "--mask-suffix", "_mask", *MODEL, *COURSE, "--output", tmp_path / "run")
    code, _, err = command(*start, *arguments)
    assert code == 2 and text in err, err


def test_records_hold_labels_already(command, cats, tmp_path):
    options = ("--mask-suffix", "_mask", "--binary")
    assert command("data", "prepare", cats, tmp_path / "records", *options)[0] == 0
    start = ("train", "--data", tmp_path / "records/cats", *MODEL, *COURSE, "--output", tmp_path / "run")
    for extra, text in (
        (("--binary",), "prepared records hold labels, not masks: leave out binary"),
        (("--range", "0,4095"), "prepared records hold labels, not masks: leave out value_range"),
        (("--val-fraction", 0.5), "prepared records are not divided by `val_fraction`"),
    ):
        code, _, err = command(*start, *extra)
        assert code == 2 and text in err, err
    judged = ("evaluate", "--model", "any", "--data", tmp_path / "records", "--split", "cats")
    code, _, err = command(*judged, "--range", "0,4095")
    assert code == 2 and "prepared records hold labels, not masks: leave out range" in err, err


# === predict ===


def test_files_are_looked_at_before_the_model_is_loaded(command, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_exfuse.loading.load", lambda path: pytest.fail("it was loaded"))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_text("no image")
    (tmp_path / "photos/b.jpg").write_bytes(b"")
    code, out, err = command("predict", tmp_path / "photos", "--model", "any", "--output", tmp_path / "out")
    assert code == 1 and "2 could not be read" in err and "b.jpg: the file is empty" in err
    assert "labels" not in out and not (tmp_path / "out").exists()


def test_predict_reads_other_formats_and_says_what_it_passed_over(command, model_folder, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (33, 40, 3)).astype(np.uint8)
    for name in ("a.webp", "b.bmp", "c.tif", "d.png"):
        Image.fromarray(pixels).save(photos / name, **({"lossless": True} if "webp" in name else {}))
    (photos / "notes.txt").write_text("")
    code, out, err = command("predict", photos, "--model", model_folder, "--output", tmp_path / "out")
    assert code == 0 and "4 of 4 images segmented" in out
    assert f"{photos}: Passed over, by the ends of their names: notes.txt." in err
    labels = [np.asarray(Image.open(tmp_path / f"out/labels/{name}.png")) for name in "abcd"]
    assert all((each == labels[0]).all() for each in labels)


def test_a_folder_that_was_not_written_is_not_named(command, model_folder, tmp_path):
    """The header of the file is that of an image, and the rest is not there."""
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    code, out, err = command(
        "predict", tmp_path / "a.png", "--model", model_folder, "--output", tmp_path / "out"
    )
    assert code == 1 and "could not be read" in err and str(tmp_path / "out") not in out


def test_other_warnings_are_printed_as_ever(recwarn):
    import warnings

    with common.printed_notices():
        warnings.warn("something else", UserWarning, stacklevel=1)
    assert [str(each.message) for each in recwarn] == ["something else"]


def test_a_range_of_values_goes_through_training_evaluation_and_prediction(command, cats, tmp_path):
    """12 bits, so dark that the bits in use would not be those of the sensor."""
    random = np.random.default_rng(1)
    for number in range(8):
        (cats / f"cat{number}.webp").unlink()
        Image.fromarray(random.integers(0, 500, (40, 50)).astype(np.uint16)).save(cats / f"cat{number}.png")
    options = ("--mask-suffix", "_mask", "--binary", "--range", "0,4095")
    code, out, err = command("train", "--data", cats, *options, *MODEL, *COURSE, "--output", tmp_path / "run")
    assert code == 0, err
    line = next(line for line in out.splitlines() if "keras-exfuse evaluate" in line)
    assert "--range 0,4095" in line
    assert command(*line.split()[1:])[0] == 0
    code, _, err = command(
        "data",
        "prepare",
        cats,
        tmp_path / "records",
        "--mask-suffix",
        "_mask",
        "--binary",
        "--range",
        "0,4095",
    )
    assert code == 0, err
    from keras_exfuse.data.datasets.records import Records

    image, _ = Records(tmp_path / "records/cats").read(0)
    wide = np.asarray(Image.open(cats / "cat0.png")).astype(float)
    np.testing.assert_array_equal(image[..., 0], np.floor(wide * 255 / 4095 + 0.5))
    # The same labels from the file and from what it is read as.
    Image.fromarray(image).save(tmp_path / "eight.png")
    files = (cats / "cat0.png", tmp_path / "eight.png")
    code, _, err = command(
        "predict", *files, "--model", tmp_path / "run", "--output", tmp_path / "out", "--range", "0,4095"
    )
    assert code == 0, err
    first, second = (
        np.asarray(Image.open(tmp_path / f"out/labels/{name}.png")) for name in ("cat0", "eight")
    )
    np.testing.assert_array_equal(first, second)
    for text in ("5", "5,5", "1,2,3", "a,b"):
        code, _, err = command(
            "predict", *files, "--model", "any", "--output", tmp_path / "new", "--range", text
        )
        assert code == 2 and "--range: expected" in err


def test_names_that_come_with_an_export_are_taken(tmp_path):
    from keras_exfuse.cli import train

    for name in ("JPEGImages", "SegmentationClassPNG"):
        (tmp_path / name).mkdir()
        Image.new("L", (40, 40)).save(tmp_path / name / "a.png")
    values = {"data": str(tmp_path)}
    assert train._classes(values, None) == {"num_classes": 21, "class_names": ()}
    assert train._classes({**values, "binary": True}, None)["num_classes"] == 2
    (tmp_path / "class_names.txt").write_text("_background_\ncat\ndog\n")
    assert train._classes(values, None) == {"num_classes": 3, "class_names": ("_background_", "cat", "dog")}
    assert train._classes(values, "a,b")["class_names"] == ("a", "b")
