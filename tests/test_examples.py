"""The programs in `examples/` run as they are called there."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from keras_exfuse import SemanticSupervisionClassifier

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
pytestmark = pytest.mark.backend_independent


@pytest.mark.slow
def test_pretraining_on_a_folder_of_images_for_each_class(tmp_path):
    """As ImageNet is laid out; the classifier is what a recipe's `init_from` takes."""
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for label, name in enumerate(("n01", "n02", "n03")):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(3):
                pixels = [*generator.integers(0, 80, (70, 90, 3)), 80 * label, 80, 160 - 80 * label]
                Image.fromarray(pixels.astype("uint8")).save(tmp_path / split / name / f"{number}.JPEG")
    options = [
        "--weights=none",
        "--steps=3",
        "--batch-size=2",
        "--size=64",
        f"--output={tmp_path}/classifier.keras",
    ]
    command = [sys.executable, EXAMPLES / "semantic_supervision_pretraining.py", tmp_path, *options]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "step 3/3" in result.stdout and "the same bit for bit" in result.stdout
    classifier = keras.saving.load_model(tmp_path / "classifier.keras", compile=False)
    assert isinstance(classifier, SemanticSupervisionClassifier) and classifier.num_classes == 3


def test_the_image_of_what_the_preset_knows_and_does_not_know(tmp_path):
    command = [sys.executable, EXAMPLES / "known_and_unknown.py", tmp_path / "sheet.png"]
    subprocess.run(command, check=True)
    drawn = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)
    committed = np.asarray(Image.open(EXAMPLES / "images" / "known_and_unknown.png").convert("RGB"))
    assert drawn.shape == committed.shape
    # A pixel on an outline may fall to the other side by a rounding.
    assert (np.abs(drawn - committed).max(axis=-1) > 8).mean() < 0.002
