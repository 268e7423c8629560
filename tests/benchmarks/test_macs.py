"""Parameters and MACs: published counts, those computed from the paper, and torch's own counter."""

import keras
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.networks.macs import count, count_decoder, parameters, total
from keras_exfuse import ExFuse, layers
from keras_exfuse._kernels import Conv2D, DepthwiseConv2D
from keras_exfuse.backbones import create_backbone
from tests.helpers import tiny_backbone
from tests.reference_torch import ReferenceExFuse

# Counts are the same on every backend, and models of this size take a while to build.
pytestmark = pytest.mark.backend_independent

SIZE = 512
RESNET_CHANNELS = (256, 512, 1024, 2048)
GCN = {
    "semantic_embedding": False,
    "channel_resolution_embedding": False,
    "densely_adjacent_prediction": False,
}
EMBEDDED = {**GCN, "semantic_embedding": True}
UPSAMPLED = {**EMBEDDED, "channel_resolution_embedding": True}
# Million parameters and billion MACs with ResNet-101 at 512x512, computed from the papers.
PAPER = {
    "GCN, k = 7": (GCN, 43.76, 46.8),
    "GCN, k = 15": ({**GCN, "kernel_size": 15}, 45.08, 49.6),
    "SEB": (EMBEDDED, 85.05, 67.3),
    "ECRE by a convolution": (UPSAMPLED, 85.06, 67.3),
    "ECRE from the GCN": ({**UPSAMPLED, "expansion": "global_convolution"}, 86.94, 67.8),
    "DAP in the last deconvolution": ({"refinement": "before"}, 85.75, 237.5),
    "DAP everywhere": ({"refinement": "before", "adjacent_channels": "all"}, 105.3, 381.6),
}
# Refined before DAP, the 189 channels keep a pixel on each side, so that DAP finds every neighbor (514x514
# instead of 512x512); the paper's count is without it. Two 3x3 convolutions, 189 to 189, on the rim:
RIM = ((SIZE + 2) ** 2 - SIZE**2) * 2 * 9 * 189**2


def decoder_counts(variant):
    return count_decoder(RESNET_CHANNELS, SIZE, **variant)


@pytest.fixture(scope="module")
def resnet101():
    backbone = create_backbone("resnet101")
    return parameters(backbone), total(count(backbone, SIZE, SIZE))


@pytest.mark.parametrize(("kernel_size", "published"), [(3, 260694), (5, 434490), (7, 608286), (9, 782082)])
def test_global_convolution_has_the_published_number_of_weights(kernel_size, published):
    block = layers.GlobalConvolution(21, kernel_size=kernel_size, use_bias=False)
    block.build((None, 16, 16, 2048))
    assert block.count_params() == published


def test_resnet101_has_its_known_cost(resnet101):
    trained, macs = resnet101
    # torchvision's published 44,549,160 without the classifier's 2048 * 1000 + 1000.
    assert trained == 44_549_160 - 2_049_000
    assert macs == pytest.approx(40.8e9, rel=0.005)


@pytest.mark.parametrize(("variant", "trained", "macs"), PAPER.values(), ids=PAPER)
def test_totals_are_those_of_the_paper(variant, trained, macs, resnet101):
    decoder, rows = decoder_counts(variant)
    assert resnet101[0] + decoder == pytest.approx(trained * 1e6, rel=0.005)
    rim = RIM if variant.get("refinement") == "before" else 0
    assert resnet101[1] + total(rows) - rim == pytest.approx(macs * 1e9, rel=0.005)


@pytest.mark.parametrize(
    "variant",
    [GCN, UPSAMPLED, {"refinement": "before_grouped"}, {"kernel_size": (9, 7, 5, 3)}],
    ids=["gcn", "ecre", "grouped", "kernels"],
)
def test_the_decoder_costs_what_torch_counts_in_the_reference(variant):
    with torch.device("meta"):
        reference = ReferenceExFuse(RESNET_CHANNELS, 21, **variant)
        maps = [
            torch.empty(1, filters, SIZE // stride, SIZE // stride)
            for filters, stride in zip(RESNET_CHANNELS, (4, 8, 16, 32), strict=True)
        ]
        with FlopCounterMode(display=False) as counter:
            reference(*maps)
    trained, rows = decoder_counts(variant)
    assert trained == sum(weight.numel() for weight in reference.parameters())
    expected = counter.get_total_flops() // 2
    if "kernel_size" in variant:
        # Refined after DAP, deconvolution and DAP are one layer: a 6x6 kernel to 21 channels instead of a
        # 4x4 kernel to 189.
        expected -= 256 * 256 * 21 * (4 * 4 * 189 - 6 * 6 * 21)
    assert total(rows) == expected


def test_the_last_layer_of_the_defaults_costs_the_combined_kernel():
    _, rows = decoder_counts({})
    costs = {row.name: row.macs for row in rows}
    assert costs["adjacent_deconvolution_1"] == 256 * 256 * 6 * 6 * 21 * 21
    # A percent of the whole model with ResNet-101, where the literal reading costs 3.5 times as much.
    assert total(rows) - total(decoder_counts(UPSAMPLED)[1]) == 256 * 256 * 21 * 21 * (6 * 6 - 4 * 4)


def test_backbone_and_decoder_add_up_to_the_model():
    model = ExFuse(21, backbone=tiny_backbone())
    decoder, rows = count_decoder((8, 12, 16, 20), 64)
    assert parameters(model) == parameters(model.backbone) + decoder
    assert total(count(model, 64, 64)) == total(count(model.backbone, 64, 64)) + total(rows)


def test_each_kind_of_layer_is_counted():
    image = keras.Input((None, None, 4))
    x = keras.layers.Conv2D(6, 3, strides=2, padding="valid", name="strided")(image)  # 9x11
    x = Conv2D(6, 3, groups=2, padding="same", name="grouped")(x)
    x = DepthwiseConv2D(5, padding="same", name="depthwise")(x)
    x = keras.layers.Conv2DTranspose(7, 4, strides=2, padding="same", name="transposed")(x)  # 18x22
    x = layers.Deconvolution(2, kernel_size=4, crop=False, name="deconvolution")(x)
    x = keras.layers.Dense(3, name="dense")(keras.layers.GlobalAveragePooling2D()(x))
    costs = {row.name: row.macs for row in count(keras.Model(image, x), 19, 23, channels=4)}
    assert costs == {
        "strided": 9 * 11 * 6 * 4 * 9,
        "grouped": 9 * 11 * 6 * 3 * 9,
        "depthwise": 9 * 11 * 6 * 25,
        "transposed": 9 * 11 * 16 * 6 * 7,
        "deconvolution": 18 * 22 * 16 * 7 * 2,
        "dense": 2 * 3,
    }


def test_a_layer_of_unknown_cost_is_an_error():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.SeparableConv2D(4, 3)(image))
    with pytest.raises(ValueError, match="SeparableConv2D with kernels of its own"):
        count(model, 16, 16)


def test_with_score_channels_the_cost_grows_linearly_with_the_classes():
    def cost(classes, **variant):
        return total(count_decoder((8, 12, 16, 20), 64, classes, **variant)[1])

    first, second, third = (cost(classes, score_channels=16) for classes in (10, 500, 1000))
    assert (third - second) / 500 == (second - first) / 490
    assert cost(1000) > 500 * third
