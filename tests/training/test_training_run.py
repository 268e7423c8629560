"""A run in its folder: what it leaves, and how it goes on after an interruption."""

import csv
import dataclasses
import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_exfuse
from keras_exfuse.cli.demonstration import synthetic
from keras_exfuse.data import open_source, write_records
from keras_exfuse.presets.card import read_card
from keras_exfuse.training import Recipe, checkpoints, run, train
from keras_exfuse.training.data import training_data
from tests.data_kinds import as_folders, as_list, as_records
from tests.helpers import as_numpy
from tests.training.small_run import Small

pytest.importorskip("tensorflow", reason="the data pipelines are tf.data")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return synthetic.write_dataset(tmp_path_factory.mktemp("voc"), train=4, val=2)


@pytest.fixture
def recipe(data, monkeypatch):
    monkeypatch.setattr(Recipe, "build_model", lambda self: Small(5))
    return Recipe(
        data=str(data),
        num_classes=5,
        epochs=2,
        batch_size=2,
        crop_size=64,
        backbone_learning_rate=1e-4,
        tensorboard=False,
    )


class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def test_an_interrupted_run_goes_on(recipe, tmp_path):
    output = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(recipe, output, callbacks=[Interrupt()], verbose=0)
    assert not (output / "model.keras").exists()
    assert checkpoints.read_state(output / "last.keras")["epochs"] == 1

    model, record = train(recipe, output, verbose=0)
    assert int(model.optimizer.iterations) == 4
    with (output / "log.csv").open() as stream:
        assert [row["epoch"] for row in csv.DictReader(stream)] == ["0", "1"]
    assert record == json.loads((output / "run.json").read_text())
    assert Recipe.load(output / "run.json") == recipe
    assert not (output / "previous.keras").exists()
    loaded = keras.saving.load_model(output / "model.keras", compile=False)
    assert loaded.output_shape == (None, None, None, 5)
    with pytest.raises(ValueError, match="finished run"):
        train(recipe, output, verbose=0)


NAMES = ("ground", "leaf", "stem", "fruit", "sky")


class Worsen(keras.callbacks.Callback):
    """Scores as if the second epoch were worse than the first."""

    def on_epoch_end(self, epoch, logs=None):
        logs["val_mean_iou"] = [0.5, 0.25][epoch]


