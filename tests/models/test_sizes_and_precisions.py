"""Any size and batch, under every precision, with and without XLA: finite float32 logits of the right shape."""

import keras
import numpy as np
import pytest

from keras_exfuse import ExFuse
from tests.drawing import draw_by_path, draw_images, run_model
from tests.helpers import as_numpy, random_batch, tiny_backbone

NUM_CLASSES = 3
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")
BACKEND = keras.backend.backend()
# How a model can run: PyTorch has no XLA, JAX without it is its eager mode.
WAYS = {
    "tensorflow": {"graph": {"jit_compile": False}, "xla": {"jit_compile": True}},
    "jax": {"xla": {"jit_compile": True}, "eager": {"run_eagerly": True}},
    "torch": {"eager": {"jit_compile": False}},
}[BACKEND]
PREDICTIONS = [
    # JAX's eager mode compiles every operation by itself, for every size.
    pytest.param(policy, way, marks=[pytest.mark.slow] if (BACKEND, way) == ("jax", "eager") else [])
    for policy in POLICIES
    for way in WAYS
]
# A training step takes XLA long to compile; float16 is where it is known to break.
STEPS = [(policy, next(iter(WAYS))) for policy in POLICIES]
STEPS += [("mixed_float16", "xla")] if BACKEND == "tensorflow" else []


@pytest.fixture
def policy():
    """Sets the global dtype policy during a test."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


def build(**variant):
    return draw_by_path(ExFuse(NUM_CLASSES, backbone=tiny_backbone(), kernel_size=3, **variant))


def assert_good_logits(logits, images):
    assert tuple(logits.shape) == (*images.shape[:3], NUM_CLASSES)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert np.isfinite(as_numpy(logits)).all()


@pytest.mark.parametrize(("name", "way"), PREDICTIONS)
def test_predict_in_every_precision(policy, name, way):
    policy(name)
    model = build()
    model.compile(**WAYS[way])
    for images in (draw_images(1, 33, 47), draw_images(3, 97, 131)):
        assert_good_logits(model.predict(images, batch_size=3, verbose=0), images)


@pytest.mark.parametrize(("name", "way"), STEPS)
def test_training_steps_in_every_precision(policy, name, way):
    policy(name)
    # With all that behaves differently in training: batch statistics and the auxiliary outputs.
    model = build(semantic_supervision=True, embedding_normalization=True)
    model.compile(optimizer=keras.optimizers.SGD(0.01), **WAYS[way])
    images, masks = random_batch(batch=3, height=33, width=47, num_classes=NUM_CLASSES)
    losses = [float(np.ravel(model.train_on_batch(images, masks))[0]) for _ in range(2)]
    assert np.isfinite(losses).all()
    assert all(np.isfinite(as_numpy(weight)).all() for weight in model.weights)


@pytest.mark.parametrize("half", POLICIES[1:])
def test_mixed_precision_is_close_to_float32(policy, half):
    exact = build()
    images = draw_images(1, 33, 47)
    policy(half)
    mixed = build()
    expected, logits = as_numpy(run_model(exact, images)), as_numpy(run_model(mixed, images))
    # A few dozen roundings to 11 or 8 bits.
    tolerance = {"mixed_float16": 0.02, "mixed_bfloat16": 0.2}[half] * np.abs(expected).max()
    assert 0 < np.abs(logits - expected).max() < tolerance


def test_an_image_alone_has_the_logits_that_it_has_in_a_batch_and_as_bytes():
    model = build()
    images = np.round(draw_images(3, 33, 47))
    together = as_numpy(run_model(model, images))
    np.testing.assert_allclose(as_numpy(run_model(model, images[1:2])), together[1:2], atol=1e-4)
    np.testing.assert_allclose(as_numpy(run_model(model, images.astype("uint8"))), together, atol=1e-4)


def test_an_image_of_512_pixels():
    images = draw_images(1, 512, 512)
    assert_good_logits(run_model(build(), images), images)


@pytest.mark.slow
@pytest.mark.parametrize("name", POLICIES)
def test_an_image_of_512_pixels_in_every_precision_with_a_real_backbone(policy, name):
    policy(name)
    model = ExFuse(21, backbone="efficientnet_lite0")
    images = draw_images(3, 512, 512)
    logits = model.predict(images, verbose=0)
    assert logits.shape == (3, 512, 512, 21) and logits.dtype == "float32" and np.isfinite(logits).all()
