"""One base case for each kind of thing that the package registers with Keras; whatever is new has to pass it.

Layers have Keras's own battery (`tests/layers/test_keras_battery.py`). Here: configuration and serialization of
everything, and what every loss, metric, backbone and model must do.
"""

import inspect
import json

import keras
import numpy as np
import pytest

from keras_exfuse import GCN, ExFuse, SemanticSupervisionClassifier, backbones, losses, metrics
from keras_exfuse.layers.initializers import NormalKernel
from keras_exfuse.models.classifier import WeightedHeadsLoss
from keras_exfuse.training import distribution, schedules
from tests.helpers import as_numpy, random_batch, random_maps, rebuild, tiny_backbone

CLASSES = 4
MODELS = {
    ExFuse: lambda **options: ExFuse(CLASSES, tiny_backbone(), kernel_size=3, **options),
    GCN: lambda **options: GCN(CLASSES, tiny_backbone(), kernel_size=3, **options),
}
LOSSES = {
    losses.CrossEntropy: lambda: losses.CrossEntropy(class_weights=[1, 2, 1, 1], label_smoothing=0.1),
    losses.Dice: losses.Dice,
    losses.ExFuseLoss: lambda: losses.ExFuseLoss(channel_resolution_weight=0.3),
    losses.Focal: lambda: losses.Focal(gamma=1.5),
    losses.LovaszSoftmax: losses.LovaszSoftmax,
    distribution.MeanOverDevices: lambda: distribution.MeanOverDevices(losses.CrossEntropy()),
    losses.WeightedSum: lambda: losses.WeightedSum([losses.CrossEntropy(), losses.Dice()], [1, 0.5]),
}
METRICS = {
    metrics.ConfusionMatrix: lambda: metrics.ConfusionMatrix(CLASSES),
    metrics.FrequencyWeightedIoU: lambda: metrics.FrequencyWeightedIoU(CLASSES),
    metrics.MeanAccuracy: lambda: metrics.MeanAccuracy(CLASSES),
    metrics.MeanDice: lambda: metrics.MeanDice(CLASSES),
    metrics.MeanIoU: lambda: metrics.MeanIoU(CLASSES),
    metrics.PixelAccuracy: lambda: metrics.PixelAccuracy(CLASSES),
    metrics.TrimapAccuracy: lambda: metrics.TrimapAccuracy(CLASSES, width=2, region="interior"),
}
OTHERS = {
    NormalKernel: lambda: NormalKernel(0.02),
    schedules.WarmupPolynomialDecay: lambda: schedules.WarmupPolynomialDecay(
        0.1, 100, warmup_steps=5, power=0.8
    ),
}


def registered(kind):
    """The package's classes of one kind that Keras knows by name."""
    objects = keras.saving.get_custom_objects().items()
    return {
        each
        for name, each in objects
        if name.startswith("keras_exfuse>") and inspect.isclass(each) and issubclass(each, kind)
    }


# === All of them ===


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("kind", "cases"),
    [(keras.losses.Loss, LOSSES), (keras.metrics.Metric, METRICS)],
    ids=["losses", "metrics"],
)
def test_every_one_is_here(kind, cases):
    # A classifier's loss is of labels of images, and has its own tests.
    assert registered(kind) - {WeightedHeadsLoss} == set(cases)


@pytest.mark.backend_independent
@pytest.mark.parametrize("kind", [*LOSSES, *METRICS, *OTHERS], ids=lambda kind: kind.__name__)
def test_every_argument_is_in_the_configuration(kind):
    made = {**LOSSES, **METRICS, **OTHERS}[kind]()
    config = made.get_config()
    json.dumps(keras.saving.serialize_keras_object(made))
    assert set(inspect.signature(kind).parameters) - {"kwargs"} <= set(config)
    assert rebuild(made).get_config() == config
    assert kind.from_config(config).get_config() == config


# === Losses ===


