"""A run that is killed, and what else can stop one: the curve goes on as if nothing had been."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

from keras_exfuse.cli.demonstration import synthetic
from keras_exfuse.training import checkpoints, distribution, train, watching
from keras_exfuse.training.checkpoints import averaged_weights
from tests.helpers import as_numpy
from tests.training import small_run

pytest.importorskip("tensorflow", reason="the data pipelines are tf.data")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return synthetic.write_dataset(tmp_path_factory.mktemp("voc"), train=7, val=2)


def process(data, what, folder):
    command = [sys.executable, "-m", "tests.training.small_run", str(data), what, str(folder)]
    return subprocess.Popen(
        command, env=small_run.environment(data), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def rows(folder):
    with (folder / "log.csv").open() as stream:
        return [
            {name: float(value) for name, value in row.items() if value != "NA"}
            for row in csv.DictReader(stream)
        ]


def test_the_curve_after_a_kill_is_that_of_an_uninterrupted_run(data, tmp_path):
    killed = tmp_path / "killed"
    child = process(data, "slowly", killed)
    while child.poll() is None and not in_second_epoch(killed / "last.keras"):
        time.sleep(0.02)
    assert child.poll() is None, child.communicate()[0]
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert not (killed / "model.keras").exists()
    state = checkpoints.read_state(killed / "last.keras")
    assert (state["epochs"], state["step"]) == (1, 2)

    child = process(data, "twice", tmp_path)
    out, _ = child.communicate(timeout=400)
    assert child.returncode == 0, out
    assert f"after step 2 in epoch 2 of {small_run.EPOCHS}" in out
    resumed, whole = rows(killed), rows(tmp_path / "whole")
    assert [row["epoch"] for row in resumed] == [row["epoch"] for row in whole] == [0, 1, 2, 3]
    for one, other in zip(resumed, whole, strict=True):
        for name, value in other.items():
            assert one[name] == pytest.approx(value, abs=1e-4), name
    assert (killed / "classes.csv").read_text() == (tmp_path / "whole" / "classes.csv").read_text()


def in_second_epoch(last):
    if not last.exists():
        return False
    state = checkpoints.read_state(last)
    return state["epochs"] == 1 and "step" in state


class Stop(keras.callbacks.Callback):
    """Interrupts before the third epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


@pytest.fixture
def interrupted(data, tmp_path):
    recipe = small_run.recipe(data, deterministic=False, val_split=None)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path, callbacks=[Stop()], verbose=0)
    return recipe, tmp_path


@pytest.mark.backend_independent
def test_a_torn_checkpoint_is_noticed_and_the_one_before_used(interrupted):
    recipe, folder = interrupted
    last = folder / "last.keras"
    assert checkpoints.find(folder)[1]["epochs"] == 2
    whole = last.read_bytes()
    middle = len(whole) // 2
    for content in (whole[:middle], whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :], b""):
        last.write_bytes(content)
        with pytest.raises(ValueError, match="last.keras is damaged"):
            checkpoints.read_state(last)
    said = []
    train(recipe, folder, verbose=0, say=said.append)
    assert "last.keras is damaged" in said[0]
    assert said[1] == "Using the one before it: previous.keras, of epoch 1."
    assert [row["epoch"] for row in rows(folder)] == [0, 1, 2, 3]


@pytest.mark.backend_independent
def test_nothing_whole_left(tmp_path):
    for name in ("last.keras", "previous.keras"):
        (tmp_path / name).write_bytes(b"PK torn")
    said = []
    with pytest.raises(ValueError, match="No checkpoint .* is whole"):
        checkpoints.find(tmp_path, said.append)
    assert len(said) == 2 and (tmp_path / "last.keras").exists()


