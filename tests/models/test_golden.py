"""Logits of each backbone family under fixed weights, and of each preset, as they were when they were written down.

A change here means that saved models give other answers than before. Weights come from numpy by their paths,
so all backends share the numbers. To write them anew, after a deliberate change:

    KERAS_EXFUSE_WRITE_GOLDEN=1 KERAS_BACKEND=tensorflow python -m pytest tests/models/test_golden.py -m ""
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from keras_exfuse import GCN, ExFuse
from keras_exfuse.backbones import build_resnet, create_backbone
from keras_exfuse.backbones.efficientnet_lite import build_efficientnet_lite
from keras_exfuse.presets import preset_names
from tests.drawing import cat_image, draw_by_path, draw_images, run_model
from tests.helpers import as_numpy, tiny_backbone

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
WRITE = os.environ.get("KERAS_EXFUSE_WRITE_GOLDEN") == "1"
NUM_CLASSES = 3
# One block a stage shows what a family computes; the networks of the table differ by their depths alone.
FAMILIES = {
    "tiny": tiny_backbone,
    "resnet": lambda: build_resnet("resnet_golden", (1, 1, 1, 1)),
    "resnext": lambda: build_resnet("resnext_golden", (1, 1, 1, 1), cardinality=32, width_per_group=4),
    "efficientnet_lite": lambda: build_efficientnet_lite("efficientnet_lite_golden"),
}
NAMED = ("resnet50", "resnext50_32x4d", "resnet101_lr", "efficientnet_lite1")
VARIANTS = {
    "gcn": lambda: GCN(NUM_CLASSES, backbone=tiny_backbone()),
    "literal": lambda: ExFuse(
        NUM_CLASSES, backbone=tiny_backbone(), refinement="before", adjacent_channels="all", kernel_size=15
    ),
    "grouped": lambda: ExFuse(
        NUM_CLASSES,
        backbone=tiny_backbone(),
        refinement="before_grouped",
        expansion="global_convolution",
        embedding_normalization=True,
    ),
}


def check(name, model):
    """Compare a model of fixed weights with the stored logits, or store them."""
    logits = as_numpy(run_model(draw_by_path(model), draw_images(1, 45, 64)))
    assert logits.shape == (1, 45, 64, NUM_CLASSES)
    compare(name, model, logits, step=8)


def compare(name, model, logits, step):
    """Compare logits with the stored ones, or store them."""
    # A grid of pixels sees all weights; the mean and the spread see every pixel.
    found = {
        "parameters": model.count_params(),
        "mean": logits.mean(axis=(0, 1, 2)).tolist(),
        "spread": logits.std(axis=(0, 1, 2)).tolist(),
        "logits": np.round(logits[0, ::step, ::step].astype("float64"), 6).tolist(),
    }
    path = GOLDEN / f"{name}.json"
    if WRITE:
        path.write_text(json.dumps(found) + "\n")
    expected = json.loads(path.read_text())
    assert found["parameters"] == expected["parameters"]
    scale = max(expected["spread"])
    assert 0.05 < scale < 500, "numbers of another size would make the tolerance say little"
    for part in ("mean", "spread", "logits"):
        np.testing.assert_allclose(found[part], expected[part], rtol=0, atol=1e-4 * scale, err_msg=part)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_each_backbone_family(family):
    check(family, ExFuse(NUM_CLASSES, backbone=FAMILIES[family]()))


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_of_other_variants(variant):
    check(variant, VARIANTS[variant]())


@pytest.mark.parametrize("name", preset_names())
def test_logits_of_presets(name):
    """Of a photograph, so that they are of the size that they have in use."""
    model = ExFuse.from_preset(name)
    compare(name, model, as_numpy(run_model(model, cat_image().astype("float32"))), step=48)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_logits_of_named_backbones(name):
    check(name, ExFuse(NUM_CLASSES, backbone=create_backbone(name)))
