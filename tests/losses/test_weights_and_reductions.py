"""Weights of images and pixels, Keras's reductions, and the ignored class: against plain numpy."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_exfuse import losses
from keras_exfuse.losses._pixels import per_pixel_weight
from tests.helpers import as_numpy, random_maps, rebuild

CLASSES = 4
CLASS_WEIGHTS = np.array([0.5, 2.0, 1.0, 0.1])
MEANS = ["sum_over_batch_size", "mean", "mean_with_sample_weight"]


def draw(seed=0, shape=(3, 4, 5), ignore_class=255):
    """Masks with some ignored pixels, logits, and weights of the pixels, some of them 0."""
    generator = np.random.default_rng(seed)
    mask = generator.integers(0, CLASSES, shape).astype("int32")
    mask[generator.random(shape) < 0.2] = ignore_class
    weight = generator.uniform(0, 3, shape) * (generator.random(shape) < 0.8)
    return mask, 2 * random_maps((*shape, CLASSES), seed=seed + 1), weight.astype("float32")


def log_probabilities(logits):
    logits = logits.astype("float64")
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def terms(mask, logits, weight, class_weights=None, ignore_class=255):
    """Of each pixel sample weight * class weight * cross-entropy, and the class weight; 0 where it is ignored."""
    valid = mask != ignore_class
    labels = np.where(valid, mask, 0)
    values = -np.take_along_axis(log_probabilities(logits), labels[..., None], axis=-1)[..., 0]
    of_class = valid * (1.0 if class_weights is None else class_weights[labels])
    return values * of_class * weight, of_class


SHAPES = {
    "(B,)": lambda image: image,
    "(B, 1)": lambda image: image[:, None],
    "(B, 1, 1)": lambda image: image[:, None, None],
    "(B, H, W)": lambda image: np.broadcast_to(image[:, None, None], (3, 4, 5)),
    "(B, H, W, 1)": lambda image: np.broadcast_to(image[:, None, None, None], (3, 4, 5, 1)),
}
KINDS = {
    "cross_entropy": lambda **kwargs: losses.CrossEntropy(**kwargs),
    "weighted": lambda **kwargs: losses.CrossEntropy(class_weights=CLASS_WEIGHTS, **kwargs),
    "ohem": lambda **kwargs: losses.CrossEntropy(ohem_ratio=0.4, **kwargs),
    "focal": lambda **kwargs: losses.Focal(**kwargs),
    "dice": lambda **kwargs: losses.Dice(**kwargs),
    "lovasz": lambda **kwargs: losses.LovaszSoftmax(**kwargs),
    "sum": lambda **kwargs: losses.WeightedSum([losses.CrossEntropy(**kwargs), losses.Dice(**kwargs)]),
    "exfuse": lambda **kwargs: losses.ExFuseLoss(**kwargs),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_shape_of_weights_of_images_says_the_same(kind, shape):
    mask, logits, _ = draw()
    image_weight, loss = np.array([0.5, 0.0, 2.0], "float32"), KINDS[kind]()
    expected = float(loss(mask, logits, sample_weight=SHAPES["(B, H, W)"](image_weight)))
    weight = SHAPES[shape](image_weight)
    assert float(loss(mask, logits, sample_weight=weight)) == pytest.approx(expected, rel=1e-6)
    assert float(loss(mask[..., None], logits, sample_weight=weight)) == pytest.approx(expected, rel=1e-6)
    assert expected != pytest.approx(float(loss(mask, logits)), rel=1e-3)


def test_weights_of_images_are_no_weights_of_columns():
    """As many images as columns: Keras alone would multiply the last axis."""
    mask, logits, _ = draw(shape=(3, 4, 3))
    weight = np.array([1.0, 2.0, 5.0], "float32")
    values, count = terms(mask, logits, weight[:, None, None])
    assert float(losses.CrossEntropy()(mask, logits, sample_weight=weight)) == pytest.approx(
        values.sum() / count.sum(), rel=1e-5
    )


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), weighted=st.booleans())
def test_reductions_by_their_formulas(seed, weighted):
    mask, logits, weight = draw(seed)
    class_weights = CLASS_WEIGHTS if weighted else None
    values, count = terms(mask, logits, weight, class_weights)
    expected = {
        "sum_over_batch_size": values.sum() / count.sum(),
        "mean": values.sum() / count.sum(),
        "mean_with_sample_weight": values.sum() / (count * weight).sum(),
        "sum": values.sum(),
        "none": values,
        None: values,
    }
    for reduction, value in expected.items():
        loss = losses.CrossEntropy(class_weights=class_weights, reduction=reduction)
        result = as_numpy(rebuild(loss)(mask, logits, sample_weight=weight))
        np.testing.assert_allclose(result, value, rtol=1e-4, atol=1e-6, err_msg=str(reduction))


@pytest.mark.parametrize("reduction", [*MEANS, "sum"])
@pytest.mark.parametrize("weighted", [False, True])
def test_reductions_are_keras_own(weighted, reduction):
    """Keras's cross-entropy of the same ignored class is the oracle."""
    mask, logits, weight = draw()
    arguments = {"ignore_class": 255, "reduction": reduction}
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True, **arguments)
    sample_weight = weight if weighted else None
    result = float(losses.CrossEntropy(**arguments)(mask, logits, sample_weight=sample_weight))
    assert result == pytest.approx(float(theirs(mask, logits, sample_weight=sample_weight)), rel=1e-5)


