"""Grouped and depthwise convolution in every format: each engine has kernels of its own for them."""

import keras
import numpy as np
import pytest

from keras_exfuse import export, layers
from keras_exfuse.inference import Predictor
from tests.drawing import draw_by_path
from tests.export import engines
from tests.export.test_export_formats import export_or_skip

pytestmark = pytest.mark.backend_independent


@pytest.fixture(scope="module")
def model():
    """Its logits are a grouped convolution's channels, so that each label depends on all groups."""
    image = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 64, offset=-2)(image)
    x = keras.layers.Conv2D(12, 1)(x)
    x = layers.DepthwiseConvolution(3, padding="same", activation="relu")(x)
    x = layers.GroupedConvolution(24, 3, groups=4, padding="same", activation="relu")(x)
    return draw_by_path(keras.Model(image, layers.GroupedConvolution(12, 3, groups=4, padding="same")(x)))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 33, 47, 3), dtype="uint8")


def test_savedmodel(model, images, tmp_path):
    file = export.export_savedmodel(model, tmp_path / "1")
    check("savedmodel", file, model, images, tmp_path)


@pytest.mark.parametrize("name", ["onnx", "openvino", "litert"])
def test_other_formats(name, model, images, tmp_path):
    check(name, export_or_skip(name, model, tmp_path), model, images, tmp_path)


def check(name, file, model, images, folder):
    labels = engines.run(name, file, {"only": images}, folder)
    expected = Predictor(model)(images)
    assert len(np.unique(expected)) > 6, "labels of more than two of the four groups"
    assert np.mean(labels["only"] == expected) > 0.999
