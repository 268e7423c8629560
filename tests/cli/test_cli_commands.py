"""The commands, one after another, on a data set of a few images."""

import csv
import json

import keras
import numpy as np
import pytest
from PIL import Image

import keras_exfuse
import keras_exfuse.inference
from keras_exfuse.cli.demonstration.synthetic import CLASS_NAMES
from keras_exfuse.data import read_image, read_mask, voc_examples
from keras_exfuse.training import Recipe
from tests.data_kinds import as_folders, as_list, as_records, as_tar


def test_help_and_version(command):
    code, out, _ = command("--help")
    assert code == 0
    for name in ("train", "evaluate", "predict", "export", "average", "demo"):
        assert name in out
    assert command("--version")[:2] == (0, f"{keras_exfuse.__version__}\n")
    for name in ("train", "evaluate", "predict", "export", "average", "demo"):
        assert command(name, "--help")[0] == 0


@pytest.mark.backend_independent
def test_train_then_use_the_model(command, data, tmp_path):
    run = tmp_path / "run"
    arguments = [
        "train",
        "--data",
        data,
        "--val-split",
        "val",
        "--backbone",
        "tiny",
        "--backbone-weights",
        "none",
    ]
    arguments += [
        "--steps",
        2,
        "--batch-size",
        3,
        "--crop",
        64,
        "--output",
        run,
        "--backbone-learning-rate",
        1e-4,
        "--switches",
        "none",
    ]
    code, out, err = command(*arguments)
    assert code == 0, err
    assert "validation mean IoU" in out and "keras-exfuse evaluate" in out
    left = {
        "model.keras",
        "last.keras",
        "best.keras",
        "run.json",
        "recipe.toml",
        "log.csv",
        "classes.csv",
        "tensorboard",
    }
    assert left == {path.name for path in run.iterdir()}
    assert (run / "classes.csv").read_text().splitlines()[1].startswith(f"0,{CLASS_NAMES[0]},")
    events = b"".join(file.read_bytes() for file in (run / "tensorboard").rglob("*tfevents*"))
    for tag in (b"epoch_loss", b"epoch_mean_iou", b"epoch_learning_rate", b"image 0"):
        assert tag in events
    record = json.loads((run / "run.json").read_text())
    assert record["recipe"]["class_names"] == list(CLASS_NAMES)
    assert record["environment"]["keras"] == keras.__version__ and "git_commit" in record["environment"]
    assert Recipe.load(run / "recipe.toml") == Recipe.load(run / "run.json")
    assert record["steps"] == 2 and record["scores"]["val_loss"] > 0
    assert len((run / "log.csv").read_text().splitlines()) == 2

    code, _, err = command(*arguments)
    assert code == 2 and "finished run" in err
    assert command("evaluate", "--model", run, "--data", data)[0] == 0


def test_evaluate(command, data, model_folder, tmp_path):
    scores, table = tmp_path / "deep" / "scores.json", tmp_path / "deep" / "table.csv"
    arguments = ["evaluate", "--model", model_folder / "model.keras", "--data", data, "--classes", "0,2"]
    code, out, _ = command(*arguments, "--json", scores, "--csv-row", table)
    assert code == 0
    assert all(name in out for name in CLASS_NAMES)
    record = json.loads(scores.read_text())
    # The same again with a few lines of numpy.
    model, matrix = keras_exfuse_model(model_folder), np.zeros((5, 5), int)
    examples = voc_examples(data, "val")
    for image, mask in zip(examples.images, examples.masks, strict=True):
        truth = read_mask(mask)
        labels = np.argmax(model.predict(read_image(image)[None], verbose=0)[0], axis=-1)
        np.add.at(matrix, (truth[truth != 255], labels[truth != 255]), 1)
    np.testing.assert_array_equal(record["confusion_matrix"], matrix)
    iou = np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix))
    assert record["mean_iou_of_classes"] == pytest.approx(iou[[0, 2]].mean(), abs=1e-5)
    assert record["num_images"] == 3

    assert command(*arguments, "--csv-row", table)[0] == 0
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 2 and rows[0]["classes"] == "0 2"
    assert float(rows[1]["mean_iou"]) == pytest.approx(record["mean_iou"])


@pytest.mark.parametrize("kind", [as_records, as_list, as_folders, as_tar])
def test_evaluate_takes_what_train_takes(command, data, model_folder, tmp_path, kind):
    source = kind(data if kind is as_tar else voc_examples(data, "val"), tmp_path / "val")
    records = []
    for path in (data, source):
        arguments = ["evaluate", "--model", model_folder, "--data", path, "--json", tmp_path / "scores.json"]
        code, _, err = command(*arguments)
        assert code == 0, err
        records.append(json.loads((tmp_path / "scores.json").read_text()))
    assert records[0]["confusion_matrix"] == records[1]["confusion_matrix"]


