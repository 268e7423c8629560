"""A SavedModel, run by a process in which Keras and this package cannot be imported."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_exfuse.data import voc_palette
from keras_exfuse.export import export_savedmodel
from keras_exfuse.inference import Predictor
from keras_exfuse.inference.fusion import fuse_for_inference
from tests.export import export_images

SIZES = ((33, 47), (64, 96), (40, 32), (1, 1))
MAX_PIXELS = 416 * 512
SERVER = """
import sys
sys.modules["keras"] = sys.modules["keras_exfuse"] = None
import numpy as np
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
given = np.load(sys.argv[2])
results, files = {}, []
for name, images in given.items():
    for signature in ("serving_default", "scores"):
        for key, value in loaded.signatures[signature](images=tf.constant(images)).items():
            results[f"{name}/{key}"] = value.numpy()
    files.append(tf.io.encode_png(images[0]).numpy())
maps = loaded.signatures["encoded"](encoded=tf.constant(files))["labels_png"].numpy()
for name, content in zip(given, maps):
    results[f"{name}/decoded"] = tf.io.decode_png(content).numpy()[..., 0]
assert not [name for name in sys.modules if name.split(".")[0] in ("keras", "keras_exfuse") and sys.modules[name]]
np.savez(sys.argv[3], **results)
"""


def serve(folder, batches, tmp_path):
    """What the SavedModel says to each batch, in a fresh process."""
    np.savez(tmp_path / "images.npz", **batches)
    files = [str(tmp_path / f"{name}.npz") for name in ("images", "results")]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", SERVER, str(folder), *files]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return np.load(files[1])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model and its SavedModel."""
    pytest.importorskip("tensorflow")
    model = export_images.tiny_model()
    folder = tmp_path_factory.mktemp("serving") / "exfuse" / "1"
    return model, export_savedmodel(
        model, folder, class_names=export_images.CLASS_NAMES, max_pixels=MAX_PIXELS
    )


@pytest.fixture(scope="module")
def loaded(exported):
    """The loaded SavedModel; its functions need the object to stay."""
    import tensorflow as tf

    return tf.saved_model.load(str(exported[1]))


def test_labels_and_scores_are_those_of_the_model(exported, tmp_path):
    model, folder = exported
    image = export_images.real_image()
    batches = {f"{h}x{w}": np.stack([image[:h, :w], image[-h:, -w:]]) for h, w in SIZES}
    served = serve(folder, batches, tmp_path)
    for name, images in batches.items():
        expected = Predictor(model)(images, probabilities=True)
        labels = expected.argmax(axis=-1)
        assert served[f"{name}/labels"].dtype == served[f"{name}/decoded"].dtype == "uint8"
        np.testing.assert_allclose(served[f"{name}/scores"], expected, atol=1e-4)
        assert np.mean(served[f"{name}/labels"] == labels) > 0.999
        assert np.mean(served[f"{name}/decoded"] == labels[0]) > 0.999
    assert len(np.unique(served["64x96/labels"])) > 1


@pytest.mark.backend_independent
def test_files_of_any_kind_are_read_as_the_predictor_reads_them(exported, loaded, tmp_path):
    import tensorflow as tf

    image = export_images.real_image()
    gray = image[..., 0]
    files = {
        "photograph.jpg": export_images.as_file(image),
        "turned.jpg": export_images.as_file(image[:90, :60], exif=_orientation(6)),
        "gray.jpg": export_images.as_file(gray[:50, :70]),
        "with_alpha.png": export_images.as_file(np.dstack([image[:40, :35], gray[:40, :35]]), "PNG"),
        "one_pixel.png": export_images.as_file(image[:1, :1], "PNG"),
    }
    answer = loaded.signatures["encoded"](encoded=tf.constant(list(files.values())))
    for (name, content), labels in zip(files.items(), answer["labels_png"].numpy(), strict=True):
        (tmp_path / name).write_bytes(content)
        expected = Predictor(exported[0])(tmp_path / name)
        assert export_images.from_file(labels).shape == expected.shape
        assert np.mean(export_images.from_file(labels) == expected) > 0.999, name


def _orientation(value):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.backend_independent
def test_bad_files_are_refused_by_name(loaded):
    import tensorflow as tf

    good = export_images.as_file(export_images.real_image()[:40, :40])
    for name, (content, word) in export_images.bad_files().items():
        with pytest.raises(tf.errors.InvalidArgumentError, match=word) as caught:
            loaded.signatures["encoded"](encoded=tf.constant([good, content]))
        if "Invalid" not in word:
            assert "[in image] [1] [of the batch" in str(caught.value), name


