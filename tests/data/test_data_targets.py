"""Targets of the auxiliary losses, and the adapter for keras-cv's dictionaries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.backend_independent

tf = pytest.importorskip("tensorflow")

from keras_exfuse import data  # noqa: E402


def random_masks(seed, shape, num_classes):
    random = np.random.default_rng(seed)
    mask = random.integers(0, num_classes, shape).astype(np.uint8)
    mask[random.random(shape) < 0.3] = 255
    return mask


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    num_classes=st.integers(2, 254),
)
def test_presence_is_what_a_set_says(seed, shape, num_classes):
    mask = random_masks(seed, shape, num_classes)
    expected = np.zeros((shape[0], num_classes), np.float32)
    for row, image in zip(expected, mask, strict=True):
        row[sorted(set(image.ravel().tolist()) - {255})] = 1
    np.testing.assert_array_equal(data.class_presence(mask, num_classes), expected)
    np.testing.assert_array_equal(data.class_presence_tf(mask, num_classes), expected)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 40), st.integers(1, 40)),
    size=st.tuples(st.integers(1, 50), st.integers(1, 50)),
)
def test_resized_labels_are_the_nearest_ones(seed, shape, size):
    mask = random_masks(seed, shape, 21)
    resized = data.resized_labels(mask, size)
    # An independent oracle in exact fractions: the pixel of the source that holds the target's center.
    from fractions import Fraction

    def pick(old, new):
        return [int(Fraction(2 * i + 1, 2) * old / new) for i in range(new)]

    expected = mask[:, pick(shape[1], size[0])][:, :, pick(shape[2], size[1])]
    np.testing.assert_array_equal(resized, expected)
    np.testing.assert_array_equal(data.resized_labels_tf(mask, size), expected)
    assert set(np.unique(resized)) <= set(np.unique(mask))


def test_a_mask_that_is_all_void_has_no_class_and_stays_void():
    mask = np.full((2, 8, 8), 255, np.uint8)
    assert data.class_presence(mask, 21).sum() == 0
    assert (data.resized_labels(mask, (3, 3)) == 255).all()


def test_presence_refuses_what_is_no_mask():
    with pytest.raises(ValueError, match="integer mask, got float32"):
        data.class_presence(np.zeros((2, 2), np.float32), 3)
    with pytest.raises(ValueError, match=r"0\.\.2 or 255, got 3"):
        data.class_presence(np.full((2, 2), 3), 3)
    for presence in (data.class_presence, data.class_presence_tf):  # 255 is no class.
        with pytest.raises(ValueError, match=r"num_classes must lie in 1\.\.255, got 256"):
            presence(np.full((2, 2), 255), 256)


def test_keras_cv_dictionaries_become_pairs():
    images = np.zeros((4, 6, 7, 3), np.float32)
    masks = random_masks(0, (4, 6, 7, 1), 5)
    for stored in (masks, masks.astype(np.float32), masks.astype(np.int16)):
        pairs = data.from_segmentation_dictionaries({"images": images, "segmentation_masks": stored})
        np.testing.assert_array_equal(pairs[1], masks[..., 0])
        dataset = tf.data.Dataset.from_tensor_slices({"images": images, "segmentation_masks": stored}).batch(
            2
        )
        for image, mask in data.from_segmentation_dictionaries(dataset):
            assert image.shape == (2, 6, 7, 3) and mask.shape == (2, 6, 7) and mask.dtype == tf.uint8


def test_a_keras_cv_mask_of_small_integers():
    masks = np.array([[[[0], [3]], [[127], [1]]]], np.int8)
    batch = {"images": np.zeros((1, 2, 2, 3)), "segmentation_masks": masks}
    np.testing.assert_array_equal(data.from_segmentation_dictionaries(batch)[1], masks[..., 0])


def test_keras_cv_dictionaries_train_a_model():
    import keras

    model = keras.Sequential([keras.Input((6, 7, 3)), keras.layers.Conv2D(5, 1)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    model.compile(optimizer="sgd", loss=loss)
    images, masks = np.zeros((4, 6, 7, 3), np.float32), random_masks(0, (4, 6, 7, 1), 5).astype(np.float32)
    batches = tf.data.Dataset.from_tensor_slices({"images": images, "segmentation_masks": masks}).batch(2)
    history = model.fit(data.from_segmentation_dictionaries(batches), epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_keras_cv_dictionaries_with_mistakes():
    with pytest.raises(ValueError, match="'segmentation_masks', got .*'labels'.*segmentation_masks missing"):
        data.from_segmentation_dictionaries({"images": 1, "labels": 2})
    wrong = {"images": np.zeros((1, 2, 2, 3)), "segmentation_masks": np.full((1, 2, 2, 1), 1.5)}
    with pytest.raises(ValueError, match="keras_exfuse data error: a mask holds fractions"):
        data.from_segmentation_dictionaries(wrong)
    for label in (-2, 300):
        for kind in (np.int32, np.float32):
            masks = np.full((1, 2, 2, 1), label, kind)
            with pytest.raises(ValueError, match="data error: a mask holds labels outside 0..255"):
                data.from_segmentation_dictionaries(
                    {"images": np.zeros((1, 2, 2, 3)), "segmentation_masks": masks}
                )
