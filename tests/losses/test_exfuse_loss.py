"""The composed loss against PyTorch, term by term."""

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_exfuse import losses
from keras_exfuse.training.distribution import MeanOverDevices
from tests.helpers import as_numpy, random_maps, rebuild


def torch_cross_entropy(logits, mask):
    if (mask == 255).all():
        return 0.0
    logits = torch.tensor(logits.transpose(0, 3, 1, 2))
    return functional.cross_entropy(logits, torch.tensor(mask.astype("int64")), ignore_index=255).item()


def draw_mask(height=33, width=47, num_classes=4, seed=0):
    generator = np.random.default_rng(seed)
    mask = generator.integers(0, num_classes, (2, height, width), dtype="uint8")
    mask[generator.random(mask.shape) < 0.1] = 255
    return mask


def test_segmentation_term_is_torchs_cross_entropy():
    mask, logits = draw_mask(), random_maps((2, 33, 47, 4))
    assert float(losses.ExFuseLoss()(mask, logits)) == pytest.approx(
        torch_cross_entropy(logits, mask), abs=1e-5
    )


def test_channel_resolution_term():
    """A 33x47 image is padded to 64x64; its map at stride 16 is 4x4, and labels beyond it are ignored."""
    mask, maps = draw_mask(), random_maps((2, 4, 4, 4))
    padded = np.full((2, 64, 64), 255, "uint8")
    padded[:, :33, :47] = mask
    expected = torch_cross_entropy(maps, padded[:, 8::16, 8::16])
    loss = losses.ExFuseLoss(channel_resolution_weight=0.5)
    assert float(loss.auxiliary(mask, {"channel_resolution": maps})) == pytest.approx(
        0.5 * expected, abs=1e-5
    )


def test_channel_resolution_term_at_the_resolution_of_the_image():
    mask, maps = draw_mask(), random_maps((2, 4, 4, 4))
    large = functional.interpolate(
        torch.tensor(maps.transpose(0, 3, 1, 2)), size=(64, 64), mode="bilinear", align_corners=False
    )
    large = large.numpy().transpose(0, 2, 3, 1)[:, :33, :47]
    loss = losses.ExFuseLoss(channel_resolution_weight=1.0, label_resolution="image")
    assert float(loss.auxiliary(mask, {"channel_resolution": maps})) == pytest.approx(
        torch_cross_entropy(np.ascontiguousarray(large), mask), abs=1e-5
    )


def test_semantic_supervision_term():
    mask = draw_mask(num_classes=3)
    mask[1][mask[1] == 2] = 0
    heads = random_maps((2, 4), (2, 4), seed=2)
    presence = np.zeros((2, 4), "float32")
    for image in range(2):
        for label in np.unique(mask[image]):
            if label != 255:
                presence[image, label] = 1.0
    np.testing.assert_array_equal(as_numpy(losses.class_presence(mask, 4)), presence)
    expected = np.mean(
        [
            functional.binary_cross_entropy_with_logits(torch.tensor(head), torch.tensor(presence)).item()
            for head in heads
        ]
    )
    loss = losses.ExFuseLoss(semantic_supervision_weight=2.0)
    assert float(loss.auxiliary(mask, {"semantic_supervision": heads})) == pytest.approx(
        2.0 * expected, abs=1e-5
    )


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_ignored_pixels_do_not_matter(seed):
    mask, logits = draw_mask(8, 9, seed=seed), random_maps((2, 8, 9, 4), seed=seed)
    other = logits + 5.0 * (mask == 255)[..., None] * random_maps((2, 8, 9, 4), seed=seed + 1)
    loss = losses.ExFuseLoss()
    assert float(loss(mask, other)) == pytest.approx(float(loss(mask, logits)), abs=1e-6)


def test_all_ignored_is_zero():
    mask = np.full((1, 32, 32), 255, "uint8")
    outputs = {
        "logits": random_maps((1, 32, 32, 4)),
        "channel_resolution": random_maps((1, 2, 2, 4)),
        "semantic_supervision": [np.full((1, 4), -30.0, "float32")] * 4,
    }
    loss = losses.ExFuseLoss()
    total = loss.segmentation(mask, outputs["logits"]) + loss.auxiliary(mask, outputs)
    assert float(total) == pytest.approx(0.0, abs=1e-6)


# === Weights ===


def outputs_of(mask, num_classes=4):
    """Logits and auxiliary outputs, random, as the model would give them for masks (2, 33, 47)."""
    heads = random_maps(*[(len(mask), num_classes)] * 4, seed=7)
    return {
        "logits": random_maps((*mask.shape, num_classes)),
        "channel_resolution": random_maps((len(mask), 4, 4, num_classes), seed=5),
        "semantic_supervision": heads,
    }


def cross_entropies(logits, labels):
    """Of each pixel in numpy; any number where a label is 255."""
    logits = logits.astype("float64")
    own = np.take_along_axis(logits, np.where(labels == 255, 0, labels)[..., None].astype("int64"), axis=-1)
    return np.log(np.exp(logits).sum(-1)) - own[..., 0]


