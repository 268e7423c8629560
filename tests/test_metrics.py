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


def interior_accuracy(num_classes, **arguments):
    return metrics.TrimapAccuracy(num_classes, region="interior", **arguments)


KINDS = [
    metrics.ConfusionMatrix,
    metrics.FrequencyWeightedIoU,
    metrics.MeanAccuracy,
    metrics.MeanDice,
    metrics.MeanIoU,
    metrics.PixelAccuracy,
    metrics.TrimapAccuracy,
    interior_accuracy,
]


def numpy_counts(truth, prediction, num_classes, weight=None):
    """The matrix of pixels whose truth is a class; what is predicted to be none is in the last column."""
    weight = np.ones(truth.shape, "int64") if weight is None else weight
    counts = np.zeros((num_classes, num_classes + 1), weight.dtype)
    for t, p, w in zip(truth.ravel(), prediction.ravel(), weight.ravel(), strict=True):
        if 0 <= t < num_classes:
            counts[t, p if 0 <= p < num_classes else num_classes] += w
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
def test_a_prediction_that_is_no_class_is_wrong_and_a_truth_is_not_counted(seed):
    generator = np.random.default_rng(seed)
    truth, prediction = generator.integers(-2, 8, (2, 2, 6, 7), dtype="int32")
    prediction[0, 0, 0] = 255
    matrix, accuracy = metrics.ConfusionMatrix(5), metrics.PixelAccuracy(5)
    for metric in (matrix, accuracy):
        metric.update_state(truth, prediction)
    np.testing.assert_array_equal(matrix.counts(), numpy_counts(truth, prediction, 5))
    labelled = (truth >= 0) & (truth < 5)
    assert float(accuracy.result()) == pytest.approx((truth == prediction)[labelled].mean(), abs=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_scores_that_are_nan_are_wrong(dtype):
    truth, logits = draw(1)
    logits = logits.astype(dtype)
    labels = logits.argmax(-1)
    for label, pixel in enumerate([(0, 0, 0), (0, 1, 1), (1, 2, 3)]):
        truth[pixel] = 0  # The class that the highest score of NaN would be.
        logits[(*pixel, label)] = np.nan
        labels[pixel] = 255
    logits[1, 5, 5] = -np.inf, -np.inf, 1, -np.inf, 0
    labels[1, 5, 5] = 2
    matrix = metrics.ConfusionMatrix(5)
    matrix.update_state(truth, logits)
    np.testing.assert_array_equal(matrix.counts(), numpy_counts(truth, labels, 5))
    assert matrix.counts()[0, 5] >= 3


def test_a_wrong_prediction_of_no_class_is_in_every_score():
    """Against the same pixels predicted to be one more class, which the truth never has."""
    truth, logits = draw(2)
    labels = logits.argmax(-1)
    labels[:, :2] = 255
    for kind, mean_over in ((metrics.PixelAccuracy, None), (metrics.MeanAccuracy, 5), (metrics.MeanIoU, 5)):
        mine, larger = kind(5), kind(6)
        mine.update_state(truth, labels)
        larger.update_state(truth, np.where(labels == 255, 5, labels))
        # The sixth class occurs in the prediction alone: its IoU of 0 enters the larger mean.
        factor = 6 / 5 if kind is metrics.MeanIoU else 1.0
        assert float(mine.result()) == pytest.approx(factor * float(larger.result()), abs=1e-6), mean_over
    counts = metrics.ConfusionMatrix(5)
    counts.update_state(truth, labels)
    np.testing.assert_allclose(
        np.nanmean(metrics.iou_per_class(counts.counts())), float(mine.result()), atol=1e-6
    )


# === Weights ===


WEIGHTS = {
    "(B,)": (2,),
    "(B, 1)": (2, 1),
    "(B, 1, 1)": (2, 1, 1),
    "(B, H, W)": (2, 6, 7),
    "(B, H, W, 1)": (2, 6, 7, 1),
}


@pytest.mark.parametrize("shape", WEIGHTS)
def test_a_pixel_of_some_weight_counts_as_often(shape):
    truth, logits = draw(7)
    weight = np.random.default_rng(1).uniform(0, 3, WEIGHTS[shape]).astype("float32")
    everywhere = np.broadcast_to(weight.reshape(2, *((6, 7) if weight.size > 2 else (1, 1))), truth.shape)
    expected = numpy_counts(truth, logits.argmax(-1), 5, everywhere.astype("float64"))
    matrix, mean_iou = metrics.ConfusionMatrix(5), metrics.MeanIoU(5)
    for metric in (matrix, mean_iou):
        metric.update_state(truth, logits, sample_weight=weight)
    np.testing.assert_allclose(matrix.counts(), expected, rtol=1e-5)
    assert float(mean_iou.result()) == pytest.approx(np.nanmean(metrics.iou_per_class(expected)), rel=1e-5)
    matrix.update_state(truth, logits)
    np.testing.assert_allclose(
        matrix.counts(), expected + numpy_counts(truth, logits.argmax(-1), 5), rtol=1e-5
    )
    matrix.reset_state()
    assert not matrix.counts().any() and matrix.counts().dtype == "int64"


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_zero_and_one_leave_images_out(kind):
    truth, logits = draw(8)
    mine, expected = kind(5), kind(5)
    mine.update_state(truth, logits, sample_weight=np.array([0.0, 1.0]))
    expected.update_state(truth[1:], logits[1:])
    np.testing.assert_allclose(mine.result(), expected.result(), rtol=1e-6)


# === The ignored class, if it is one of the classes ===


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), ignore_class=st.integers(0, 4))
def test_an_ignored_class_within_the_classes_is_torchmetrics(seed, ignore_class):
    truth, logits = draw(seed)
    truth = np.where(truth == 255, 0, truth)
    mine, accuracy = metrics.MeanIoU(5, ignore_class=ignore_class), metrics.PixelAccuracy(5, ignore_class)
    theirs = torchmetrics.JaccardIndex(task="multiclass", num_classes=5, ignore_index=ignore_class)
    for metric in (mine, accuracy):
        metric.update_state(truth, logits)
    theirs.update(torch.tensor(logits.argmax(-1)), torch.tensor(truth.astype("int64")))
    assert float(mine.result()) == pytest.approx(float(theirs.compute()), abs=1e-6)
    counted = truth != ignore_class
    assert float(accuracy.result()) == pytest.approx((logits.argmax(-1) == truth)[counted].mean(), abs=1e-6)


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