def test_a_sum_leaves_ignored_pixels_out():
    loss = losses.CrossEntropy(reduction="sum")
    assert float(loss(np.array([[[0, 255]]]), np.zeros((1, 1, 2, 2), "float32"))) == pytest.approx(np.log(2))


def test_hard_pixels_are_ranked_with_their_weights():
    mask, logits, weight = draw()
    values, count = terms(mask, logits, weight)
    ranked = np.sort(values[mask != 255])[::-1]
    hardest = ranked[: int(np.ceil(0.4 * count.sum()))]
    assert float(KINDS["ohem"]()(mask, logits, sample_weight=weight)) == pytest.approx(
        hardest.mean(), rel=1e-5
    )


@pytest.mark.parametrize("kind", ["dice", "lovasz"])
def test_a_pixel_of_weight_three_is_three_pixels(kind):
    """Losses of regions: whole weights repeat pixels, and a common factor changes nothing."""
    mask, logits, _ = draw(shape=(1, 1, 12))
    weight = np.random.default_rng(1).integers(0, 4, 12)
    loss = KINDS[kind]()
    expected = float(loss(np.repeat(mask, weight, axis=2), np.repeat(logits, weight, axis=2)))
    for factor in (1.0, 0.25):
        given_weight = (factor * weight).reshape(1, 1, 12).astype("float32")
        assert float(loss(mask, logits, sample_weight=given_weight)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("reduction", [*MEANS, "sum"])
@pytest.mark.parametrize("kind", ["cross_entropy", "weighted", "ohem", "focal", "dice", "lovasz"])
def test_weights_of_zero_give_zero(kind, reduction):
    mask, logits, _ = draw()
    loss = KINDS[kind](reduction=reduction)
    assert float(loss(mask, logits, sample_weight=np.zeros(3, "float32"))) == 0.0


@pytest.mark.parametrize("ignore_class", [0, 3, 11, -1, 255])
@pytest.mark.parametrize("kind", KINDS)
def test_the_ignored_class_may_be_any(kind, ignore_class):
    mask, logits, _ = draw(ignore_class=ignore_class)
    loss = (
        rebuild(KINDS[kind](ignore_class=ignore_class))
        if kind != "sum"
        else KINDS[kind](ignore_class=ignore_class)
    )
    assert loss.ignore_class == ignore_class
    other = logits + 5.0 * (mask == ignore_class)[..., None] * random_maps(logits.shape, seed=9)
    assert float(loss(mask, other)) == pytest.approx(float(loss(mask, logits)), rel=1e-5)
    assert float(loss(np.full_like(mask, ignore_class), logits)) == 0.0


def test_losses_of_others_in_a_sum_take_weights_too():
    mask, logits, weight = draw(ignore_class=3)
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    values, _ = terms(mask, logits, weight, ignore_class=None)
    own = float(losses.CrossEntropy()(mask, logits, sample_weight=weight))
    assert own == pytest.approx(values.mean(), rel=1e-5)
    both = losses.WeightedSum([losses.CrossEntropy(), theirs], weights=[1.0, 0.5])
    assert float(both(mask, logits, sample_weight=weight)) == pytest.approx(1.5 * own, rel=1e-5)

    def of_images(mask, logits):
        return keras.ops.mean(logits**2, axis=(1, 2, 3))

    expected = np.mean(np.mean(logits**2, axis=(1, 2, 3)) * weight.mean(axis=(1, 2)))
    for function in (of_images, lambda mask, logits: logits[..., 0]):
        if function is not of_images:
            expected = np.mean(logits[..., 0] * weight)
        total = losses.WeightedSum([function])(mask, logits, sample_weight=weight)
        assert float(total) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("ignored", [False, True])
def test_losses_of_others_in_a_sum_keep_their_ignored_class(ignored):
    mask, logits, weight = draw()
    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    sample_weight = weight if ignored else None
    total = losses.WeightedSum([theirs])
    assert total.ignore_class == 255
    assert float(total(mask, logits, sample_weight=sample_weight)) == pytest.approx(
        float(theirs(mask, logits, sample_weight=sample_weight)), rel=1e-6
    )


def test_weights_of_pixels():
    mask = np.zeros((2, 3, 4), "uint8")
    assert per_pixel_weight(None, mask) is None
    weight = per_pixel_weight(np.array([1, 2]), mask[..., None])
    np.testing.assert_array_equal(as_numpy(weight), np.repeat([1.0, 2.0], 12).reshape(2, 3, 4))
    np.testing.assert_array_equal(as_numpy(per_pixel_weight(0.5, mask)), np.full((2, 3, 4), 0.5))


@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 3, 1), (2, 4, 3), (2, 3, 4, 2), (1, 2, 3, 4, 1)])
def test_weights_of_other_shapes_are_refused(shape):
    mask, logits = np.zeros((2, 3, 4), "int32"), np.zeros((2, 3, 4, 2), "float32")
    text = r"`sample_weight` of shape \(2,\), \(2, 1\) or \(2, 1, 1\) to weigh images, or \(2, 3, 4\)"
    for loss in (losses.CrossEntropy(), losses.Dice(), losses.ExFuseLoss()):
        with pytest.raises(ValueError, match=text):
            loss(mask, logits, sample_weight=np.ones(shape, "float32"))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow forgets sides and ranks")
