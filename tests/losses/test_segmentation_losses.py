"""Pixel and region losses against PyTorch and plain numpy, and what must never change them."""

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_exfuse import losses
from tests.helpers import as_numpy, random_maps, rebuild

CLASSES = 4
WEIGHTS = [0.5, 2.0, 1.0, 0.1]
LOSSES = {
    "cross_entropy": losses.CrossEntropy(),
    "weighted": losses.CrossEntropy(class_weights=WEIGHTS),
    "smoothed": losses.CrossEntropy(class_weights=WEIGHTS, label_smoothing=0.2),
    "hardest": losses.CrossEntropy(ohem_ratio=0.3),
    "focal": losses.Focal(class_weights=WEIGHTS),
    "focal_root": losses.Focal(gamma=0.5),
    "dice": losses.Dice(),
    "lovasz": losses.LovaszSoftmax(),
    "sum": losses.WeightedSum([losses.CrossEntropy(), losses.Dice()], weights=[1.0, 0.5]),
}


def draw(seed=0, classes_present=CLASSES, scale=3.0, shape=(2, 9, 11)):
    """A mask with some ignored pixels, and logits."""
    generator = np.random.default_rng(seed)
    mask = generator.integers(0, classes_present, shape, dtype="uint8")
    mask[generator.random(shape) < 0.2] = 255
    return mask, scale * random_maps((*shape, CLASSES), seed=seed + 1)


def counted(mask, logits):
    """Labels (N,) and probabilities (N, C) of the pixels that count, float64."""
    chosen = logits[mask != 255].astype("float64")
    powers = np.exp(chosen - chosen.max(axis=-1, keepdims=True))
    return mask[mask != 255], powers / powers.sum(axis=-1, keepdims=True)


def torch_cross_entropy(mask, logits, **arguments):
    logits, mask = torch.tensor(logits.transpose(0, 3, 1, 2)), torch.tensor(mask.astype("int64"))
    return functional.cross_entropy(logits, mask, ignore_index=255, **arguments)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_is_torchs(weights, smoothing):
    mask, logits = draw()
    loss = losses.CrossEntropy(class_weights=weights, label_smoothing=smoothing)
    weight = None if weights is None else torch.tensor(weights)
    expected = torch_cross_entropy(mask, logits, weight=weight, label_smoothing=smoothing).item()
    assert float(loss(mask, logits)) == pytest.approx(expected, abs=1e-5)
    assert float(loss(mask[..., None], logits)) == pytest.approx(expected, abs=1e-5)


