"""What a recipe does to its model before the first step: frozen parts, optimiser, starting weights."""

import keras
import numpy as np
import pytest

from keras_exfuse import losses
from keras_exfuse.models import GCN, SemanticSupervisionClassifier
from keras_exfuse.training import SGD, Recipe, freeze_backbone, freeze_batch_norm
from keras_exfuse.training.freezing import batch_norms
from keras_exfuse.training.model import compiled_model, make_optimizer, take_weights
from tests.helpers import as_numpy, random_batch, tiny_backbone
from tests.training.small_run import Small


def fitted(model):
    """Weights before and after two steps, by path."""
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    images, _ = random_batch(4, 32, 32)
    targets = np.ones((4, 32, 32, 5), "float32")
    before = {weight.path: as_numpy(weight).copy() for weight in model.weights}
    model.fit(images.astype("float32"), targets, batch_size=2, shuffle=False, verbose=0)
    return {
        weight.path for weight in model.weights if not np.array_equal(as_numpy(weight), before[weight.path])
    }


class Plain(Small):
    def compile(self, **options):
        keras.Model.compile(self, **options)


@pytest.mark.parametrize("freeze", [None, freeze_backbone, freeze_batch_norm])
def test_what_is_frozen_stays_statistics_included(freeze):
    model = Plain()
    backbone = {weight.path for weight in model.backbone.weights}
    normalization = {weight.path for layer in batch_norms(model) for weight in layer.weights}
    assert len(normalization) == 4
    frozen = {None: set(), freeze_backbone: backbone, freeze_batch_norm: normalization}[freeze]
    if freeze is not None:
        assert freeze(model) is model
    changed = fitted(model)
    everything = {weight.path for weight in model.weights}
    assert changed == everything - frozen


def test_all_batch_norms_are_found_and_no_backbone_is_explained():
    inner = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])
    outer = keras.Sequential([keras.Input((4,)), inner, keras.layers.BatchNormalization()])
    assert len(batch_norms(outer)) == 2
    with pytest.raises(ValueError, match="no backbone to freeze"):
        freeze_backbone(outer)


def small_recipe(**changes):
    return Recipe(data=".", backbone_weights=None, **{"num_classes": 5, "steps": 10, **changes})


def test_weight_decay_spares_biases_and_batch_norm():
    """With no gradient, AdamW's step is the decay alone."""
    for kind in ("adamw", "sgd"):
        model = Small()
        for weight in model.trainable_variables:
            weight.assign(np.ones(weight.shape, "float32"))
        recipe = small_recipe(optimizer=kind, weight_decay=0.5, learning_rate=0.1, warmup=0.0)
        optimizer = make_optimizer(recipe, model, 10)
        optimizer.build(model.trainable_variables)
        zeros = [keras.ops.zeros(weight.shape) for weight in model.trainable_variables]
        optimizer.apply(zeros, model.trainable_variables)
        for weight in model.trainable_variables:
            expected = 1 - 0.5 * 0.1 if "kernel" in weight.path else 1.0
            np.testing.assert_allclose(as_numpy(weight), expected, atol=1e-6, err_msg=weight.path)


def test_options_of_the_optimiser():
    model = Small()
    recipe = small_recipe(
        optimizer="sgd",
        momentum=0.8,
        clip_norm=2.0,
        gradient_accumulation_steps=2,
        ema=0.99,
        backbone_learning_rate=1e-4,
        power=2.0,
        warmup=0.2,
    )
    optimizer = make_optimizer(recipe, model, 10)
    assert isinstance(optimizer, SGD) and optimizer.momentum == 0.8
    assert optimizer.global_clipnorm == 2.0 and optimizer.gradient_accumulation_steps == 2
    assert optimizer.use_ema and optimizer.ema_momentum == 0.99
    schedule = optimizer._learning_rate
    assert (schedule.steps, schedule.warmup_steps, schedule.power) == (10, 2, 2.0)