@pytest.mark.parametrize("known", ["rank", "nothing"])
@pytest.mark.parametrize("shape", SHAPES)
def test_in_a_graph_of_unknown_sides(shape, known):
    import tensorflow as tf

    mask, logits, _ = draw()
    weight = SHAPES[shape](np.array([0.5, 0.0, 2.0], "float32")).astype("float32")
    sides = [None] * weight.ndim if known == "rank" else None
    signature = [
        tf.TensorSpec([None] * 3, tf.int32),
        tf.TensorSpec([None, None, None, CLASSES], tf.float32),
        tf.TensorSpec(sides, tf.float32),
    ]
    for loss in (losses.CrossEntropy(), losses.Dice()):
        result = tf.function(loss, signature)(mask, logits, weight)
        assert float(result) == pytest.approx(float(loss(mask, logits, weight)), rel=1e-6)


# === What does not agree ===


@pytest.mark.parametrize("kind", KINDS)
def test_a_transposed_mask_is_refused(kind):
    logits = np.zeros((1, 4, 2, 3), "float32")
    for mask, shape in (
        (np.zeros((1, 2, 4), "int32"), r"\(1, 2, 4\)"),
        (np.zeros((1, 8), "int32"), r"\(1, 8\)"),
    ):
        text = (
            rf"expected a mask of shape \(1, 4, 2\).*logits of shape \(1, 4, 2, 3\).*Received shape {shape}"
        )
        with pytest.raises(ValueError, match=text):
            KINDS[kind]()(mask, logits)


@pytest.mark.parametrize("label", [5, -7])
@pytest.mark.parametrize("kind", KINDS)
def test_a_label_that_is_no_class_is_refused(kind, label):
    mask = np.array([[[0, label]]])
    text = rf"labels 0..2 and 255 \(ignored\), since the logits have 3 classes. Received also: \[{label}\]"
    with pytest.raises(ValueError, match=text):
        KINDS[kind]()(mask, np.zeros((1, 1, 2, 3), "float32"))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: losses.CrossEntropy(ignore_class=None), "`ignore_class` must be an int; .*-1"),
        (lambda: losses.Dice(ignore_class=2.0), "`ignore_class` must be an int"),
        (
            lambda: losses.WeightedSum([losses.CrossEntropy(ignore_class=0), losses.Dice()]),
            r"must ignore the same class. Received: ignore_class of \[0, 255\]",
        ),
        (
            lambda: losses.WeightedSum([losses.CrossEntropy(reduction="none")]),
            r"must give one number. Received CrossEntropy\(reduction='none'\)",
        ),
    ],
)
def test_mistakes_are_named(make, text):
    with pytest.raises(ValueError, match=text):
        make()