def test_a_run_with_validation_means_its_best_model(recipe, tmp_path, monkeypatch):
    """`best.keras`: with class names, version and score, in run.json too; `classes.csv` is of its validation."""
    recipe = dataclasses.replace(recipe, val_split="val", class_names=NAMES)
    original = run._callbacks
    monkeypatch.setattr(run, "_callbacks", lambda *arguments: [Worsen(), *original(*arguments)])
    (tmp_path / "best.keras").write_text("what a kill in the first epoch of another run left")
    (tmp_path / "run.json").write_text("{}")
    last, record = train(recipe, tmp_path, verbose=0)
    score = {"data": recipe.data, "split": "val", "images": 2, "epoch": 1, "mean_iou": 0.5}
    expected = {"version": keras_exfuse.__version__, "class_names": list(NAMES), "score": score}
    assert read_card(tmp_path / "best.keras") == expected
    assert expected.items() < record.items() and record["model"] == "best.keras"
    assert read_card(tmp_path / "model.keras")["score"] == {**score, "epoch": 2, "mean_iou": 0.25}
    best = keras_exfuse.load(tmp_path)
    assert best.class_names == last.class_names == NAMES
    assert not np.array_equal(as_numpy(best.weights[0]), as_numpy(last.weights[0]))

    matrix = np.zeros((5, 5), int)  # The same again with a few lines of numpy.
    for images, masks in training_data(recipe).validation_batches().as_numpy_iterator():
        labels = np.argmax(best.predict_on_batch(images), axis=-1)
        np.add.at(matrix, (masks[masks != 255], labels[masks != 255]), 1)
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    iou = np.where(union > 0, np.diag(matrix) / np.maximum(union, 1), np.nan)
    with (tmp_path / "classes.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == list(NAMES)
    np.testing.assert_allclose([float(row["iou"] or "nan") for row in rows], iou, atol=1e-6)


def test_a_run_without_validation_means_its_last_model(recipe, tmp_path):
    model, record = train(dataclasses.replace(recipe, epochs=1), tmp_path, verbose=0)
    assert record["model"] == "model.keras" and record["score"] is None
    loaded = keras_exfuse.load(tmp_path)
    np.testing.assert_array_equal(as_numpy(loaded.weights[0]), as_numpy(model.weights[0]))
    assert loaded.class_names == tuple(f"class {label}" for label in range(5))


HOLD = """
import sys, time, filelock
lock = filelock.FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""


@pytest.mark.backend_independent
def test_two_processes_do_not_train_in_one_directory(recipe, tmp_path):
    """The lock dies with its process, however that dies."""
    output = tmp_path / "run"
    output.mkdir()
    command = [sys.executable, "-c", HOLD, str(output / "run.lock")]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=r"Another process is training in .*run \(it holds run\.lock"):
            train(recipe, output, verbose=0)
        assert [path.name for path in output.iterdir()] == ["run.lock"]
    finally:
        other.kill()
        other.communicate()
    train(dataclasses.replace(recipe, epochs=1), output, verbose=0)
    assert (output / "model.keras").exists() and not (output / "run.lock").exists()


@pytest.mark.backend_independent
def test_a_damaged_record_is_named(recipe, tmp_path):
    for text, expected in (("{", "run.json is damaged"), ("[]", "JSON object"), ("{}", "has no `recipe`")):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(ValueError, match=f"run.json.*{expected}" if "run" not in expected else expected):
            Recipe.load(tmp_path / "run.json")


class Fail(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise RuntimeError("before the first checkpoint")


def test_a_run_that_fails_early_leaves_the_folder_free(recipe, tmp_path):
    with pytest.raises(RuntimeError, match="before the first"):
        train(recipe, tmp_path, callbacks=[Fail()], verbose=0)
    (tmp_path / ".last.17.part.keras").write_bytes(b"what a kill leaves")
    other = dataclasses.replace(recipe, learning_rate=1e-3)
    _, record = train(other, tmp_path, verbose=0)
    assert record["recipe"] == other.to_dict() and record["scores"]["loss"] > 0
    assert not list(tmp_path.glob(".*"))


def test_what_a_kill_leaves_does_not_make_a_folder_another_ones(recipe, tmp_path):
    (tmp_path / ".run.17.part.json").write_text("{")
    train(dataclasses.replace(recipe, epochs=1), tmp_path, verbose=0)
    assert not list(tmp_path.glob(".*"))


def test_a_kill_before_the_model_is_stored_keeps_the_scores(recipe, tmp_path, monkeypatch):
    original = keras.Model.save

    def save(model, path, *arguments, **options):
        if ".model." in str(path):
            raise KeyboardInterrupt
        return original(model, path, *arguments, **options)

    monkeypatch.setattr(keras.Model, "save", save)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path, verbose=0)
    scores = json.loads((tmp_path / "run.json").read_text())["scores"]
    monkeypatch.setattr(keras.Model, "save", original)
    _, record = train(recipe, tmp_path, verbose=0)
    assert record["scores"] == scores and record["earlier_environments"] == [record["environment"]]


def test_a_run_does_not_go_on_with_other_images(recipe, tmp_path):
    source = synthetic.write_dataset(tmp_path / "voc", train=4, val=2)
    recipe = dataclasses.replace(recipe, data=str(source))
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run", callbacks=[Interrupt()], verbose=0)
    listed = source / "ImageSets" / "Segmentation" / "train.txt"
    lines = listed.read_text().splitlines()
    listed.write_text("\n".join(lines[1:]) + "\n")
    with pytest.raises(ValueError, match=r"on 4 images; the data are others now \(3 images\)"):
        train(recipe, tmp_path / "run", verbose=0)
    listed.write_text("\n".join(lines) + "\n")
    train(recipe, tmp_path / "run", verbose=0)


@pytest.mark.backend_independent
def test_data_go_on_where_they_were(recipe):
    """Batches from any one on are those of an endless data set, and the names are those of its images."""
    recipe = dataclasses.replace(recipe, batch_size=3, seed=4)
    data = training_data(recipe)
    assert data.batches == 2
    whole = [batch for batch, _ in zip(data.training_batches(0).as_numpy_iterator(), range(7), strict=False)]
    for start in (1, 2, 5):
        for batch, expected in zip(
            data.training_batches(start).as_numpy_iterator(), whole[start:], strict=False
        ):
            for one, other in zip(batch, expected, strict=True):
                np.testing.assert_array_equal(one, other)
    assert [len(masks) for _, masks in whole[:4]] == [3, 1, 3, 1]
    names = [data.names(step) for step in range(4)]
    assert sorted(names[0] + names[1]) == sorted(names[2] + names[3]) == sorted(data.examples.names)
    assert names[:2] != names[2:]


@pytest.mark.backend_independent
@pytest.mark.parametrize("of_split", [True, False])
def test_prepared_records_give_the_batches_of_the_files(recipe, tmp_path, of_split):
    """The folder of all splits, or that of one; from any batch on, and with the names of its images."""
    for split, examples in open_source(recipe.data).items():
        write_records(examples, tmp_path / split, num_classes=5)
    recipe = dataclasses.replace(recipe, val_split="val", batch_size=3, seed=4)
    where = (
        {"data": str(tmp_path)} if of_split else {"data": f"{tmp_path}/train", "val_data": f"{tmp_path}/val"}
    )
    files, records = training_data(recipe), training_data(dataclasses.replace(recipe, **where))
    assert records.batches == files.batches == 2
    assert [records.names(step) for step in range(4)] == [files.names(step) for step in range(4)]
    for start in (0, 3):
        pairs = zip(records.training_batches(start), files.training_batches(start), range(4), strict=False)
        for batch, expected, _ in pairs:
            for one, other in zip(batch, expected, strict=True):
                np.testing.assert_array_equal(one, other)
    for batch, expected in zip(records.validation_batches(), files.validation_batches(), strict=True):
        np.testing.assert_array_equal(batch[1], expected[1])


@pytest.mark.backend_independent
def test_records_of_more_classes_than_the_model_has(recipe, tmp_path):
    write_records(open_source(recipe.data)["train"], tmp_path / "train", num_classes=7)
    with pytest.raises(
        ValueError, match=r"train: these records were written for 7 classes, and the model has 5\."
    ):
        training_data(dataclasses.replace(recipe, data=str(tmp_path)))


@pytest.mark.backend_independent
@pytest.mark.parametrize("kind", [as_records, as_list, as_folders])
def test_validation_on_the_images_of_training_is_refused(recipe, tmp_path, kind):
    """A split is named of data that have none."""
    source = kind(open_source(recipe.data)["train"], tmp_path / "train")
    recipe = dataclasses.replace(recipe, data=str(source))
    with pytest.raises(ValueError, match="no part that is called 'val'.*`val_data`"):
        training_data(dataclasses.replace(recipe, val_split="val"))
    assert training_data(recipe).validation is None
    same = training_data(dataclasses.replace(recipe, val_data=str(source)))  # Who says so, may.
    assert same.validation.names == same.examples.names


@pytest.mark.backend_independent
def test_records_of_another_split_are_named(recipe, tmp_path):
    write_records(open_source(recipe.data)["train"], tmp_path / "trainaug", num_classes=5)
    with pytest.raises(ValueError, match="holds prepared records of trainaug, and none of 'train'"):
        training_data(dataclasses.replace(recipe, data=str(tmp_path)))


@pytest.mark.backend_independent
def test_plan_and_checks():
    assert Recipe(data=".", epochs=3).plan(17) == (3, 17)
    assert Recipe(data=".", steps=800).plan(392) == (2, 400)
    assert Recipe(data=".", steps=5).plan(392) == (1, 5)
    assert Recipe(data=".", epochs=3, steps_per_epoch=20).plan(17) == (3, 20)
    assert Recipe(data=".", steps=100, steps_per_epoch=30).plan(17) == (4, 30)
    for arguments, text in (
        ({}, "either `steps` or `epochs`"),
        ({"steps": 1, "epochs": 1}, "either `steps` or `epochs`"),
        ({"steps": 0}, "greater than 0"),
        ({"steps": 1, "warmup": 1.0}, "warmup"),
        ({"steps": 1, "label_smoothing": 2.0}, "`label_smoothing` must lie within 0..1, got 2"),
        ({"steps": 1, "lovasz_weight": -1.0}, "`lovasz_weight` must be at least 0, got -1"),
        ({"steps": 1, "num_classes": 3, "class_weights": (1.0, 2.0)}, "2 numbers for 3 classes"),
        ({"steps": 1, "weight_decay": -1.0}, "`weight_decay` must be at least 0, got -1"),
        ({"steps": 1, "scale": (2.0, 1.0)}, "scale"),
        ({"steps": 1, "kernel_size": (7, 7)}, "`kernel_size` must be a whole number or a list of 4"),
        ({"steps": 1, "num_classes": 3, "class_names": ("a", "b")}, "2 class names for 3 classes"),
    ):
        with pytest.raises(ValueError, match=text):
            Recipe(data=".", **arguments)
