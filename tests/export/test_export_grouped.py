"""Grouped and depthwise convolution in every format: each engine has kernels of its own for them."""

import keras
import numpy as np
import pytest

from keras_exfuse import export
from keras_exfuse._kernels import Conv2D, DepthwiseConv2D
from keras_exfuse.inference import Predictor
from tests.drawing import draw_by_path
from tests.export import engines
from tests.export.test_export_formats import export_or_skip

pytestmark = pytest.mark.backend_independent


@pytest.fixture(scope="module")
def model():
    """Its logits are a grouped convolution's channels, so that each label depends on all groups.

    With names of their own: weights are drawn by path, and Keras numbers layers by what ran before in the process.
    """
    image = keras.Input((None, None, 3))
    same = {"groups": 4, "padding": "same"}
    x = keras.layers.Rescaling(1 / 64, offset=-2)(image)
    x = keras.layers.Conv2D(12, 1, name="conv2d")(x)
    x = DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise_convolution")(x)
    x = Conv2D(24, 3, activation="relu", name="grouped_convolution", **same)(x)
    x = Conv2D(12, 3, name="grouped_convolution_1", **same)(x)
    return draw_by_path(keras.Model(image, x))


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
