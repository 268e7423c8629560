"""One tensor of logits, in training too: what the loss needs besides travels with it, and leaks nowhere."""

import concurrent.futures
import gc
import importlib
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_exfuse
from keras_exfuse.models import _attached
from tests.drawing import draw_by_path
from tests.helpers import as_numpy, random_batch, tiny_backbone

BACKEND = keras.backend.backend()
LOOPS = Path(__file__).resolve().parents[2] / "examples" / "training_loops"


def make(num_classes=5, **arguments):
    return draw_by_path(
        keras_exfuse.ExFuse(num_classes, backbone=tiny_backbone(), kernel_size=3, **arguments)
    )


def batch(size=2, **options):
    images, masks = random_batch(size, 64, 64, **options)
    return images.astype("float32"), masks


def test_logits_come_alone_and_are_the_same_with_and_without_training():
    model = make(semantic_supervision=True)
    images, _ = batch()
    # Without batch normalization in the backbone, training changes nothing.
    plain, trained = model(images), model(images, training=True)
    assert tuple(trained.shape) == (2, 64, 64, 5)
    np.testing.assert_allclose(as_numpy(trained), as_numpy(plain), rtol=1e-5, atol=1e-5)
    outputs = model.training_outputs(images)
    assert sorted(outputs) == ["channel_resolution", "logits", "semantic_supervision"]
    assert tuple(outputs["channel_resolution"].shape) == (2, 4, 4, 5)
    assert [tuple(head.shape) for head in outputs["semantic_supervision"]] == [(2, 5)] * 4
    np.testing.assert_allclose(as_numpy(outputs["logits"]), as_numpy(plain), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_loss_of_the_logits_is_the_whole_objective(compiled):
    model = make(semantic_supervision=True)
    images, masks = batch()
    if compiled:
        model.compile("sgd")
    outputs = model.training_outputs(images)
    expected = as_numpy(keras_exfuse.losses.ExFuseLoss()(masks, outputs))
    logits = model(images, training=True)
    for given in (logits, outputs):
        total = as_numpy(model.compute_loss(images, masks, given))
        np.testing.assert_allclose(total, expected, rtol=1e-5)
    segmentation = as_numpy(keras_exfuse.losses.CrossEntropy()(masks, outputs["logits"]))
    for given in (logits, outputs):
        alone = as_numpy(model.compute_loss(images, masks, given, training=False))
        np.testing.assert_allclose(alone, segmentation, rtol=1e-5)
    assert expected > 1.05 * segmentation


@pytest.mark.parametrize("weight", [np.array([1.0, 0.0]), np.array([[0.0], [0.0]])], ids=["one", "none"])
def test_weights_of_images_weigh_every_term(weight):
    model = make(semantic_supervision=True)
    model.compile("sgd", metrics=[])
    images, masks = batch()
    total = model.compute_loss(images, masks, model(images, training=True), sample_weight=weight)
    if weight.any():
        alone = model.compute_loss(images[:1], masks[:1], model(images[:1], training=True))
        # The mean is over both images' labelled pixels, and so half of the first one's.
        np.testing.assert_allclose(as_numpy(total), as_numpy(alone) / 2, rtol=1e-4)
    else:
        assert float(as_numpy(total)) == 0.0


def test_logits_without_what_they_carried_are_explained():
    model = make()
    images, masks = batch()
    with pytest.raises(ValueError, match="auxiliary outputs, which travel with the logits.*`training=False`"):
        model.compute_loss(images, masks, model(images, training=True) * 1.0)
    gcn = keras_exfuse.GCN(5, backbone=tiny_backbone(), kernel_size=3)
    assert np.isfinite(float(as_numpy(gcn.compute_loss(images, masks, gcn(images, training=True) * 1.0))))


def test_nested_in_a_sequential_model_the_logits_are_trained_on():
    model = make()
    images, masks = batch()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    expected = as_numpy(loss(masks, model(images)))
    outer = keras.Sequential([keras.Input((64, 64, 3)), model])
    outer.compile(keras.optimizers.SGD(0.0), loss=loss)
    history = outer.fit(images, masks, batch_size=2, verbose=0).history
    np.testing.assert_allclose(history["loss"], [expected], rtol=1e-4)
    assert tuple(outer(images, training=True).shape) == (2, 64, 64, 5)


def test_nested_in_a_functional_model():
    model = make()
    image = keras.Input((None, None, 3))
    outer = keras.Model(image, keras.layers.Softmax()(model(image, training=True)))
    images, _ = batch()
    np.testing.assert_allclose(as_numpy(outer(images)).sum(-1), 1.0, rtol=1e-5)


def test_what_was_attached_goes_with_the_logits():
    model = make()
    images, _ = batch()
    logits = model(images, training=True)
    assert _attached.attached(logits) is not None and _attached.attached(model(images)) is None
    before = len(_attached._by_identity)
    del logits
    gc.collect()
    assert len(_attached._by_identity) == max(0, before - 1)


def test_two_threads_get_each_its_own():
    model = make()
    inputs = [batch(1, seed=seed) for seed in range(6)]

    def loss_of(pair):
        images, masks = pair
        return float(as_numpy(model.compute_loss(images, masks, model(images, training=True))))

    expected = [loss_of(pair) for pair in inputs]
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        np.testing.assert_allclose(list(threads.map(loss_of, inputs)), expected, rtol=1e-4)


@pytest.mark.skipif(BACKEND != "jax", reason="JAX checks its traces for leaks")
def test_no_tracer_leaks():
    import jax

    model = make(semantic_supervision=True)
    images, masks = batch(1)

    def loss(trained, others):
        logits, others = model.stateless_call(trained, others, images, training=True)
        return model.compute_loss(images, masks, logits), others

    values = [
        [each.value for each in model.trainable_variables],
        [each.value for each in model.non_trainable_variables],
    ]
    with jax.checking_leaks():
        (total, _), _ = jax.jit(jax.value_and_grad(loss, has_aux=True))(*values)
    assert np.isfinite(total) and not _attached._by_identity


def test_the_loop_in_the_examples_trains(monkeypatch):
    monkeypatch.syspath_prepend(LOOPS)
    loop = importlib.import_module(f"{BACKEND}_loop")
    keras.utils.set_random_seed(0)
    model = keras_exfuse.ExFuse(3, backbone=tiny_backbone(), kernel_size=3)
    losses = loop.train(model, steps=12, learning_rate=0.01)
    assert len(losses) == 12 and np.mean(losses[-2:]) < 0.8 * losses[0], losses


def test_the_classifier_gives_one_tensor_too():
    classifier = keras_exfuse.SemanticSupervisionClassifier(4, backbone=tiny_backbone(), head_units=8)
    images, _ = batch(3)
    labels = np.array([0, 3, 1])
    logits = classifier(images, training=True)
    assert tuple(logits.shape) == (3, 4)
    heads = classifier.training_outputs(images)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = sum(
        weight * as_numpy(cross_entropy(labels, head))
        for weight, head in zip((0.3, 0.3, 0.3, 1.0), heads, strict=True)
    )
    np.testing.assert_allclose(as_numpy(classifier.compute_loss(images, labels, logits)), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="logits of all four heads"):
        classifier.compute_loss(images, labels, ops.convert_to_tensor(as_numpy(logits)))
