"""The named backbones: shapes, counts, sizes, saving, precision, golden outputs."""

import threading

import keras
import numpy as np
import pytest

from keras_exfuse.backbones import BACKBONES, create_backbone
from keras_exfuse.backbones.efficientnet_lite import SamePadding, build_efficientnet_lite, even_sides
from keras_exfuse.backbones.normalization import ImageNormalization
from keras_exfuse.backbones.resnet import build_resnet

# Convolutions and batch norms, that is torchvision's published parameter counts less 2,049,000 of the
# classifier; for the rearranged ResNeXt the 50.33 M that its depths at the standard widths come to.
TRAINABLE = {
    "resnet50": 23_508_032,
    "resnet101": 42_500_160,
    "resnet152": 58_143_808,
    "resnext50_32x4d": 22_979_904,
    "resnext101_32x4d": 42_128_704,
    "resnext101_32x8d": 86_742_336,
    "resnext101_64x4d": 81_406_272,
    "resnext101_lr": 50_332_480,
    # The PyPI package's 4,652,008, less 412,160 of the head's convolution and norm and 1,281,000 of its classifier.
    "efficientnet_lite0": 2_958_848,
}
QUICK = {"resnet50", "resnext50_32x4d", "efficientnet_lite0"}


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in TRAINABLE]
)
def test_published_parameter_counts(name):
    backbone = create_backbone(name)
    assert backbone.name == name
    assert sum(int(np.prod(weight.shape)) for weight in backbone.trainable_weights) == TRAINABLE[name]


@pytest.mark.backend_independent
def test_the_table_says_what_the_papers_say():
    depths = {name: entry.build.keywords.get("depths") for name, entry in BACKBONES.items()}
    assert depths["resnext101_lr"] == depths["resnet101_lr"] == (8, 8, 9, 8)
    assert depths["resnext131"] == (8, 8, 19, 8)
    assert depths["resnet152"] == (3, 8, 36, 3)
    groups = {name: entry.build.keywords.get("cardinality", 1) for name, entry in BACKBONES.items()}
    assert groups["resnext101_64x4d"] == 64 and groups["resnext101_lr"] == 32 and groups["resnet101_lr"] == 1
    # A ResNeXt-101 counts 3 convolutions a block, the stem and the classifier.
    for name in ("resnet101", "resnext101_lr", "resnet101_lr"):
        assert 3 * sum(depths[name]) + 2 == 101
    assert 3 * sum(depths["resnext131"]) + 2 == 131


def test_an_unknown_name_brings_the_nearest():
    with pytest.raises(ValueError, match="no backbone 'resnet5'. The nearest names are: resnet50"):
        create_backbone("resnet5")


