"""A fused model against the one it was made of, with every weight and statistic drawn at random."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_exfuse
from keras_exfuse import ExFuse, fuse_for_inference
from keras_exfuse._kernels import Conv2D, DepthwiseConv2D, winograd
from keras_exfuse.backbones import build_resnet, create_backbone, from_layers, with_normalization
from keras_exfuse.backbones.efficientnet_lite import build_efficientnet_lite
from keras_exfuse.layers import (
    Deconvolution,
    DenselyAdjacentPrediction,
)
from tests.drawing import draw_by_path, draw_images, run_model
from tests.helpers import as_numpy, small_hub_resnet, tiny_backbone

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
    "separable embedding": {
        **PLAIN,
        "semantic_embedding": True,
        "embedding_convolution": "separable",
        "embedding_init": "random",
    },
    "bottleneck embedding": {
        **PLAIN,
        "semantic_embedding": True,
        "embedding_convolution": "bottleneck",
        "embedding_normalization": True,
        "embedding_init": "random",
    },
    "expanding gcn": {"expansion": "global_convolution", "semantic_supervision": True},
    "no adjacency": {"densely_adjacent_prediction": False},
    "all": {"adjacent_channels": "all"},
    "all, expanding gcn": {"adjacent_channels": "all", "expansion": "global_convolution"},
    "all, no channel resolution": {"adjacent_channels": "all", "channel_resolution_embedding": False},
    "score channels": {"score_channels": 4},
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
        images = draw_images(2, *size)
        expected = [as_numpy(each) for each in keras.tree.flatten(run_model(model, images))]
        found = [as_numpy(each) for each in keras.tree.flatten(run_model(fused, images))]
        assert max(np.abs(each).max() for each in expected) > 0.1
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


@pytest.mark.parametrize("normalization", [False, True])
def test_wide_kernels_are_transformed_and_plain_again_if_wanted(normalization, monkeypatch, tmp_path):
    monkeypatch.setattr(winograd, "LEAST_PRODUCTS", 12 * 16)
    variant = {"embedding_normalization": normalization, "embedding_init": "random"}
    model = draw_by_path(ExFuse(NUM_CLASSES, backbone=tiny_backbone(), kernel_size=3, **variant))
    fused = fuse_for_inference(model)
    plain = fuse_for_inference(fused, winograd=False)
    # The tiny backbone has 8, 12, 16 and 20 channels: of its decoder's convolutions, these have 192 products or more.
    wide = ["semantic_embedding_2_1", "semantic_embedding_2_2", "semantic_embedding_3_1"]
    assert transformed(fused) == wide and transformed(plain) == []
    fused.save(tmp_path / "fused.keras")
    for made in (fused, plain, keras.saving.load_model(tmp_path / "fused.keras")):
        assert_same(model, made, (33, 47), (96, 64))


def test_kernels_stay_plain_in_half_precision(monkeypatch):
    monkeypatch.setattr(winograd, "LEAST_PRODUCTS", 0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        fused = fuse_for_inference(ExFuse(NUM_CLASSES, backbone=tiny_backbone(), kernel_size=3))
    finally:
        keras.config.set_dtype_policy(before)
    assert transformed(fused) == []


def transformed(model):
    return sorted(each.name for each in model.layers if isinstance(each, winograd.WinogradConv2D))


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_every_switch(switches):
    model = draw_by_path(ExFuse(NUM_CLASSES, backbone=tiny_backbone(), **switches))
    fused = fuse_for_inference(model)
    # An uneven size too: borders are where joined layers go wrong.
    assert_same(model, fused, (33, 47))
    assert not normalizations(fused)
    kinds = {type(each).__name__ for each in fused.layers}
    assert not kinds & {"DenselyAdjacentDeconvolution", "SemanticSupervisionHead"}
    grouped = switches.get("refinement") == "before_grouped"
    # Under TensorFlow, which has a kernel for groups, these are not joined.
    stays = grouped and keras.backend.backend() == "tensorflow"
    assert ("DenselyAdjacentPrediction" in kinds) == stays


@pytest.mark.parametrize("refinement", ["after", "before"])
def test_it_saves_and_loads_without_its_class(refinement, tmp_path):
    model = draw_by_path(ExFuse(NUM_CLASSES, backbone=tiny_backbone(), refinement=refinement))
    model.compile()
    fused = fuse_for_inference(model)
    assert type(fused).__name__ == "Functional" and not fused.compiled
    fused.save(tmp_path / "fused.keras")
    assert_same(fused, keras.saving.load_model(tmp_path / "fused.keras"), atol=1e-6)
    assert fused.input_shape == model.input_shape and fused.output_shape == model.output_shape
    assert fused.input.name == "image" and fused.name == model.name


# === Backbones ===


def resnet():
    return build_resnet("small_resnet", (1, 1, 1, 1), width_per_group=4)


def resnext():
    return build_resnet("small_resnext", (1, 1, 1, 1), cardinality=32, width_per_group=4)


def mobile_net():
    network = keras.applications.MobileNetV2(
        weights=None, include_top=False, alpha=0.35, input_shape=(None, None, 3)
    )
    names = ["block_2_add", "block_5_add", "block_12_add", "out_relu"]
    return with_normalization(from_layers(network, names), (127.5,) * 3, (127.5,) * 3)


def hub_resnet():
    return with_normalization(small_hub_resnet(), (127.5,) * 3, (127.5,) * 3)


def hub_efficient_net():
    """Its blocks are layers with batch normalization inside."""
    keras_hub = pytest.importorskip("keras_hub", reason="keras-hub is not installed (extra: hub)")
    return create_backbone(
        keras_hub.models.EfficientNetBackbone(
            width_coefficient=0.25,
            depth_coefficient=0.25,
            stackwise_kernel_sizes=[3, 3, 3, 3, 3, 3],
            stackwise_num_repeats=[1, 2, 1, 1, 1, 1],
            stackwise_input_filters=[32, 16, 24, 40, 80, 112],
            stackwise_output_filters=[16, 24, 40, 80, 112, 192],
            stackwise_expansion_ratios=[1, 6, 6, 6, 6, 6],
            stackwise_squeeze_and_excite_ratios=[0.25] * 6,
            stackwise_strides=[1, 2, 2, 2, 1, 2],
            stackwise_block_types=["v1"] * 3 + ["unfused"] * 3,
            dropout=0.2,
        )
    )


def lite():
    return build_efficientnet_lite("lite")


# Other people's networks bring nothing that depends on the backend: one is enough for them.
BACKBONES = [
    resnet,
    resnext,
    lite,
    hub_efficient_net,
    pytest.param(mobile_net, marks=pytest.mark.backend_independent),
    pytest.param(hub_resnet, marks=pytest.mark.backend_independent),
]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone(backbone):
    model = draw_by_path(ExFuse(NUM_CLASSES, backbone=backbone(), kernel_size=3, **PLAIN))
    fused = fuse_for_inference(model)
    assert len(normalizations(model)) > 8 and not normalizations(fused)
    assert_same(model, fused)


def test_the_classifier_of_semantic_supervision():
    classifier = draw_by_path(
        keras_exfuse.SemanticSupervisionClassifier(4, backbone=resnet(), head_filters=8)
    )
    fused = fuse_for_inference(classifier)
    assert_same(classifier, fused, (64, 64))
    assert not normalizations(fused)


# === Batch normalization, case by case ===


def normalized(x, layer, **options):
    return layers.BatchNormalization(**options)(layer(x))


def test_every_kind_of_convolution_takes_up_its_normalization():
    image = keras.Input((12, 15, 4))
    plain = {"padding": "same", "use_bias": False}
    outputs = [
        normalized(image, layers.Conv2D(5, 3, **plain)),
        normalized(image, layers.Conv2D(5, 3, strides=2), scale=False),
        normalized(image, Conv2D(6, 3, groups=2, **plain), center=False),
        normalized(image, layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"), epsilon=0.1),
        normalized(image, DepthwiseConv2D(3, **plain)),
        normalized(image, layers.SeparableConv2D(5, 3, **plain)),
        normalized(image, layers.Conv2DTranspose(5, 4, strides=2, **plain)),
        normalized(image, Deconvolution(5)),
        normalized(image, layers.Dense(5), scale=False, center=False),
    ]
    model = draw_by_path(keras.Model(image, outputs))
    fused = fuse_for_inference(model)
    assert not normalizations(fused)
    assert len(normalizations(model)) == len(outputs)
    assert_same_of(model, fused, (2, 12, 15, 4), atol=1e-5)


def assert_same_of(model, fused, shape, atol):
    maps = np.random.default_rng(0).normal(size=shape).astype("float32")
    for ours, theirs in zip(fused(maps), model(maps), strict=True):
        np.testing.assert_allclose(as_numpy(ours), as_numpy(theirs), atol=atol)


def test_where_folding_would_change_something_normalization_stays():
    image = keras.Input((9, 7, 4))
    shared, twice = layers.BatchNormalization(), layers.Conv2D(4, 3, padding="same")
    read_by_two, put_out = layers.Conv2D(4, 3)(image), layers.Conv2D(4, 3)(image)
    outputs = [
        layers.BatchNormalization()(image),
        layers.BatchNormalization()(layers.ReLU()(layers.Conv2D(4, 3)(image))),
        normalized(image, layers.Conv2D(4, 3, activation="relu")),
        normalized(image, layers.Conv2D(9, 3, padding="same"), axis=1),
        layers.BatchNormalization()(read_by_two) + layers.ReLU()(read_by_two),
        put_out,
        layers.BatchNormalization()(put_out),
        shared(layers.Conv2D(4, 3)(image)),
        shared(layers.Conv2D(4, 3)(image)),
        normalized(twice(image), twice),
        layers.BatchNormalization()(layers.Conv2D(4, 3)(image), training=True),
    ]
    model = draw_by_path(keras.Model(image, outputs))
    fused = fuse_for_inference(model)
    assert len(normalizations(fused)) == len(normalizations(model)) == 9
    assert_same_of(model, fused, (2, 9, 7, 4), atol=1e-6)


def test_nested_models_are_walked_and_dropout_goes():
    image = keras.Input((None, None, 3))
    inner = keras.Sequential(
        [
            keras.Input((None, None, 4)),
            layers.Conv2D(5, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.SpatialDropout2D(0.5),
        ],
        name="inner",
    )
    colors = layers.Normalization(name="colors")
    x = layers.Dropout(0.5)(normalized(colors(image), layers.Conv2D(4, 3)))
    x = layers.GaussianNoise(1.0)(inner(layers.ReLU()(x)))
    model = draw_by_path(keras.Model(image, [x, layers.Dropout(0.3)(inner.layers[0](x[..., :4]))]))
    colors.adapt(draw_images(1, 32, 32))
    fused = fuse_for_inference(model)
    assert_same(model, fused, (32, 32))
    kinds = [type(each).__name__ for each in fused._flatten_layers()]
    assert not [kind for kind in kinds if "Dropout" in kind or "Noise" in kind]
    # The convolution is called outside of the inner model too, where nothing normalizes it.
    assert kinds.count("BatchNormalization") == 0


def test_adjacent_prediction_without_refinement():
    scores = keras.Input((None, None, 3))
    x = Deconvolution(9 * 2, kernel_size=6, crop=False)(scores)
    x = DenselyAdjacentPrediction(2, padding="valid")(layers.Cropping2D(1)(x))
    cut = DenselyAdjacentPrediction(2)(Deconvolution(9 * 2)(scores))
    model = draw_by_path(keras.Model(scores, [x, cut]))
    fused = fuse_for_inference(model)
    assert_same_of(model, fused, (1, 5, 7, 3), atol=1e-5)
    # Cut before the prediction, the pixels beyond the border are lost: that is not one layer.
    assert [type(each).__name__ for each in fused.layers].count("DenselyAdjacentPrediction") == 1


class Blackbox(layers.Layer):
    """A layer whose `call` no symbolic tensor passes."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.convolution = layers.Conv2D(3, 1)
        self.normalization = layers.BatchNormalization()

    def build(self, shape):
        self.convolution.build(shape)
        self.normalization.build(shape)

    def call(self, inputs):
        if isinstance(inputs, keras.KerasTensor):
            raise TypeError("numbers, please")
        return self.normalization(self.convolution(inputs))

    def compute_output_shape(self, shape):
        return shape


