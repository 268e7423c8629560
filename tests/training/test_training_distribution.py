"""Several devices on one host, in a process that has them, give the result of one."""

import csv
import json
import subprocess
import sys

import keras
import pytest

from keras_exfuse.cli.demonstration import synthetic
from keras_exfuse.training import distribution
from keras_exfuse.training.distribution import several_devices
from tests.training import small_run

pytest.importorskip("tensorflow", reason="the data pipelines are tf.data")
BACKEND = keras.backend.backend()


def losses(folder):
    with (folder / "log.csv").open() as stream:
        return [
            [float(row[name]) for name in ("loss", "val_loss", "val_mean_iou")]
            for row in csv.DictReader(stream)
        ]


@pytest.mark.skipif(BACKEND == "torch", reason="Keras cannot spread fit over devices under PyTorch")
def test_the_same_curve_as_on_one_device(tmp_path):
    data = synthetic.write_dataset(tmp_path / "voc", train=12, val=4)
    command = [sys.executable, "-m", "tests.training.small_run", str(data), "devices", str(tmp_path)]
    result = subprocess.run(
        command, env=small_run.environment(data), capture_output=True, text=True, timeout=400
    )
    assert result.returncode == 0, result.stderr[-3000:]
    alone = losses(tmp_path / "1")
    assert len(alone) == 4
    for count in (2, 4) if BACKEND == "jax" else (2,):
        for one, other in zip(losses(tmp_path / str(count)), alone, strict=True):
            assert one == pytest.approx(other, abs=1e-4)


@pytest.mark.slow  # Ten models are compiled for two devices; the curve of a run on two is in the quick tests.
@pytest.mark.skipif(BACKEND == "torch", reason="Keras cannot spread fit over devices under PyTorch")
def test_exfuse_with_all_its_losses_is_the_same_on_two_devices(tmp_path):
    command = [sys.executable, "-m", "tests.training.exfuse_distribution", str(tmp_path / "curves.json")]
    result = subprocess.run(
        command, env=small_run.environment(tmp_path), capture_output=True, text=True, timeout=400
    )
    assert result.returncode == 0, result.stderr[-3000:]
    curves = json.loads((tmp_path / "curves.json").read_text())
    assert len(curves) == 5
    for name, (one, two) in curves.items():
        assert one[-1] < one[0]
        assert two == pytest.approx(one, abs=1e-4), name


def test_fewer_devices_than_asked_for_are_explained():
    text = (
        "not supported on the PyTorch backend" if BACKEND == "torch" else f"devices = 64, but {BACKEND} sees"
    )
    with pytest.raises(ValueError, match=text), several_devices(64):
        pass


def test_synchronized_batch_norm():
    layer = keras.layers.BatchNormalization()
    if BACKEND == "torch":
        with pytest.raises(ValueError, match="not supported on the PyTorch backend"):
            distribution.synchronize_batch_norm([layer], 2)
    else:
        distribution.synchronize_batch_norm([layer], 2)
        assert layer.synchronized == (BACKEND == "tensorflow")