@pytest.mark.backend_independent
def test_a_full_disk(data, tmp_path, monkeypatch):
    original, calls = keras.Model.save, []

    def save(model, path, *arguments, **options):
        calls.append(path)
        if len(calls) < 3:
            return original(model, path, *arguments, **options)
        path.write_bytes(b"half a checkpoint")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(keras.Model, "save", save)
    recipe = small_run.recipe(data, deterministic=False, val_split=None)
    with pytest.raises(OSError, match="is full.*last.keras is whole.*make room"):
        train(recipe, tmp_path, verbose=0)
    assert checkpoints.read_state(tmp_path / "last.keras")["epochs"] == 2
    assert not list(tmp_path.glob(".*"))


@pytest.mark.backend_independent
def test_a_full_disk_by_another_error(tmp_path):
    """TensorBoard's writer raises TensorFlow's own error."""
    import tensorflow as tf

    (tmp_path / "last.keras").touch()
    text = f"/events.out; {os.strerror(errno.ENOSPC)}"
    with (
        pytest.raises(OSError, match="is full.*last.keras is whole"),
        watching.full_disk_explained(tmp_path),
    ):
        raise tf.errors.ResourceExhaustedError(None, None, text)
    with pytest.raises(tf.errors.ResourceExhaustedError), watching.full_disk_explained(tmp_path):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


class Poisoned(keras.Model):
    compile = small_run.Small.compile
    num_classes = 5


class Poison(small_run.SmallRecipe):
    """A model whose logits are NaN for a black image."""

    def build_model(self):
        model = small_run.Small(self.num_classes)
        brightest = keras.ops.max(model.input, axis=(1, 2, 3), keepdims=True)
        return Poisoned(model.input, model.output * (brightest / brightest))


def test_a_nan_loss_names_its_images(tmp_path):
    data = synthetic.write_dataset(tmp_path / "voc", train=7, val=2)
    name = "train_0003"
    black = data / "JPEGImages" / f"{name}.jpg"
    Image.new("RGB", Image.open(black).size).save(black)
    recipe = small_run.recipe(
        data, deterministic=False, val_split=None, backbone_learning_rate=None, scale=(1, 1)
    )
    recipe = Poison(**{**recipe.to_dict(), "crop_size": 16})
    with pytest.raises(ValueError, match=rf"(NaN|Infinite) loss at step .*{name}.*learning_rate") as caught:
        train(recipe, tmp_path / "run", verbose=0)
    named = str(caught.value).split("that batch: ")[1].split(". Try")[0].split(", ")
    assert len(named) <= 2 and name in named


def test_checkpoints_hold_the_state_of_random_layers(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dropout(0.5), keras.layers.Dense(2)])
    model.compile(optimizer="adam", loss="mse")
    model.fit(np.ones((4, 8), "float32"), np.zeros((4, 2), "float32"), verbose=0)
    checkpoints.save(model, tmp_path / "last.keras", {"epochs": 1})
    one = as_numpy(model(np.ones((1, 8), "float32"), training=True))
    two = as_numpy(model(np.ones((1, 8), "float32"), training=True))
    state = checkpoints.read_state(tmp_path / "last.keras")
    checkpoints.load(model, tmp_path / "last.keras", state)
    distribution.set_random_state(state["random_state"])
    np.testing.assert_array_equal(as_numpy(model(np.ones((1, 8), "float32"), training=True)), one)
    np.testing.assert_array_equal(as_numpy(model(np.ones((1, 8), "float32"), training=True)), two)
    with zipfile.ZipFile(tmp_path / "last.keras") as archive:
        assert json.loads(archive.read("run_state.json"))["epochs"] == 1


def test_the_average_of_the_weights_comes_and_goes():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(optimizer=keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5), loss="mse")
    x, y = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")
    average = as_numpy(model.weights[0]).copy()
    for step in range(3):
        model.train_on_batch(x, y)
        now = as_numpy(model.weights[0]).copy()
        average = now if step == 0 else 0.5 * average + 0.5 * now
    with averaged_weights(model):
        np.testing.assert_allclose(as_numpy(model.weights[0]), average, atol=1e-6)
    np.testing.assert_array_equal(as_numpy(model.weights[0]), now)
