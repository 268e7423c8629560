"""A disk that is really full: one sentence, the last good state loads, nothing half-written has a final name."""

import os
import subprocess

import keras
import numpy as np
import pytest
from PIL import Image

import keras_exfuse
from keras_exfuse.training import checkpoints, train
from tests.cli.test_cli_predict import images_in
from tests.export import export_images
from tests.helpers import draw_weights, tiny_backbone
from tests.training import small_run

MEGABYTES = 4


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, small, in memory."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk, leave=0):
    """Take all room on a disk but so many bytes."""
    state = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(max(0, state.f_bavail * state.f_frsize - leave)))


def hidden(folder):
    return [path for path in folder.rglob("*") if path.name.startswith(".")]


def test_data_prepare(command, data, disk):
    fill(disk, leave=200_000)
    code, _, err = command("data", "prepare", data, disk / "records")
    assert code == 2 and err.strip() == (
        f"Error: The disk of {disk / 'records'} is full: train was not written. Make room, or choose another place, "
        "and repeat this."
    )
    assert not (disk / "records" / "train").exists() and not hidden(disk)


class Fill(keras.callbacks.Callback):
    """Fills the disk when two epochs are stored."""

    def __init__(self, disk):
        super().__init__()
        self.disk = disk

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            fill(self.disk)


def test_train(data, disk):
    recipe = small_run.recipe(data, deterministic=False, val_split=None)
    output = disk / "run"
    with pytest.raises(
        OSError, match="^The disk of .*run is full, the run has stopped. last.keras is whole: make"
    ):
        train(recipe, output, callbacks=[Fill(disk)], verbose=0)
    checkpoints.read_state(output / "last.keras")
    assert not hidden(output) and not (output / "model.keras").exists()
    (disk / "filler").unlink()
    train(recipe, output, verbose=0)
    assert keras_exfuse.load(output).output_shape[-1] == 5


@pytest.mark.backend_independent
def test_predict(command, model_folder, disk, tmp_path):
    images = images_in(tmp_path / "images", *[(40, 50)] * 12)
    fill(disk, leave=5 * 4096)
    code, _, err = command("predict", images, "-m", model_folder, "-o", disk / "out")
    assert code == 2 and "Error: The disk of" in err and ".png was not written. Make room" in err
    written = [path for path in disk.rglob("*.png")]
    assert 0 < len(written) < 24 and not hidden(disk)
    for path in written:
        np.asarray(Image.open(path))


@pytest.mark.parametrize("name", ["serving/1", "exfuse.onnx", "exfuse.xml"])
def test_export(command, disk, tmp_path, name):
    """Under JAX and PyTorch it is another process that finds the disk full."""
    model = tmp_path / "model.keras"
    export_images.tiny_model().save(model)
    kind = {"1": "savedmodel", "exfuse.onnx": "onnx", "exfuse.xml": "openvino"}[name.rpartition("/")[2]]
    fill(disk, leave=2 * 4096)
    code, _, err = command("export", "-m", model, "-f", kind, "-o", disk / name)
    assert code == 2, err
    assert err.startswith("Error: The disk of") and "is full:" in err and err.count("\n") == 1, err
    assert not (disk / name).exists() and not hidden(disk)


def test_save_to_preset(disk):
    model = draw_weights(keras_exfuse.GCN(3, backbone=tiny_backbone(), kernel_size=3))
    folder = model.save_to_preset(disk / "mine")
    before = keras_exfuse.load(folder).get_weights()
    draw_weights(model, seed=1)
    fill(disk, leave=4096)
    with pytest.raises(OSError, match="^The disk of .* is full: mine was not written. Make room"):
        model.save_to_preset(folder)
    for one, other in zip(keras_exfuse.load(folder).get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not hidden(disk)
