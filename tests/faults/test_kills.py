"""Kills at random moments: whatever was being written, the run goes on, and its curve is that of one left alone."""

import time

import numpy as np
import pytest

from keras_exfuse.cli.demonstration import synthetic
from keras_exfuse.presets.card import load_keras_file
from keras_exfuse.training import checkpoints
from tests.training.test_training_interruption import process, rows

pytestmark = pytest.mark.slow
pytest.importorskip("tensorflow", reason="the data pipelines are tf.data")


def changed(path, before):
    return path.exists() and path.stat().st_mtime_ns != before


def test_a_run_killed_again_and_again(tmp_path):
    data = synthetic.write_dataset(tmp_path / "voc", train=7, val=2)
    random, killed = np.random.default_rng(7), tmp_path / "killed"
    last, kills = killed / "last.keras", 0
    for _ in range(30):
        before = last.stat().st_mtime_ns if last.exists() else None
        child = process(data, "writing", killed)
        while child.poll() is None and not changed(last, before):
            time.sleep(0.01)
        time.sleep(random.uniform(0, 1.5))
        if child.poll() is not None:
            break
        child.kill()
        child.communicate()
        kills += 1
        whole_files_only(killed)
        if (killed / "model.keras").exists():  # Killed when all was done.
            break
    else:
        raise AssertionError("30 kills, and the run has not finished")
    assert (killed / "model.keras").exists(), child.communicate()[0]
    assert kills >= 2 and not list(killed.glob(".*"))
    child = process(data, "once", tmp_path / "whole")
    assert child.wait() == 0
    resumed, whole = rows(killed), rows(tmp_path / "whole")
    assert [row["epoch"] for row in resumed] == [0, 1, 2, 3]
    for one, other in zip(resumed, whole, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def whole_files_only(directory):
    """What has a final name can be read, and a checkpoint is among it."""
    assert checkpoints.find(directory, say=None) is not None  # It would say that one is damaged.
    for path in directory.glob("*.keras"):
        if not path.name.startswith("."):
            load_keras_file(path)