def test_channel_resolution_takes_the_weight_of_the_nearest_pixel():
    mask = draw_mask()
    weight = np.random.default_rng(3).uniform(0, 2, mask.shape).astype("float32")
    maps = outputs_of(mask)["channel_resolution"]
    labels, weights = np.full((2, 64, 64), 255, "uint8"), np.zeros((2, 64, 64))
    labels[:, :33, :47], weights[:, :33, :47] = mask, weight
    labels, weights = labels[:, 8::16, 8::16], weights[:, 8::16, 8::16]
    valid = labels != 255
    expected = (cross_entropies(maps, labels) * weights)[valid].sum() / valid.sum()
    loss = losses.ExFuseLoss(channel_resolution_weight=0.5)
    term = loss.auxiliary(mask, {"channel_resolution": maps}, sample_weight=weight[..., None])
    assert float(term) == pytest.approx(0.5 * expected, rel=1e-5)


def test_semantic_supervision_takes_the_mean_weight_of_the_labelled_pixels():
    mask = draw_mask(num_classes=3)
    weight = np.random.default_rng(3).uniform(0, 2, mask.shape).astype("float32")
    heads = outputs_of(mask)["semantic_supervision"]
    presence = as_numpy(losses.class_presence(mask, 4))
    by_image = np.array([each[labels != 255].mean() for each, labels in zip(weight, mask, strict=True)])
    values = [
        functional.binary_cross_entropy_with_logits(
            torch.tensor(head), torch.tensor(presence), reduction="none"
        ).mean(-1)
        for head in heads
    ]
    expected = np.mean([(value.numpy() * by_image).mean() for value in values])
    loss = losses.ExFuseLoss(semantic_supervision_weight=2.0)
    term = loss.auxiliary(mask, {"semantic_supervision": heads}, sample_weight=weight)
    assert float(term) == pytest.approx(2.0 * expected, rel=1e-5)


def test_an_image_without_labels_teaches_nothing():
    mask = draw_mask()
    mask[1] = 255
    outputs = outputs_of(mask)
    alone = {
        name: [head[:1] for head in value] if isinstance(value, list | tuple) else value[:1]
        for name, value in outputs.items()
    }
    loss = losses.ExFuseLoss()
    assert float(loss(mask, outputs)) == pytest.approx(float(loss(mask[:1], alone)), rel=1e-5)


@pytest.mark.parametrize("resolution", ["map", "image"])
@pytest.mark.parametrize("shape", [(2,), (2, 1), (2, 1, 1), (2, 33, 47), (2, 33, 47, 1)])
def test_weights_of_zero_give_zero_with_all_terms(shape, resolution):
    mask = draw_mask()
    outputs = outputs_of(mask)
    loss = losses.ExFuseLoss(semantic_supervision_weight=1.0, label_resolution=resolution)
    assert float(loss(mask, outputs, sample_weight=np.zeros(shape, "float32"))) == 0.0
    twice = float(loss(mask, outputs, sample_weight=np.full(shape, 2.0, "float32")))
    assert twice == pytest.approx(2 * float(loss(mask, outputs)), rel=1e-5)


# === The ignored class ===


@pytest.mark.parametrize("resolution", ["map", "image"])
@pytest.mark.parametrize(
    "segmentation",
    [
        losses.CrossEntropy(ignore_class=0),
        losses.WeightedSum([losses.CrossEntropy(ignore_class=0), losses.Dice(ignore_class=0)]),
        MeanOverDevices(losses.CrossEntropy(ignore_class=0)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_all_terms_ignore_what_the_segmentation_loss_ignores(segmentation, resolution):
    mask = np.zeros((2, 33, 47), "uint8")
    loss = losses.ExFuseLoss(segmentation=segmentation, label_resolution=resolution)
    assert loss.ignore_class == 0 and rebuild(loss).ignore_class == 0
    assert float(loss(mask, outputs_of(mask))) == 0.0


def test_the_ignored_class_of_a_loss_without_one():
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert losses.ExFuseLoss(segmentation=theirs).ignore_class == 255
    assert losses.ExFuseLoss(segmentation=theirs, ignore_class=11).ignore_class == 11
    loss = losses.ExFuseLoss(ignore_class=np.int64(11))
    assert loss.ignore_class == loss.segmentation.ignore_class == 11
    with pytest.raises(
        ValueError, match="ignore_class=0, and a segmentation loss with ignore_class=255. Leave"
    ):
        losses.ExFuseLoss(segmentation=losses.CrossEntropy(), ignore_class=0)


def test_round_trip_with_a_loss_of_ones_own():
    loss = losses.ExFuseLoss(
        segmentation=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        channel_resolution_weight=0.3,
        label_resolution="image",
    )
    again = rebuild(loss)
    assert again.get_config() == loss.get_config()
    assert isinstance(again.segmentation, keras.losses.SparseCategoricalCrossentropy)


def test_errors():
    with pytest.raises(ValueError, match="`channel_resolution_weight` must be a number of at least 0"):
        losses.ExFuseLoss(channel_resolution_weight=-1)
    with pytest.raises(ValueError, match="`label_resolution` must be one of.*'half'"):
        losses.ExFuseLoss(label_resolution="half")
