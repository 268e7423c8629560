"""Metrics against numpy and torchmetrics."""

import keras
import numpy as np
import pytest
import torch
import torchmetrics
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_exfuse import metrics
from tests.helpers import rebuild

KINDS = [
    metrics.BoundaryAccuracy,
    metrics.ConfusionMatrix,
    metrics.FrequencyWeightedIoU,
    metrics.InteriorAccuracy,
    metrics.MeanAccuracy,
    metrics.MeanDice,
    metrics.MeanIoU,
    metrics.PixelAccuracy,
]


def numpy_counts(truth, prediction, num_classes):
    counts = np.zeros((num_classes, num_classes), "int64")
    for t, p in zip(truth.ravel(), prediction.ravel(), strict=True):
        if t != 255:
            counts[t, p] += 1
    return counts


def draw(seed, num_classes=5, shape=(2, 6, 7)):
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, num_classes, shape, dtype="uint8")
    truth[generator.random(shape) < 0.2] = 255
    logits = generator.normal(size=(*shape, num_classes)).astype("float32")
    return truth, logits


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_from_logits_labels_and_numpy(seed):
    truth, logits = draw(seed)
    matrix, from_labels = metrics.ConfusionMatrix(5), metrics.ConfusionMatrix(5)
    for _ in range(2):
        matrix.update_state(truth, logits)
        from_labels.update_state(truth[..., None], logits.argmax(-1))
    expected = 2 * numpy_counts(truth, logits.argmax(-1), 5)
    np.testing.assert_array_equal(matrix.counts(), expected)
    np.testing.assert_array_equal(from_labels.counts(), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_with_an_axis_of_one(kind):
    truth, logits = draw(5)
    mine, expected = kind(5), kind(5)
    mine.update_state(truth, logits.argmax(-1)[..., None])
    expected.update_state(truth, logits.argmax(-1))
    np.testing.assert_array_equal(mine.counts(), expected.counts())
    with pytest.raises(ValueError, match=r"has 5 classes, and expects logits .*shape \(2, 6, 7, 4\)"):
        mine.update_state(truth, logits[..., :4])


@pytest.mark.parametrize("kind", KINDS)
def test_every_pixel_counts_without_an_ignored_class(kind):
    truth, logits = draw(6)
    truth = np.where(truth == 255, 0, truth)
    mine, expected = kind(5, ignore_class=None), kind(5)
    mine.update_state(truth, logits)
    expected.update_state(truth, logits)
    np.testing.assert_array_equal(mine.counts(), expected.counts())
    assert rebuild(mine).ignore_class is None


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_labels_that_are_no_class_are_in_no_cell(seed):
    generator = np.random.default_rng(seed)
    truth, prediction = generator.integers(-2, 8, (2, 2, 6, 7), dtype="int32")
    matrix = metrics.ConfusionMatrix(5)
    matrix.update_state(truth, prediction)
    inside = (truth >= 0) & (truth < 5) & (prediction >= 0) & (prediction < 5)
    np.testing.assert_array_equal(matrix.counts(), numpy_counts(truth[inside], prediction[inside], 5))


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow has graphs and XLA apart"
)
@pytest.mark.parametrize("xla", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("kind", KINDS)
def test_in_a_graph_with_and_without_xla_and_a_known_size(kind, xla):
    """On a GPU Keras lets XLA compile the whole training step, metrics included."""
    import tensorflow as tf

    truth, logits = draw(3)
    expected = kind(5)
    expected.update_state(truth, logits)
    for sides in (truth.shape[1:], (None, None)):
        metric = kind(5)
        signature = [tf.TensorSpec((2, *sides), tf.uint8), tf.TensorSpec((2, *sides, 5), tf.float32)]
        tf.function(metric.update_state, signature, jit_compile=xla)(truth, logits)
        np.testing.assert_array_equal(metric.result(), expected.result())


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_mean_iou_is_torchmetrics(seed):
    truth, logits = draw(seed)
    mine = metrics.MeanIoU(5)
    mine.update_state(truth, logits)
    theirs = torchmetrics.JaccardIndex(task="multiclass", num_classes=5, ignore_index=255)
    theirs.update(torch.tensor(logits.argmax(-1)), torch.tensor(truth.astype("int64")))
    assert float(mine.result()) == pytest.approx(float(theirs.compute()), abs=1e-6)
    assert float(mine.result()) == pytest.approx(np.nanmean(metrics.iou_per_class(mine.counts())), abs=1e-6)


def test_absent_classes_are_left_out():
    metric = metrics.MeanIoU(21)
    metric.update_state(np.zeros((1, 4, 4), "uint8"), np.zeros((1, 4, 4), "int32"))
    assert float(metric.result()) == 1.0
    assert np.isnan(metrics.iou_per_class(metric.counts())[1:]).all()


def test_pixel_accuracy():
    truth, logits = draw(3)
    metric = metrics.PixelAccuracy(5)
    metric.update_state(truth, logits)
    counted = truth != 255
    expected = (logits.argmax(-1) == truth)[counted].mean()
    assert float(metric.result()) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_other_means_are_torchmetrics(seed):
    truth, logits = draw(seed)
    arguments = {"num_classes": 5, "ignore_index": 255}
    pairs = [
        (metrics.MeanAccuracy(5), torchmetrics.classification.MulticlassAccuracy(**arguments)),
        (metrics.MeanDice(5), torchmetrics.classification.MulticlassF1Score(**arguments)),
        (
            metrics.FrequencyWeightedIoU(5),
            torchmetrics.classification.MulticlassJaccardIndex(**arguments, average="weighted"),
        ),
    ]
    for mine, theirs in pairs:
        mine.update_state(truth, logits)
        theirs.update(torch.tensor(logits.argmax(-1)), torch.tensor(truth.astype("int64")))
        assert float(mine.result()) == pytest.approx(float(theirs.compute()), abs=1e-6), mine.name


@pytest.mark.parametrize("distance", [1, 3])
def test_near_boundaries_and_away_from_them(distance):
    truth = np.zeros((1, 14, 17), "uint8")
    truth[0, 3:9, 4:12] = 1
    truth[0, 9:11, 4:12] = 255
    prediction = np.random.default_rng(0).integers(0, 2, truth.shape)
    near = np.zeros(truth.shape, bool)
    for row, column in np.ndindex(14, 17):
        around = truth[
            0,
            max(row - distance, 0) : row + distance + 1,
            max(column - distance, 0) : column + distance + 1,
        ]
        near[0, row, column] = (around != truth[0, row, column]).any()
    for kind, region in ((metrics.BoundaryAccuracy, near), (metrics.InteriorAccuracy, ~near)):
        metric = kind(2, distance=distance)
        metric.update_state(truth, prediction)
        counted = region & (truth != 255)
        assert 0 < counted.sum() < truth.size
        assert metric.counts().sum() == counted.sum()
        assert float(metric.result()) == pytest.approx((prediction == truth)[counted].mean(), abs=1e-6)


def test_counts_add_up_over_shards():
    truth, logits = draw(5, shape=(4, 6, 7))
    whole, first, second = (metrics.ConfusionMatrix(5) for _ in range(3))
    whole.update_state(truth, logits)
    first.update_state(truth[:1], logits[:1])
    second.update_state(truth[1:], logits[1:])
    np.testing.assert_array_equal(first.counts() + second.counts(), whole.counts())


def test_counts_stay_exact_beyond_32_bits():
    metric = metrics.ConfusionMatrix(2)
    metric.high.assign(np.full((2, 2), 9, "int32"))
    metric.low.assign(np.full((2, 2), 2**30 - 1, "int32"))
    metric.update_state(np.array([[[1, 0, 255]]]), np.array([[[1, 1, 1]]]))
    expected = 9 * 2**30 + 2**30 - 1 + np.array([[0, 1], [0, 1]])
    np.testing.assert_array_equal(metric.counts(), expected)


def test_nothing_but_ignored_pixels():
    metric = metrics.MeanIoU(3)
    metric.update_state(np.full((1, 2, 2), 255), np.zeros((1, 2, 2), "int32"))
    assert float(metric.result()) == 0.0
    metric.reset_state()
    assert metric.counts().sum() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind):
    metric = kind(7, ignore_class=9, name="mine")
    assert rebuild(metric).get_config() == metric.get_config()


def test_errors():
    with pytest.raises(ValueError, match="`num_classes` must be an int of at least 2"):
        metrics.MeanIoU(1)
    with pytest.raises(ValueError, match="`distance` must be a positive int"):
        metrics.BoundaryAccuracy(3, distance=0)
    with pytest.raises(ValueError, match="takes no `sample_weight`. Mark pixels.*label 255"):
        metrics.MeanIoU(3).update_state(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), sample_weight=1.0)
