"""Weights of timm's and torchvision's own networks, saved as files, and the features they give there."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_exfuse.backbones import create_backbone

# Whole networks of the table: the conversion is numpy's work, the same on every backend.
pytestmark = pytest.mark.backend_independent

SCRIPT = Path(__file__).with_name("library_networks.py")
LIBRARIES = Path(sys.prefix) / "networks"


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A folder with the file of each network's weights, and the maps it makes of an image."""
    if not LIBRARIES.exists():
        pytest.skip(f"timm and torchvision are not in {LIBRARIES}: `make test` installs them there")
    folder = tmp_path_factory.mktemp("networks")
    environment = {**os.environ, "PYTHONPATH": str(LIBRARIES)}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d", "efficientnet_lite0"])
def test_features_are_those_of_the_library(networks, name):
    backbone = create_backbone(name, weights=str(networks / f"{name}.pth"))
    with np.load(networks / f"{name}.npz") as arrays:
        images, expected = arrays["images"], [arrays[f"level_{level}"] for level in (1, 2, 3, 4)]
    for ours, theirs in zip(backbone.predict(images, verbose=0), expected, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()
