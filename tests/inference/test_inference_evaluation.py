"""Evaluation and resizing against plain loops and the backend's own resize."""

import keras
import numpy as np
import pytest

from keras_exfuse.inference import evaluate
from keras_exfuse.inference.evaluation import confusion
from keras_exfuse.inference.resizing import resize


def naive_iou(pairs, num_classes):
    """Intersection over union over all images, by sets of pixels."""
    intersection, union = [0] * num_classes, [0] * num_classes
    for truth, labels in pairs:
        for label in range(num_classes):
            true, guessed = (truth == label), (labels == label) & (truth != 255)
            intersection[label] += (true & guessed).sum()
            union[label] += (true | guessed).sum()
    return np.array([i / u if u else np.nan for i, u in zip(intersection, union, strict=True)])


@pytest.fixture
def pairs():
    random = np.random.default_rng(0)
    sizes = [(20, 30), (31, 17), (8, 50)]
    truths = [random.choice([0, 1, 2, 4, 255], size) for size in sizes]  # Class 3 occurs nowhere.
    images = [np.repeat(random.choice([0, 1, 2, 4], size)[..., None], 3, axis=-1) for size in sizes]
    return list(zip(images, truths, strict=True))


def test_evaluation_agrees_with_sets_of_pixels(pairs):
    result = evaluate(lambda image: image[..., 0], pairs, 5, ["a", "b"])
    expected = naive_iou([(truth, image[..., 0]) for image, truth in pairs], 5)
    np.testing.assert_allclose(result.iou, expected)
    assert np.isnan(result.iou[3])
    assert result.mean_iou() == pytest.approx(np.nanmean(expected))
    assert result.mean_iou([0, 4]) == pytest.approx(expected[[0, 4]].mean())
    assert np.isnan(result.mean_iou([3]))
    assert result.num_images == 3
    assert result.class_names == ("a", "b", "class 2", "class 3", "class 4")
    assert result.counts.sum() == sum((truth != 255).sum() for _, truth in pairs)
    right = sum((truth == image[..., 0]).sum() for image, truth in pairs)
    assert result.pixel_accuracy == pytest.approx(right / result.counts.sum())
    assert result.to_dict([0, 4])["iou"]["class 3"] is None


def test_print_gives_a_table(pairs):
    result = evaluate(lambda image: image[..., 0], pairs, 5, ["sky", "a long name"])
    text = str(result)
    assert repr(result) == text and "array" not in text
    lines = text.splitlines()
    assert lines[0].split() == ["class", "IoU", "accuracy", "share", "of", "pixels"]
    assert len({len(line) for line in lines[:-1]}) == 1  # In columns.
    share = (np.concatenate([truth.ravel() for _, truth in pairs]) == 1).sum() / result.counts.sum()
    right = result.counts[1, 1] / result.counts[1].sum()
    assert lines[2].split() == [
        "a",
        "long",
        "name",
        f"{result.iou[1]:.3f}",
        f"{right:.3f}",
        f"{100 * share:.1f}",
        "%",
    ]
    assert lines[4].split() == ["class", "3", "-", "-", "0.0", "%"]
    assert (
        lines[-1] == f"mean IoU {result.mean_iou():.3f}, pixel accuracy {result.pixel_accuracy:.3f}, 3 images"
    )


def test_rows_are_the_truth():
    np.testing.assert_array_equal(
        confusion(np.array([[0, 0, 1]]), np.array([[0, 1, 1]]), 2), [[1, 1], [0, 1]]
    )


def test_mistakes_are_explained(pairs):
    with pytest.raises(ValueError, match="label 4, but the model has 3 classes"):
        evaluate(lambda image: image[..., 0] % 3, pairs, 3)
    with pytest.raises(ValueError, match="differ in size"):
        evaluate(lambda image: image[..., 0].T, pairs, 5)
    with pytest.raises(ValueError, match="no image"):
        evaluate(lambda image: image[..., 0], [], 5)
    result = evaluate(lambda image: image[..., 0], pairs, 5)
    for classes in ([5], [], [-1]):
        with pytest.raises(ValueError, match=r"within 0\.\.4"):
            result.mean_iou(classes)


@pytest.mark.parametrize("size", [(7, 5), (12, 10), (3, 40), (1, 1)])
def test_resize_agrees_with_the_backend(size):
    maps = np.random.default_rng(0).random((2, 7, 5, 3)).astype("float32")
    expected = keras.ops.image.resize(
        maps, size, interpolation="bilinear", antialias=False, data_format="channels_last"
    )
    np.testing.assert_allclose(resize(maps, *size), keras.ops.convert_to_numpy(expected), atol=1e-6)