def test_hard_examples_are_those_of_the_greatest_loss():
    mask, logits = draw()
    values = np.sort(torch_cross_entropy(mask, logits, reduction="none").numpy()[mask != 255])[::-1]
    hardest = values[: int(np.ceil(0.3 * len(values)))]
    assert float(LOSSES["hardest"](mask, logits)) == pytest.approx(hardest.mean(), abs=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_by_its_formula(gamma):
    mask, logits = draw()
    labels, probabilities = counted(mask, logits)
    own = probabilities[np.arange(len(labels)), labels]
    weights = np.asarray(WEIGHTS)[labels]
    expected = (-weights * (1 - own) ** gamma * np.log(own)).sum() / weights.sum()
    loss = losses.Focal(gamma=gamma, class_weights=WEIGHTS)
    assert float(loss(mask, logits)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("classes_present", [CLASSES, 2])
def test_dice_by_its_formula(classes_present):
    mask, logits = draw(classes_present=classes_present)
    labels, probabilities = counted(mask, logits)
    values = []
    for label in range(classes_present):
        truth, probability = labels == label, probabilities[:, label]
        values.append(1 - 2 * probability[truth].sum() / (probability.sum() + truth.sum()))
    assert float(losses.Dice()(mask, logits)) == pytest.approx(np.mean(values), abs=1e-5)


@pytest.mark.parametrize("classes_present", [CLASSES, 2])
def test_lovasz_by_the_iou_of_growing_sets(classes_present):
    """The extension from its definition: errors in descending order, each times what it adds to 1 - IoU."""
    mask, logits = draw(classes_present=classes_present, shape=(1, 7, 9))
    labels, probabilities = counted(mask, logits)
    values = []
    for label in range(classes_present):
        truth = labels == label
        errors = np.abs(truth - probabilities[:, label])
        wrong, before, value = np.zeros(len(labels), bool), 0.0, 0.0
        for pixel in np.argsort(-errors):
            wrong[pixel] = True
            predicted = truth ^ wrong
            after = 1 - (truth & predicted).sum() / (truth | predicted).sum()
            value, before = value + errors[pixel] * (after - before), after
        values.append(value)
    assert float(losses.LovaszSoftmax()(mask, logits)) == pytest.approx(np.mean(values), abs=1e-5)


def test_a_sum_is_the_sum():
    mask, logits = draw()
    expected = float(losses.CrossEntropy()(mask, logits)) + 0.5 * float(losses.Dice()(mask, logits))
    assert float(LOSSES["sum"](mask, logits)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_ignored_pixels_change_nothing(name, seed):
    mask, logits = draw(seed)
    other = logits.copy()
    other[mask == 255] = random_maps(((mask == 255).sum(), CLASSES), seed=seed + 2)
    assert float(LOSSES[name](mask, other)) == pytest.approx(float(LOSSES[name](mask, logits)), rel=1e-5)


def value_and_gradient(loss, mask, logits):
    """The loss and its gradient by the logits, by each backend's own means."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        logits = tf.convert_to_tensor(logits)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(mask, logits)
        return as_numpy(value), as_numpy(tape.gradient(value, logits))
    if backend == "jax":
        import jax

        value, gradient = jax.value_and_grad(lambda x: loss(mask, x))(jax.numpy.asarray(logits))
        return np.asarray(value), np.asarray(gradient)
    logits = torch.tensor(logits, requires_grad=True)
    value = loss(torch.tensor(mask), logits)
    value.backward()
    return value.detach().numpy(), logits.grad.numpy()


HARD_CASES = {
    "every pixel ignored": lambda mask, logits: (np.full_like(mask, 255), logits),
    "one class absent": lambda mask, logits: (np.where(mask == 1, 0, mask).astype("uint8"), logits),
    "float16": lambda mask, logits: (mask, logits.astype("float16")),
    "sure and wrong": lambda mask, logits: (mask, 1e4 * logits),
    "sure and right": lambda mask, logits: (mask, 1e4 * np.eye(256, dtype="float32")[mask][..., :CLASSES]),
}


@pytest.mark.parametrize("case", HARD_CASES)
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_finite(name, case):
    mask, logits = HARD_CASES[case](*draw())
    value, gradient = value_and_gradient(LOSSES[name], mask, logits)
    assert np.isfinite(value) and value.dtype == "float32"
    assert np.isfinite(gradient).all() and gradient.shape == logits.shape
    if case == "every pixel ignored":
        assert value == 0 and not gradient.any()
    if case in ("one class absent", "float16"):
        assert gradient[mask != 255].any() and not gradient[mask == 255].any()


@pytest.mark.parametrize("name", LOSSES)
def test_a_saved_loss_is_the_same(name):
    mask, logits = draw()
    assert float(rebuild(LOSSES[name])(mask, logits)) == float(LOSSES[name](mask, logits))


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum"])
def test_losses_of_others_keep_their_reduction_in_a_sum(reduction):
    mask = draw()[0] % CLASSES
    logits = draw()[1]
    other = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    both = losses.WeightedSum([losses.CrossEntropy(), other], weights=[1.0, 0.5])
    expected = float(losses.CrossEntropy()(mask, logits)) + 0.5 * float(other(mask, logits))
    assert float(both(mask, logits)) == pytest.approx(expected, rel=1e-5)
    alone = losses.WeightedSum([other, lambda mask, logits: keras.ops.mean(logits**2, axis=(1, 2, 3))])
    assert float(alone(mask, logits)) == pytest.approx(
        float(other(mask, logits)) + np.mean(logits**2), rel=1e-5
    )


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: losses.CrossEntropy(ohem_ratio=0), "`ohem_ratio` must be more than 0"),
        (lambda: losses.CrossEntropy(label_smoothing=2), "`label_smoothing` must be a number from 0 to 1"),
        (lambda: losses.Focal(gamma=-1), "`gamma` must be a number from 0"),
        (lambda: losses.CrossEntropy(class_weights=[-1]), "`class_weights` must be numbers of at least 0"),
        (lambda: losses.WeightedSum([]), "at least one loss"),
        (lambda: losses.Focal(class_weights=[1.0])(*draw()), "has 1 numbers, but the logits have 4 classes"),
    ],
)
def test_mistakes_are_named(make, text):
    with pytest.raises(ValueError, match=text):
        make()
