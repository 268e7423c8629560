"""From a photograph to labels with a model that comes with the package."""

import csv

import numpy as np
import pytest
from PIL import Image
from skimage import data

PRESET = "exfuse_efficientnet_lite0.voc2012_animals"


@pytest.mark.backend_independent
def test_a_preset_by_name_finds_the_cat(command, tmp_path):
    Image.fromarray(data.chelsea()).resize((225, 150)).save(tmp_path / "chelsea.jpg")
    options = ["--model", PRESET, "--output", tmp_path / "out", "--areas", tmp_path / "areas.csv"]
    code, _, err = command("predict", tmp_path / "chelsea.jpg", *options)
    assert code == 0, err
    labels = np.asarray(Image.open(tmp_path / "out" / "labels" / "chelsea.png"))
    assert labels.shape == (150, 225) and np.mean(labels == 8) > 0.6
    with (tmp_path / "areas.csv").open(newline="") as file:
        assert "cat" in {row["class"] for row in csv.DictReader(file)}


def test_an_unknown_name_lists_the_presets(command, tmp_path):
    code, _, err = command("export", "--model", "exfuse_unknown", "--output", tmp_path / "1")
    assert code == 2 and "There is no model at exfuse_unknown." in err and PRESET in err
    code, _, err = command("export", "--model", PRESET.replace("_animals", ""), "--output", tmp_path / "1")
    assert code == 2 and f"Did you mean '{PRESET}'?" in err