@pytest.mark.parametrize("width", [1, 3])
def test_near_boundaries_and_away_from_them(width):
    truth = np.zeros((1, 14, 17), "uint8")
    truth[0, 3:9, 4:12] = 1
    truth[0, 9:11, 4:12] = 255
    prediction = np.random.default_rng(0).integers(0, 2, truth.shape)
    near = np.zeros(truth.shape, bool)
    for row, column in np.ndindex(14, 17):
        around = truth[
            0,
            max(row - width, 0) : row + width + 1,
            max(column - width, 0) : column + width + 1,
        ]
        near[0, row, column] = (around != truth[0, row, column]).any()
    for name, region in (("boundary", near), ("interior", ~near)):
        metric = metrics.TrimapAccuracy(2, region=name, width=width)
        assert metric.name == f"{name}_accuracy"
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
    metric.high.assign(np.full((2, 3), 9, "int32"))
    metric.low.assign(np.full((2, 3), 2**30 - 1, "int32"))
    metric.update_state(np.array([[[1, 0, 255]]]), np.array([[[1, 1, 1]]]))
    expected = 9 * 2**30 + 2**30 - 1 + np.array([[0, 1, 0], [0, 1, 0]])
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
    with pytest.raises(ValueError, match="`width` must be a positive int"):
        metrics.TrimapAccuracy(3, width=0)
    with pytest.raises(ValueError, match="`region` must be one of.*'edge'"):
        metrics.TrimapAccuracy(3, region="edge")
    with pytest.raises(ValueError, match=r"\(classes, classes \+ 1\). Received: shape \(3, 2\)"):
        metrics.iou_per_class(np.zeros((3, 2)))


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_that_do_not_agree_are_refused(kind):
    metric = kind(3)
    for truth, prediction, text in (
        ((1, 4, 2), (1, 2, 4), r"labels \(1, 4, 2\) or logits \(1, 4, 2, 3\). Received: shape \(1, 2, 4\)"),
        ((1, 2, 4), (1, 4, 2, 3), r"logits of shape \(1, 4, 2, 3\). Received shape \(1, 2, 4\)"),
        ((1, 2, 4, 1), (1, 4, 2, 1), r"Received: shape \(1, 4, 2, 1\)"),
        ((2, 4), (1, 2, 4), r"expects logits \(B, H, W, 3\) or labels .*Received: shape \(1, 2, 4\)"),
    ):
        with pytest.raises(ValueError, match=text):
            metric.update_state(np.zeros(truth, "int32"), np.zeros(prediction, "int32"))
    with pytest.raises(ValueError, match=r"`sample_weight` of shape \(1,\).*Received shape \(3,\)"):
        metric.update_state(np.zeros((1, 2, 4)), np.zeros((1, 2, 4)), sample_weight=np.ones(3))


def test_a_number_of_classes_from_numpy():
    assert type(metrics.MeanIoU(np.int64(5)).num_classes) is int


def test_scores_are_better_when_greater():
    """As Keras's callbacks ask; a matrix has no direction."""
    for kind in KINDS:
        expected = None if kind is metrics.ConfusionMatrix else "up"
        assert getattr(kind(3), "_direction", None) == expected