def test_evaluate_names_the_splits_of_records(command, data, model_folder, tmp_path):
    as_records(voc_examples(data, "val"), tmp_path / "val")
    code, _, err = command("evaluate", "--model", model_folder, "--data", tmp_path, "--split", "test")
    assert code == 2 and "holds prepared records of val, and none of 'test'" in err


@pytest.mark.backend_independent
def test_every_command_takes_what_load_takes(command, data, model_folder, tmp_path):
    """An exported model is scored, too, and gets the Keras model's score; only `export` needs the Keras model."""
    saved, scores = tmp_path / "exfuse" / "1", tmp_path / "scores.json"
    assert command("export", "--model", model_folder, "--output", saved)[0] == 0
    matrices = []
    for model in (model_folder, saved):
        code, _, err = command("evaluate", "--model", model, "--data", data, "--json", scores)
        assert code == 0, err
        record = json.loads(scores.read_text())
        assert list(record["iou"]) == list(CLASS_NAMES)
        matrices.append(np.array(record["confusion_matrix"]))
    # A pixel whose two best classes are equal within the last digit may differ.
    assert np.abs(matrices[0] - matrices[1]).sum() <= 4
    code, _, err = command("export", "--model", saved, "--output", tmp_path / "2")
    assert code == 2 and "`export` needs the Keras model" in err
    code, _, err = command("evaluate", "--model", saved, "--data", data, "--flip")
    assert code == 2 and "An exported model gives labels" in err


def keras_exfuse_model(folder):
    return keras.saving.load_model(folder / "model.keras", compile=False)


def test_predict_goes_on_over_broken_files(command, data, model_folder, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for path in sorted((data / "JPEGImages").glob("val_*"))[:2]:
        (images / path.name).write_bytes(path.read_bytes())
    (images / "broken.jpg").write_text("no image")
    output = tmp_path / "output"
    code, out, err = command("predict", images, "--model", model_folder, "--output", output)
    assert code == 1
    assert "2 of 3 images" in out and "broken.jpg" in err
    for path in images.glob("val_*"):
        size = Image.open(path).size
        labels = Image.open(output / "labels" / f"{path.stem}.png")
        assert labels.mode == "P" and labels.size == size
        assert np.asarray(labels).max() < 5
        assert Image.open(output / "overlays" / f"{path.stem}.png").width >= size[0]
    assert not list(output.rglob("*broken*")) and not list(output.rglob(".*"))

    code, _, err = command("predict", images / "val_*.jpg", "--model", model_folder, "--output", output)
    assert code == 2 and "--overwrite" in err
    arguments = [
        "predict",
        images / "val_*.jpg",
        "--model",
        model_folder,
        "--output",
        output,
        "--overwrite",
    ]
    assert command(*arguments)[0] == 0


def test_predict_settings_reach_the_predictor(command, data, model_folder, tmp_path):
    image = data / "JPEGImages" / "val_0000.jpg"
    settings = ["--scales", "0.5,1", "--flip", "--window", 96, "--no-overlay"]
    code, _, err = command("predict", image, "-m", model_folder, "-o", tmp_path / "output", *settings)
    assert code == 0, err
    predictor = keras_exfuse.inference.Predictor(
        keras_exfuse_model(model_folder), scales=(0.5, 1), flip=True, window=96
    )
    np.testing.assert_array_equal(
        read_mask(tmp_path / "output" / "labels" / "val_0000.png"), predictor(image)
    )
    assert not (tmp_path / "output" / "overlays").exists()


def test_no_two_images_become_one(command, data, model_folder, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (40, 40)).save(tmp_path / name / "same.png")
    arguments = [
        "predict",
        tmp_path / "one",
        tmp_path / "two",
        "--model",
        model_folder,
        "--output",
        tmp_path / "out",
    ]
    code, _, err = command(*arguments)
    assert code == 2 and "would both become same.png" in err


@pytest.mark.backend_independent
def test_export(command, tmp_path):
    model, target = tmp_path / "model.keras", tmp_path / "exfuse" / "1"
    keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(3, 1)]).save(model)
    code, out, err = command("export", "--model", model, "--output", target)
    assert code == 0, err
    assert (target / "saved_model.pb").is_file() and "tensorflow_model_server" in out
    code, _, err = command("export", "--model", model, "--output", target)
    assert code == 2 and "there already" in err
    assert command("export", "--model", model, "--output", target, "--overwrite")[0] == 0