def test_accumulated_gradients_are_one_step_of_the_mean():
    """Two batches of two and one batch of four: the same weights."""
    images, _ = random_batch(4, 32, 32)
    targets = np.ones((4, 32, 32, 5), "float32")
    ends = []
    for gradient_accumulation_steps, batch_size in ((2, 2), (1, 4)):
        keras.utils.set_random_seed(0)
        model = Plain(batch_norm=False, dropout=0.0)
        # Its schedule does not matter here: Keras moves it on with every batch.
        recipe = small_recipe(
            gradient_accumulation_steps=gradient_accumulation_steps, warmup=0.0, learning_rate=0.01
        )
        model.compile(optimizer=make_optimizer(recipe, model, 10**6), loss="mse")
        model.fit(images.astype("float32"), targets, batch_size=batch_size, shuffle=False, verbose=0)
        ends.append([as_numpy(weight) for weight in model.weights])
    for one, other in zip(*ends, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_mixed_precision_and_loss_weights_reach_the_model(monkeypatch):
    monkeypatch.setattr(
        Recipe, "build_model", lambda self: GCN(5, tiny_backbone(), kernel_size=3, dtype=self.dtype)
    )
    recipe = small_recipe(
        dtype="mixed_bfloat16",
        channel_resolution_weight=0.2,
        label_smoothing=0.1,
        ohem_ratio=0.5,
        freeze_backbone=True,
        jit=False,
    )
    model = compiled_model(recipe, 10)
    assert model.get_layer("refine_1").compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"
    assert model.objective.channel_resolution_weight == 0.2
    assert model.objective.segmentation.label_smoothing == 0.1
    assert model.objective.segmentation.ohem_ratio == 0.5
    assert not model.backbone.trainable_variables and not model.jit_compile


def test_losses_of_regions_are_added(monkeypatch):
    monkeypatch.setattr(Recipe, "build_model", lambda self: GCN(3, backbone=tiny_backbone(), kernel_size=3))
    weights = (1.0, 2.0, 0.5)
    recipe = small_recipe(num_classes=3, class_weights=weights, dice_weight=0.5, lovasz_weight=2.0)
    loss = compiled_model(recipe, 10).objective.segmentation
    masks = np.array([[[0, 1, 2, 255]]])
    logits = np.random.default_rng(0).normal(size=(1, 1, 4, 3)).astype("float32")
    parts = [losses.CrossEntropy(class_weights=weights), losses.Dice(), losses.LovaszSoftmax()]
    values = [float(part(masks, logits)) for part in parts]
    assert np.isclose(float(loss(masks, logits)), values[0] + 0.5 * values[1] + 2.0 * values[2], rtol=1e-5)


def test_starting_weights(tmp_path):
    old, new = (GCN(classes, backbone=tiny_backbone(), kernel_size=3) for classes in (5, 3))
    run = tmp_path / "run"
    run.mkdir()
    old.save(run / "model.keras")
    (run / "run.json").write_text('{"model": "model.keras"}')
    said = []
    skipped = take_weights(str(run), new, said.append)
    np.testing.assert_array_equal(as_numpy(new.backbone.weights[0]), as_numpy(old.backbone.weights[0]))
    assert skipped and "keep their initialization" in said[1]
    with pytest.raises(ValueError, match="init_from = .*nowhere.*Expected a .keras file, the directory of a"):
        take_weights(str(tmp_path / "nowhere"), new)
    (run / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="init_from = .*has not finished.*name the file"):
        take_weights(str(run), new)
    (run / "model.keras").rename(run / "best.keras")
    take_weights(str(run / "best.keras"), new, said.append)
    (tmp_path / "text.keras").write_text("no model")
    with pytest.raises(ValueError, match="text.keras cannot be read"):
        take_weights(str(tmp_path / "text.keras"), new)


def test_a_classifier_gives_its_backbone(tmp_path):
    classifier = SemanticSupervisionClassifier(num_classes=3, backbone=tiny_backbone(), head_units=8)
    classifier.save(tmp_path / "classifier.keras")
    model = GCN(5, backbone=tiny_backbone(), kernel_size=3)
    assert take_weights(str(tmp_path / "classifier.keras"), model, lambda line: None) == []
    for mine, theirs in zip(model.backbone.weights, classifier.backbone.weights, strict=True):
        np.testing.assert_array_equal(as_numpy(mine), as_numpy(theirs))


def test_a_file_in_mixed_float16_holds_the_optimizers_state_once(tmp_path, monkeypatch):
    monkeypatch.setattr(
        Recipe, "build_model", lambda self: GCN(5, tiny_backbone(), kernel_size=3, dtype=self.dtype)
    )
    sizes = {}
    images, masks = random_batch(2, 32, 32)
    for dtype in ("float32", "mixed_float16"):
        model = compiled_model(small_recipe(dtype=dtype, jit=False), 10)
        model.train_on_batch(images.astype("float32"), masks)
        path = tmp_path / f"{dtype}.keras"
        model.save(path)
        sizes[dtype] = path.stat().st_size
        again = keras.saving.load_model(path)
        for mine, theirs in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
            np.testing.assert_array_equal(as_numpy(theirs), as_numpy(mine))
    assert sizes["mixed_float16"] < 1.1 * sizes["float32"]
