"""A SavedModel, run by a process in which Keras and this package cannot be imported."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_exfuse import ExFuse
from keras_exfuse.export import export_savedmodel
from keras_exfuse.inference import Predictor
from tests.helpers import random_batch, tiny_encoder

SIZES = ((33, 47), (64, 96), (40, 32))
SERVER = """
import sys
sys.modules["keras"] = sys.modules["keras_exfuse"] = None
import numpy as np
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
pictures = np.load(sys.argv[2])
results = {}
for name, images in pictures.items():
    for signature in ("serving_default", "scores"):
        for key, value in loaded.signatures[signature](images=tf.constant(images)).items():
            results[f"{name}/{key}"] = value.numpy()
np.savez(sys.argv[3], **results)
"""


def serve(folder, pictures, tmp_path):
    """What the SavedModel says to each batch, in a fresh process."""
    np.savez(tmp_path / "pictures.npz", **pictures)
    command = [
        sys.executable,
        "-c",
        SERVER,
        str(folder),
        *(str(tmp_path / f"{n}.npz") for n in ("pictures", "results")),
    ]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return np.load(tmp_path / "results.npz")


def test_labels_and_scores_are_those_of_the_model(tmp_path):
    pytest.importorskip("tensorflow")
    # Under the other backends a process without our tiny encoder's name writes it, so the encoder is a model.
    model = ExFuse(4, backbone=tiny_encoder())
    folder = export_savedmodel(model, tmp_path / "exfuse" / "1")
    pictures = {f"{h}x{w}": random_batch(2, h, w)[0] for h, w in SIZES}
    served = serve(folder, pictures, tmp_path)
    for name, images in pictures.items():
        expected = Predictor(model)(images, probabilities=True)
        assert served[f"{name}/labels"].dtype == "uint8"
        np.testing.assert_allclose(served[f"{name}/scores"], expected, atol=1e-4)
        assert np.mean(served[f"{name}/labels"] == expected.argmax(axis=-1)) > 0.999


@pytest.mark.backend_independent
def test_more_than_255_classes_give_uint16(tmp_path):
    tf = pytest.importorskip("tensorflow")
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(300, 1)])
    model.layers[0].set_weights([np.zeros((1, 1, 3, 300)), np.arange(300.0)])
    loaded = tf.saved_model.load(str(export_savedmodel(model, tmp_path / "1")))
    labels = loaded.signatures["serving_default"](images=tf.zeros((1, 32, 32, 3), tf.uint8))["labels"]
    assert labels.dtype == tf.uint16 and int(labels[0, 0, 0]) == 299


@pytest.mark.backend_independent
def test_nothing_is_written_over_and_nothing_half_written_stays(tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 1)])
    folder = export_savedmodel(model, tmp_path / "1")
    with pytest.raises(ValueError, match="overwrite=True"):
        export_savedmodel(model, folder)
    (folder / "old").touch()
    export_savedmodel(model, folder, overwrite=True)
    assert not (folder / "old").exists()

    def broken(model, path):
        path.mkdir()
        raise OSError("disk full")

    monkeypatch.setattr("keras_exfuse.export.savedmodel._write", broken)
    with pytest.raises(OSError, match="disk full"):
        export_savedmodel(model, folder, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert (folder / "saved_model.pb").exists()