@pytest.mark.parametrize("kind", LOSSES, ids=lambda kind: kind.__name__)
def test_the_base_case_of_a_loss(kind):
    loss = LOSSES[kind]()
    _, mask = random_batch(2, 6, 8, CLASSES)
    logits = random_maps((2, 6, 8, CLASSES))
    value = float(loss(mask, logits))
    assert np.isfinite(value) and value > 0
    # The same for a mask with an axis of channels, for the loss made again, and in half precision nearly.
    assert float(loss(mask[..., None], logits)) == pytest.approx(value, rel=1e-6)
    assert float(rebuild(loss)(mask, logits)) == pytest.approx(value, rel=1e-6)
    assert float(loss(mask, logits.astype("float16"))) == pytest.approx(value, rel=1e-2)
    # Lower where the prediction is right, zero where nothing counts.
    right = 9 * np.eye(CLASSES, dtype="float32")[np.where(mask == 255, 0, mask)]
    assert float(loss(mask, right)) < value
    assert float(loss(np.full_like(mask, 255), logits)) == 0
    assert float(loss(mask, logits, sample_weight=np.zeros(2))) == 0
    with pytest.raises(ValueError, match="shape"):
        loss(mask[:, :, :-1], logits)


# === Metrics ===


@pytest.mark.parametrize("kind", METRICS, ids=lambda kind: kind.__name__)
def test_the_base_case_of_a_metric(kind):
    metric = METRICS[kind]()
    _, mask = random_batch(4, 6, 8, CLASSES)
    logits = random_maps((4, 6, 8, CLASSES))
    metric.update_state(mask, logits)
    once = as_numpy(metric.result())
    assert np.isfinite(once).all()
    # In parts as at once, from labels as from logits; twice the same where it is a share.
    metric.reset_state()
    for part in (slice(0, 1), slice(1, 4)):
        metric.update_state(mask[part], logits.argmax(-1)[part])
    np.testing.assert_allclose(as_numpy(metric.result()), once, rtol=1e-6)
    again = rebuild(metric)
    again.update_state(mask, logits)
    np.testing.assert_allclose(as_numpy(again.result()), once, rtol=1e-6)
    metric.reset_state()
    assert all(not as_numpy(each).any() for each in metric.variables)
    with pytest.raises(ValueError, match="shape"):
        metric.update_state(mask[:, :, :-1], logits)


# === Backbones ===


@pytest.mark.slow
@pytest.mark.parametrize("name", backbones.BACKBONES)
def test_the_base_case_of_a_backbone(name, tmp_path):
    backbone = backbones.create_backbone(name)
    images = random_batch(1, 64, 96)[0]
    maps = backbone.predict_on_batch(images)
    assert [each.shape[1:3] for each in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert [each.shape[-1] for each in maps] == [each.shape[-1] for each in backbone.outputs]
    backbone.save(tmp_path / "backbone.keras")
    loaded = keras.saving.load_model(tmp_path / "backbone.keras")
    for ours, theirs in zip(loaded.predict_on_batch(images), maps, strict=True):
        np.testing.assert_allclose(as_numpy(ours), as_numpy(theirs), atol=1e-5)


# === Models ===


@pytest.mark.backend_independent
def test_every_model_is_here():
    ours = {kind for kind in registered(keras.Model) if kind.__module__.startswith("keras_exfuse.models")}
    assert ours == {*MODELS, SemanticSupervisionClassifier}


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_the_base_case_of_a_model(kind, tmp_path):
    model = MODELS[kind]()
    images, masks = random_batch(2, 64, 96, CLASSES)
    model.compile(optimizer=keras.optimizers.SGD(1e-3))
    model.fit(images, masks, batch_size=1, verbose=0)
    logits = model.predict(images, verbose=0)
    assert logits.shape == (2, 64, 96, CLASSES) and logits.dtype == "float32"
    np.testing.assert_allclose(as_numpy(model(images, training=False)), logits, atol=1e-4)
    assert model.predict(images[:1, :33, :47], verbose=0).shape == (1, 33, 47, CLASSES)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is kind
    ours, theirs = model.get_config(), loaded.get_config()
    assert (
        ours.pop("backbone")["class_name"] == theirs.pop("backbone")["class_name"]
    )  # Lists become tuples in it.
    assert ours == theirs
    np.testing.assert_allclose(loaded.predict(images, verbose=0), logits, atol=1e-5)
    assert int(loaded.optimizer.iterations) == 2


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_model_in_mixed_precision(kind, policy):
    model = MODELS[kind](dtype=policy)
    images, masks = random_batch(2, 64, 96, CLASSES)
    logits = model(images, training=True)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert np.isfinite(as_numpy(model.compute_loss(images, masks, logits)))