@pytest.mark.backend_independent
def test_the_limit_on_pixels_holds_for_every_signature(loaded):
    import tensorflow as tf

    large = tf.zeros((1, 417, 500, 3), tf.uint8)
    for signature in ("serving_default", "scores"):
        with pytest.raises(tf.errors.InvalidArgumentError, match="1 to 212992 pixels a request.*1.*417.*500"):
            loaded.signatures[signature](images=large)
    file = tf.io.encode_jpeg(large[0])
    with pytest.raises(tf.errors.InvalidArgumentError, match="1 to 212992 pixels a request.*417.*500"):
        loaded.signatures["encoded"](encoded=file[None])
    assert loaded.signatures["serving_default"](images=large[:, :400])["labels"].shape == (1, 400, 500)


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("images", "height", "width"), [(2, 400, 500), (209, 1, 1), (1, 1, 7000), (1, 7000, 1)]
)
def test_the_limit_is_on_what_is_computed(loaded, images, height, width):
    """Padded size times batch: each has fewer pixels of its own, but for the first, than the limit."""
    import tensorflow as tf

    batch = tf.zeros((images, height, width, 3), tf.uint8)
    for signature in ("serving_default", "scores"):
        with pytest.raises(tf.errors.InvalidArgumentError, match="too many pixels.*multiples of 32"):
            loaded.signatures[signature](images=batch)
    files = tf.stack([tf.io.encode_png(image) for image in batch])
    with pytest.raises(tf.errors.InvalidArgumentError, match="too many pixels.*multiples of 32"):
        loaded.signatures["encoded"](encoded=files)
    if images > 1:  # As many as may be.
        few = images - 1
        assert loaded.signatures["encoded"](encoded=files[:few])["labels_png"].shape == (few,)
        assert loaded.signatures["serving_default"](images=batch[:few])["labels"].shape[0] == few


@pytest.mark.backend_independent
def test_every_weight_is_stored_once(exported):
    import tensorflow as tf

    model, folder = exported
    listed = tf.train.list_variables(str(folder / "variables" / "variables"))
    stored = sum(int(np.prod(shape)) for name, shape in listed if name.endswith("VARIABLE_VALUE"))
    # Fused by default: fewer than the model's own.
    assert stored == fuse_for_inference(model).count_params() < model.count_params()


@pytest.mark.backend_independent
def test_names_and_colors_travel_along(exported, tmp_path):
    model, folder = exported
    classes = json.loads((folder / "assets" / "classes.json").read_text())
    assert [entry["name"] for entry in classes] == list(export_images.CLASS_NAMES)
    assert [entry["color"] for entry in classes] == voc_palette()[:4].tolist()
    assert [entry["label"] for entry in classes] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="must name the model's 4 classes, got 2"):
        export_savedmodel(model, tmp_path / "1", class_names=["a", "b"])
    with pytest.raises(ValueError, match=r"`palette` must have shape \(N, 3\) with N >= 4"):
        export_savedmodel(model, tmp_path / "1", palette=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="`max_pixels` must be an int of at least 1024"):
        export_savedmodel(model, tmp_path / "1", max_pixels=1023)
    assert not list(tmp_path.iterdir())


@pytest.mark.backend_independent
def test_more_than_255_classes_give_uint16(tmp_path):
    tf = pytest.importorskip("tensorflow")
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(300, 1)])
    model.layers[0].set_weights([np.zeros((1, 1, 3, 300)), np.arange(300.0)])
    loaded = tf.saved_model.load(str(export_savedmodel(model, tmp_path / "1")))
    labels = loaded.signatures["serving_default"](images=tf.zeros((1, 33, 32, 3), tf.uint8))["labels"]
    assert labels.dtype == tf.uint16 and labels.shape == (1, 33, 32) and int(labels[0, 0, 0]) == 299
    file = tf.io.encode_png(tf.zeros((5, 6, 3), tf.uint8))
    png = loaded.signatures["encoded"](encoded=file[None])["labels_png"][0].numpy()
    np.testing.assert_array_equal(export_images.from_file(png), np.full((5, 6), 299))


@pytest.mark.backend_independent
def test_nothing_is_written_over_and_nothing_half_written_stays(tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 1)])
    folder = export_savedmodel(model, tmp_path / "1")
    with pytest.raises(ValueError, match="overwrite=True"):
        export_savedmodel(model, folder)
    (folder / "old").touch()
    export_savedmodel(model, folder, overwrite=True)
    assert not (folder / "old").exists()

    def broken(model, path, **options):
        path.mkdir()
        raise OSError("disk full")

    monkeypatch.setattr("keras_exfuse.export.savedmodel.write", broken)
    with pytest.raises(OSError, match="disk full"):
        export_savedmodel(model, folder, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert (folder / "saved_model.pb").exists()


@pytest.mark.backend_independent
def test_only_segmentation_models_are_exported(tmp_path):
    classifier = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="Expected a segmentation model.*output shape is"):
        export_savedmodel(classifier, tmp_path / "1")
    assert not list(tmp_path.iterdir())
