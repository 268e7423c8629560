"""The four ways to bring one's own backbone."""

import keras
import numpy as np
import pytest

from keras_exfuse.backbones import create_backbone, from_layers, with_normalization
from tests.helpers import small_hub_resnet

IMAGES = np.random.default_rng(0).uniform(0, 255, (1, 64, 96, 3)).astype("float32")


def assert_is_backbone(backbone, channels, tmp_path=None):
    maps = backbone.predict(IMAGES, verbose=0)
    assert [level.shape for level in maps] == [
        (1, 64 // stride, 96 // stride, count) for stride, count in zip((4, 8, 16, 32), channels, strict=True)
    ]
    if tmp_path:
        backbone.save(tmp_path / "backbone.keras")
        again = keras.saving.load_model(tmp_path / "backbone.keras").predict(IMAGES, verbose=0)
        for ours, theirs in zip(maps, again, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    return maps


def plain_pyramid(kind=list):
    """Five convolutions of stride 2, by hand; `kind` makes the outputs of the last four."""
    image = x = keras.Input((None, None, 3))
    maps = []
    for channels in (2, 4, 8, 16, 32):
        x = keras.layers.Conv2D(channels, 3, strides=2, padding="same")(x)
        maps.append(x)
    return keras.Model(image, kind(maps[1:]), name="plain")


def test_a_keras_hub_backbone(tmp_path):
    backbone = small_hub_resnet()
    maps = assert_is_backbone(create_backbone(backbone), (64, 8, 8, 8), tmp_path)
    expected = backbone.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(maps[-1], expected, rtol=1e-5, atol=1e-6)


def test_a_keras_cv_backbone(tmp_path):
    import xml.etree.ElementTree  # noqa: F401  keras-cv forgets to import it

    keras_cv = pytest.importorskip("keras_cv", reason="keras-cv is not installed (extra: hub)")
    backbone = keras_cv.models.ResNetBackbone(
        stackwise_filters=[4, 8, 16, 32],
        stackwise_blocks=[1, 1, 1, 1],
        stackwise_strides=[1, 2, 2, 2],
        include_rescaling=True,
    )
    maps = assert_is_backbone(create_backbone(backbone), (16, 32, 64, 128), tmp_path)
    np.testing.assert_allclose(maps[-1], backbone.predict(IMAGES, verbose=0), rtol=1e-5, atol=1e-6)


def test_a_model_of_keras_applications_by_layer_names(tmp_path):
    names = ["block_2_add", "block_5_add", "block_12_add", "out_relu"]
    network = keras.applications.MobileNetV2(
        weights=None, include_top=False, alpha=0.35, input_shape=(None, None, 3)
    )
    backbone = from_layers(network, names)
    assert create_backbone(backbone) is backbone
    normalized = with_normalization(backbone, (127.5,) * 3, (127.5,) * 3)
    maps = assert_is_backbone(normalized, (8, 16, 32, 1280), tmp_path)
    # keras.applications' own preprocessing says the same, and there was no copy of the weights.
    prepared = keras.applications.mobilenet_v2.preprocess_input(IMAGES.copy())
    np.testing.assert_allclose(maps[-1], network.predict(prepared, verbose=0), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"has no layers \['block_2_ad'\]. It has for example block_2_add"):
        from_layers(network, ["block_2_ad", *names[1:]])


@pytest.mark.parametrize(
    "kind", [list, tuple, lambda maps: dict(zip(("P2", "P3", "P4", "P5"), maps, strict=True))]
)
def test_any_model_of_four_maps(kind, tmp_path):
    model = plain_pyramid(kind)
    backbone = create_backbone(model)
    assert isinstance(backbone.output, list) and backbone.name == "plain"
    assert_is_backbone(backbone, (4, 8, 16, 32), tmp_path)
    # The same weights, not copies: training the backbone trains the model.
    assert {id(weight) for weight in model.weights} == {id(weight) for weight in backbone.weights}


class Pyramid(keras.Model):
    """A subclass of Model, as people write them."""

    def __init__(self):
        super().__init__()
        self.stages = [keras.layers.Conv2D(4, 3, strides=2, padding="same") for _ in range(5)]

    def call(self, images):
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return tuple(maps[1:])


def test_a_subclassed_model():
    assert_is_backbone(create_backbone(Pyramid()), (4, 4, 4, 4))


def test_blue_first_hands_the_channels_on_reversed():
    image = keras.Input((None, None, 3))
    pooled = [keras.layers.AveragePooling2D(stride)(image) for stride in (4, 8, 16, 32)]
    backbone = with_normalization(keras.Model(image, pooled), (1, 2, 3), (1, 1, 1), blue_first=True)
    image = np.zeros((1, 32, 32, 3), "float32") + np.array([10, 20, 30])
    for level in backbone.predict(image, verbose=0):
        np.testing.assert_allclose(level[0, 0, 0], [27, 18, 9], rtol=1e-5)


@pytest.mark.backend_independent
def test_what_is_no_pyramid_lists_the_shapes_found():
    model = plain_pyramid()
    for outputs, found in (
        (model.output[:3], r"\[\(1, 32, 64, 4\), \(1, 16, 32, 8\), \(1, 8, 16, 16\)\]"),
        ([*model.output[:3], model.output[2]], r"\(1, 8, 16, 16\), \(1, 8, 16, 16\)\]"),
        (model.output[::-1], r"\[\(1, 4, 8, 32\)"),
    ):
        with pytest.raises(ValueError, match=f"strides 4, 8, 16 and 32.*returns the shapes .*{found}"):
            create_backbone(keras.Model(model.input, outputs))
    fixed = keras.applications.MobileNetV2(weights=None, alpha=0.35)
    with pytest.raises(ValueError, match="of an image of any size"):
        create_backbone(fixed)
    with pytest.raises(ValueError, match="the backbone is a model. Load them into that model first"):
        create_backbone(model, weights="imagenet")