def tiny_resnet(cardinality=1):
    return build_resnet("tiny", (1, 1, 1, 1), cardinality, 64 // cardinality)


@pytest.mark.parametrize("build", [tiny_resnet, lambda: build_efficientnet_lite("lite")])
def test_any_size_and_batch(build):
    backbone = build()
    for batch, height, width in ((1, 33, 47), (3, 96, 131)):
        maps = backbone.predict(np.zeros((batch, height, width, 3)), verbose=0)
        for level, stride in zip(maps, (4, 8, 16, 32), strict=True):
            assert level.shape[:3] == (batch, -(-height // stride), -(-width // stride))
            assert np.isfinite(level).all()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_normalizes_in_float32(policy):
    keras.config.set_dtype_policy(policy)
    try:
        backbone = tiny_resnet(cardinality=16)
    finally:
        keras.config.set_dtype_policy("float32")
    assert backbone.get_layer("normalization").compute_dtype == "float32"
    images = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    for level in backbone.predict(images, verbose=0):
        assert str(level.dtype) == policy.removeprefix("mixed_")
        assert np.isfinite(level.astype("float32")).all()


def test_saving_keeps_the_features(tmp_path):
    images = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    for backbone in (tiny_resnet(16), build_efficientnet_lite("lite")):
        backbone.save(tmp_path / "backbone.keras")
        again = keras.saving.load_model(tmp_path / "backbone.keras")
        assert again.name == backbone.name
        for ours, theirs in zip(
            backbone.predict(images, verbose=0), again.predict(images, verbose=0), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def fill(backbone, seed):
    """Weights from NumPy alone, the same on every backend and in every version of Keras."""
    generator = np.random.default_rng(seed)
    for layer in backbone.layers:
        values = []
        for weight in layer.weights:
            shape = tuple(weight.shape)
            if len(shape) == 4:
                fan_in = shape[0] * shape[1] * (1 if "depthwise" in layer.name else shape[2])
                values.append(generator.normal(0, np.sqrt(2 / fan_in), shape))
            elif weight.name in ("gamma", "moving_variance"):
                values.append(generator.uniform(0.75, 1.25, shape))
            else:
                values.append(generator.normal(0, 0.2, shape))
        layer.set_weights(values)


# Mean absolute value of the four maps, and the first channels of the last map's first pixel. They were made
# on TensorFlow by the backbones whose features had just been compared with timm's and torchvision's.
GOLDEN = {
    "resnet": [2.1489, 2.87653, 3.99726, 4.85747, 12.8541, 0.0, 9.49535, 3.60293],
    "resnext": [1.92531, 2.72526, 4.06595, 5.07202, 3.30978, 3.17155, 0.287954, 1.44984],
    "efficientnet_lite": [1.53807, 2.22456, 3.50858, 1.81238, -1.09204, 0.156756, -0.649649, -2.45914],
}


@pytest.mark.parametrize("family", GOLDEN)
def test_golden_outputs(family):
    backbone = {
        "resnet": lambda: tiny_resnet(1),
        "resnext": lambda: tiny_resnet(16),
        "efficientnet_lite": lambda: build_efficientnet_lite("lite"),
    }[family]()
    fill(backbone, seed=7)
    images = np.random.default_rng(8).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    maps = backbone.predict(images, verbose=0)
    found = [float(np.abs(level).mean()) for level in maps] + [float(x) for x in maps[-1][0, 0, 0, :4]]
    np.testing.assert_allclose(found, GOLDEN[family], rtol=1e-4, atol=1e-5)


def test_same_padding_is_that_of_tensorflow():
    """A convolution over the padded map gives ceil(n / 2), and the windows lie where TensorFlow puts them."""
    for size in (3, 5):
        for side in (7, 8):
            padded = keras.ops.convert_to_numpy(SamePadding(size)(keras.ops.ones((1, side, 8, 1))))
            before = (size - 3) // 2 + side % 2
            assert padded.shape == (1, side + size - 2 + side % 2, 8 + size - 2, 1)
            assert padded[0, :, 4, 0].tolist() == [0] * before + [1] * side + [0] * ((size - 1) // 2)
            assert SamePadding(size).compute_output_shape((1, side, None, 1)) == (1, padded.shape[1], None, 1)
    with pytest.raises(ValueError, match="odd kernel_size of 3 or more, got 4"):
        SamePadding(4)


def test_an_export_in_one_thread_does_not_change_the_padding_in_another():
    maps, exporting, done = keras.ops.ones((1, 5, 5, 1)), threading.Event(), threading.Event()

    def export():
        with even_sides():
            exporting.set()
            done.wait(10)

    thread = threading.Thread(target=export)
    thread.start()
    assert exporting.wait(10)
    assert tuple(SamePadding(3)(maps).shape) == (1, 7, 7, 1)
    done.set()
    thread.join()
    with even_sides():
        assert tuple(SamePadding(3)(maps).shape) == (1, 6, 6, 1)


def test_normalization_can_reverse_channels():
    layer = ImageNormalization((1, 2, 3), (2, 4, 8), reverse_channels=True)
    again = ImageNormalization.from_config(layer.get_config())
    image = np.array([[[[3.0, 10.0, 11.0]]]], "float32")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(again(image))[0, 0, 0], [1, 2, 1])
    with pytest.raises(ValueError, match="positive standard deviations"):
        ImageNormalization((1, 2, 3), (0, 1, 1))
