"""A fused model against the one it was made of, with every weight and statistic drawn at random."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_exfuse import ExFuse, fuse_for_inference
from tests.drawing import draw_by_path, draw_pictures, run_model
from tests.helpers import as_numpy, tiny_encoder

NUM_CLASSES = 3
PLAIN = {
    "semantic_embedding": False,
    "channel_resolution_embedding": False,
    "densely_adjacent_prediction": False,
}
SWITCHES = {
    "default": {},
    "gcn": PLAIN,
    "embedding": {**PLAIN, "semantic_embedding": True, "embedding_normalization": True},
    "expanding gcn": {"expansion": "global_convolution", "semantic_supervision": True},
    "no adjacency": {"densely_adjacent_prediction": False},
    "all": {"adjacent_channels": "all"},
    "before": {"refinement": "before"},
    "grouped": {"refinement": "before_grouped"},
    "all before": {"adjacent_channels": "all", "refinement": "before"},
    "larger kernel": {"refinement": "before", "deconvolution_kernel_size": 6},
    "larger window": {"refinement": "before_grouped", "window_size": 5, "deconvolution_kernel_size": 8},
}


def normalizations(model):
    return [each for each in model._flatten_layers() if isinstance(each, layers.BatchNormalization)]


def assert_same(model, fused, *sizes, atol=1e-4):
    for size in sizes or ((64, 96),):
        images = draw_pictures(2, *size)
        expected = [as_numpy(each) for each in keras.tree.flatten(run_model(model, images))]
        found = [as_numpy(each) for each in keras.tree.flatten(run_model(fused, images))]
        assert max(np.abs(each).max() for each in expected) > 0.1
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_every_switch(switches):
    model = draw_by_path(ExFuse(NUM_CLASSES, backbone=tiny_encoder(), **switches))
    fused = fuse_for_inference(model)
    # An uneven size too: borders are where joined layers go wrong.
    assert_same(model, fused, (33, 47))
    assert not normalizations(fused)
    kinds = {type(each).__name__ for each in fused.layers}
    assert not kinds & {
        "DenselyAdjacentDeconvolution",
        "DenselyAdjacentPrediction",
        "SemanticSupervisionHead",
    }


@pytest.mark.parametrize("refinement", ["after", "before"])
def test_it_saves_and_loads_without_its_class(refinement, tmp_path):
    model = draw_by_path(ExFuse(NUM_CLASSES, backbone=tiny_encoder(), refinement=refinement))
    model.compile()
    fused = fuse_for_inference(model)
    assert type(fused).__name__ == "Functional" and not fused.compiled
    fused.save(tmp_path / "fused.keras")
    assert_same(fused, keras.saving.load_model(tmp_path / "fused.keras"), atol=1e-6)
    assert fused.input_shape == model.input_shape and fused.output_shape == model.output_shape
    assert fused.input.name == "image" and fused.name == model.name
