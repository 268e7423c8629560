"""The programs in `examples/` run as they are called there."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
pytestmark = pytest.mark.backend_independent


def test_the_picture_of_what_the_preset_knows_and_does_not_know(tmp_path):
    command = [sys.executable, EXAMPLES / "known_and_unknown.py", tmp_path / "sheet.png"]
    subprocess.run(command, check=True)
    drawn = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)
    committed = np.asarray(Image.open(EXAMPLES / "pictures" / "known_and_unknown.png").convert("RGB"))
    assert drawn.shape == committed.shape
    # A pixel on an outline may fall to the other side by a rounding.
    assert (np.abs(drawn - committed).max(axis=-1) > 8).mean() < 0.002
