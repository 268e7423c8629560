"""A run in its folder: what it leaves, and how it goes on after an interruption."""

import csv
import json

import keras
import pytest

from keras_exfuse.demo import synthetic
from keras_exfuse.models import GCN
from keras_exfuse.training import Recipe, train
from keras_exfuse.training import run as run_module
from tests.helpers import tiny_encoder

pytest.importorskip("tensorflow", reason="the data pipelines are tf.data")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return synthetic.write_dataset(tmp_path_factory.mktemp("voc"), train=4, val=2)


@pytest.fixture
def recipe(data, monkeypatch):
    monkeypatch.setattr(Recipe, "build_model", lambda self: GCN(5, backbone=tiny_encoder(), kernel_size=3))
    return Recipe(
        data=str(data), num_classes=5, epochs=2, batch_size=2, crop_size=64, encoder_learning_rate=1e-4
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
    assert json.loads((output / "backup" / "training_metadata.json").read_text())["epoch"] == 1

    model, record = train(recipe, output, verbose=0)
    assert int(model.optimizer.iterations) == 4
    with (output / "log.csv").open() as stream:
        assert [row["epoch"] for row in csv.DictReader(stream)] == ["0", "1"]
    assert record == json.loads((output / "run.json").read_text())
    assert Recipe.load(output / "run.json") == recipe
    assert not (output / "backup").exists()
    loaded = keras.saving.load_model(output / "model.keras", compile=False)
    assert loaded.output_shape == (None, None, None, 5)
    with pytest.raises(ValueError, match="finished run"):
        train(recipe, output, verbose=0)


@pytest.mark.backend_independent
def test_data_after_a_restart_come_in_another_order(recipe, tmp_path, monkeypatch):
    seeds = []
    original = run_module._data
    monkeypatch.setattr(
        run_module, "_data", lambda recipe, seed: seeds.append(seed) or original(recipe, seed)
    )
    output = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(recipe, output, callbacks=[Interrupt()], verbose=0)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, output, callbacks=[Interrupt()], verbose=0)
    assert len(set(seeds)) == 2


@pytest.mark.backend_independent
def test_plan_and_checks():
    assert Recipe(data=".", epochs=3).plan(17) == (3, 17)
    assert Recipe(data=".", steps=800).plan(392) == (2, 400)
    assert Recipe(data=".", steps=5).plan(392) == (1, 5)
    for arguments, text in (
        ({}, "either `steps` or `epochs`"),
        ({"steps": 1, "epochs": 1}, "either `steps` or `epochs`"),
        ({"steps": 0}, "greater than 0"),
        ({"steps": 1, "warmup": 1.0}, "warmup"),
        ({"steps": 1, "num_classes": 3, "class_names": ("a", "b")}, "2 class names for 3 classes"),
    ):
        with pytest.raises(ValueError, match=text):
            Recipe(data=".", **arguments)
