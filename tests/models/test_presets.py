"""Trained models by name, and folders of one's own."""

import errno
import json
import os
import re

import keras
import numpy as np
import pytest

from keras_exfuse import ExFuse, presets
from tests.drawing import cat_image, draw_by_path, draw_images, run_model
from tests.helpers import as_numpy, tiny_backbone


def make(num_classes=3):
    return draw_by_path(ExFuse(num_classes, backbone=tiny_backbone(), kernel_size=3))


def logits(model):
    return as_numpy(run_model(model, draw_images(1, 33, 47)))


def test_a_preset_gives_the_same_logits(tmp_path):
    model = make()
    folder = model.save_to_preset(tmp_path / "mine", class_names=["ground", "leaf", "stem"])
    np.testing.assert_allclose(logits(ExFuse.from_preset(folder)), logits(model), atol=1e-6)
    half = model.save_to_preset(tmp_path / "half", dtype="float16")
    assert (half / "weights.npz").stat().st_size < 0.7 * (folder / "weights.npz").stat().st_size
    expected = logits(model)
    np.testing.assert_allclose(logits(ExFuse.from_preset(half)), expected, atol=0.01 * np.abs(expected).max())


def test_other_classes_keep_the_rest(tmp_path):
    model = make()
    other = ExFuse.from_preset(model.save_to_preset(tmp_path / "mine"), num_classes=5)
    assert other.num_classes == 5 and logits(other).shape == (1, 33, 47, 5)
    kept = {weight.path: as_numpy(weight) for weight in other.backbone.weights}
    for weight in model.backbone.weights:
        np.testing.assert_array_equal(kept[weight.path], as_numpy(weight))


def test_saving_again_keeps_the_card(tmp_path):
    folder = make().save_to_preset(tmp_path / "mine")
    (folder / "README.md").write_text("# Mine\n")
    make().save_to_preset(folder)
    assert (folder / "README.md").read_text() == "# Mine\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_mistakes_are_named(tmp_path):
    model = make()
    with pytest.raises(
        ValueError, match=re.escape("There is no preset 'unknown': expected one of ['exfuse_")
    ):
        ExFuse.from_preset("unknown")
    with pytest.raises(ValueError, match="`class_names` must be 3 names.*Received 1"):
        model.save_to_preset(tmp_path / "mine", class_names=["only"])
    with pytest.raises(ValueError, match="`dtype` must be one of"):
        model.save_to_preset(tmp_path / "mine", dtype="int8")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="is not a preset.*nothing was written"):
        model.save_to_preset(tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text("{}")  # As other libraries' folders have it, too.
    with pytest.raises(ValueError, match=r"it holds thesis\.txt"):
        model.save_to_preset(tmp_path / "other")
    assert (tmp_path / "other" / "thesis.txt").exists()
    model.weights[0].assign(keras.ops.full(model.weights[0].shape, 1e6))
    with pytest.raises(ValueError, match=r"holds 1e\+06, too large for float16"):
        model.save_to_preset(tmp_path / "mine", dtype="float16")
    assert not (tmp_path / "mine").exists()


def test_a_damaged_preset_is_named(tmp_path):
    folder = make().save_to_preset(tmp_path / "mine")
    description = json.loads((folder / "config.json").read_text())
    description["config"]["kernel_size"] = 5
    (folder / "config.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match="are not those of the model in config.json.*differ"):
        ExFuse.from_preset(folder)


@pytest.mark.backend_independent
def test_a_directory_with_another_config_is_no_preset(tmp_path):
    """As other libraries write files of these names."""
    folder = make().save_to_preset(tmp_path / "mine")
    good = json.loads((folder / "config.json").read_text())
    for content, text in (
        ("{", "config.json is damaged, or no JSON file"),
        ("[1]", r"config.json should hold a JSON object \{...\}; it holds '\[1\]'"),
        (json.dumps({"architectures": ["Segformer"]}), "config.json is not that of a preset.*class, config"),
        (json.dumps({**good, "config": {}}), "config.json does not describe a keras_exfuse>ExFuse: KeyError"),
        (json.dumps({**good, "class": "os>system"}), "is a os>system, and ExFuse.from_preset was called"),
    ):
        (folder / "config.json").write_text(content)
        with pytest.raises(ValueError, match=text):
            ExFuse.from_preset(folder)
    (folder / "config.json").write_text(json.dumps(good))
    np.savez(folder / "weights.npz", bad=np.array([print], object))
    with pytest.raises(ValueError, match=r"weights\.npz: the array 'bad' holds Python objects"):
        ExFuse.from_preset(folder)


@pytest.mark.backend_independent
def test_a_preset_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    folder = make().save_to_preset(tmp_path / "mine")
    expected = logits(ExFuse.from_preset(folder))
    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(OSError, match=r"^The disk of .* is full: mine was not written\. Make room") as caught:
        make(5).save_to_preset(folder)
    assert caught.value.errno == errno.ENOSPC
    np.testing.assert_array_equal(logits(ExFuse.from_preset(folder)), expected)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def full_disk(*arguments, **options):
    try:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        raise ValueError("Can't close the ZIP file while there is an open writing handle on it")


@pytest.mark.parametrize("name", presets.preset_names())
def test_presets_are_small_and_say_what_they_are(name):
    folder, description = presets.read_description(name)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 12e6
    assert len(description["class_names"]) == description["config"]["num_classes"]
    card = (folder / "README.md").read_text()
    for part in ("## Data", "## Scores", "## Bias", "## Licence", "## Recipe"):
        assert part in card


def test_the_animals_preset_finds_the_cat():
    """An image that it was not trained on; the shares are those of the day it was put here."""
    model = ExFuse.from_preset("exfuse_efficientnet_lite0.voc2012_animals")
    labels = as_numpy(run_model(model, cat_image().astype("float32"))).argmax(-1)
    shares = np.bincount(labels.ravel(), minlength=21) / labels.size
    assert shares.argmax() == 8, "cat"
    assert shares[8] == pytest.approx(CAT_SHARE, abs=0.02)


CAT_SHARE = 0.780