def test_a_layer_that_cannot_be_opened_stays_whole():
    image = keras.Input((None, None, 3))
    model = draw_by_path(keras.Model(image, Blackbox(name="blackbox")(image)))
    with pytest.warns(UserWarning, match="'blackbox'.*keeps its batch normalization.*numbers, please"):
        fused = fuse_for_inference(model)
    assert_same(model, fused, (32, 32))


def test_half_precision_keeps_its_types():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = draw_by_path(ExFuse(NUM_CLASSES, backbone=resnet(), kernel_size=3, **PLAIN))
        fused = fuse_for_inference(model)
    finally:
        keras.config.set_dtype_policy("float32")
    assert not normalizations(fused)
    assert fused.get_layer("refine_1").compute_dtype == "bfloat16"
    images = draw_images(1, 64, 96)
    ours, theirs = (as_numpy(run_model(each, images)) for each in (fused, model))
    # Each of the twenty layers rounds by up to 1 / 256, and folding changes what is rounded.
    assert 0 < np.abs(ours - theirs).mean() < 0.03 * np.abs(theirs).mean()


@pytest.mark.backend_independent
def test_a_subclass_with_a_call_of_its_own_is_refused():
    class Doubled(ExFuse):
        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs, training=training, mask=mask)

    with pytest.raises(ValueError, match="a Doubled whose layers.*or whose class has a `call` of its own"):
        fuse_for_inference(Doubled(NUM_CLASSES, backbone=tiny_backbone(), kernel_size=3))


@pytest.mark.backend_independent
def test_a_model_without_a_graph_is_refused():
    class Subclassed(keras.Model):
        pass

    with pytest.raises(ValueError, match="functional or sequential model.*a Subclassed whose layers"):
        fuse_for_inference(Subclassed(name="own"))
