"""ExFuse as its user meets it: sizes, training from a plain mask, saving, and bad input."""

import keras
import numpy as np
import pytest

import keras_exfuse
from keras_exfuse import layers
from tests.drawing import draw_by_path
from tests.helpers import as_numpy, draw_weights, random_batch, rebuild, tiny_backbone


def make(num_classes=5, **arguments):
    return keras_exfuse.ExFuse(num_classes, backbone=tiny_backbone(), kernel_size=3, **arguments)


@pytest.fixture(scope="module")
def trained():
    """A compiled model with every idea on, after one short epoch, and its data."""
    keras.utils.set_random_seed(0)
    model = make(semantic_supervision=True)
    model.compile(optimizer=keras.optimizers.AdamW(1e-3))
    images, masks = random_batch()
    history = model.fit(
        images, masks[..., None], batch_size=1, epochs=1, validation_data=(images, masks), verbose=0
    )
    return model, images, masks, history.history


@pytest.fixture(scope="module")
def plain():
    """A compiled model for what does not depend on its weights; descent, since Adam's step takes long to trace."""
    model = make()
    model.compile(optimizer="sgd", metrics=[])
    return model


@pytest.mark.parametrize("size", [(33, 47), (32, 32), (64, 96)])
def test_logits_have_the_size_of_the_image(plain, size):
    logits = plain.predict(random_batch(1, *size)[0], verbose=0)
    assert logits.shape == (1, *size, 5)
    assert logits.dtype == "float32"
    assert np.isfinite(logits).all()


def test_uint8_and_float_images_are_the_same():
    model = draw_weights(make(), scale=0.1)
    images, _ = random_batch(1, 64, 64)
    np.testing.assert_allclose(
        model.predict(images, verbose=0), model.predict(images.astype("float32"), verbose=0), atol=1e-6
    )


def test_a_plain_mask_trains_everything(trained):
    model, images, masks, history = trained
    assert sorted(history) == [
        "loss",
        "mean_iou",
        "pixel_accuracy",
        "val_loss",
        "val_mean_iou",
        "val_pixel_accuracy",
    ]
    assert all(np.isfinite(values).all() for values in history.values())
    scores = model.evaluate(images, masks, verbose=0, return_dict=True)
    assert sorted(scores) == ["loss", "mean_iou", "pixel_accuracy"]
    assert scores["mean_iou"] == pytest.approx(history["val_mean_iou"][-1], abs=1e-6)
    assert isinstance(model.predict(images, verbose=0), np.ndarray)


def test_evaluate_agrees_with_numpy(trained):
    model, images, masks, _ = trained
    labels = model.predict(images, verbose=0).argmax(-1)
    counted = masks != 255
    scores = model.evaluate(images, masks, verbose=0, return_dict=True)
    assert scores["pixel_accuracy"] == pytest.approx((labels == masks)[counted].mean(), abs=1e-6)


def test_save_and_load(trained, tmp_path):
    model, images, masks, _ = trained
    path = tmp_path / "model.keras"
    model.save(path)
    again = keras.saving.load_model(path)
    assert type(again) is keras_exfuse.ExFuse
    np.testing.assert_array_equal(again.predict(images, verbose=0), model.predict(images, verbose=0))
    assert again.get_config()["semantic_supervision"] is True
    mine, theirs = (m.evaluate(images, masks, verbose=0, return_dict=True) for m in (model, again))
    assert mine == pytest.approx(theirs, abs=1e-6)
    # The heads' weights and the composition come back too: training can go on.
    heads = zip(model.semantic_supervision_heads, again.semantic_supervision_heads, strict=True)
    for head, other in heads:
        np.testing.assert_array_equal(head.get_weights()[0], other.get_weights()[0])
    assert again.objective.get_config() == model.objective.get_config()
    again.fit(images, masks, batch_size=2, verbose=0)


def test_a_checkpoint_on_mean_iou(tmp_path):
    model = make()
    model.compile(optimizer="sgd")
    path = str(tmp_path / "best.keras")
    images, masks = random_batch()
    checkpoint = keras.callbacks.ModelCheckpoint(
        path, monitor="val_mean_iou", mode="max", save_best_only=True
    )
    model.fit(images, masks, validation_data=(images, masks), callbacks=[checkpoint], verbose=0)
    assert keras.saving.load_model(path).num_classes == 5


def test_config_round_trip_and_clone():
    model = draw_weights(make(semantic_embedding=False, refinement="before"), scale=0.1)
    images, _ = random_batch(1)
    again = keras_exfuse.ExFuse.from_config(model.get_config())
    config, other = model.get_config(), again.get_config()
    assert {**config, "backbone": None} == {**other, "backbone": None}
    again.set_weights(model.get_weights())
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(again.predict(images, verbose=0), expected, atol=1e-6)
    np.testing.assert_allclose(clone.predict(images, verbose=0), expected, atol=1e-6)


def test_a_named_backbone_is_saved_by_name():
    model = keras_exfuse.ExFuse(3, backbone="efficientnet_lite0")
    assert model.get_config()["backbone"] == "efficientnet_lite0"
    assert rebuild(model).backbone.name == "efficientnet_lite0"


def test_gcn_has_the_four_ideas_off():
    model = keras_exfuse.GCN(5, backbone=tiny_backbone())
    kinds = {type(layer) for layer in model.layers}
    assert layers.GlobalConvolution in kinds
    assert not kinds & {
        layers.SemanticEmbeddingBranch,
        layers.ChannelResolutionEmbedding,
        layers.DenselyAdjacentDeconvolution,
        layers.DenselyAdjacentPrediction,
    }
    assert sum(isinstance(layer, layers.BoundaryRefinement) for layer in model.layers) == 9
    assert sum(isinstance(layer, layers.Deconvolution) for layer in model.layers) == 5


@pytest.mark.parametrize(
    ("switch", "kind", "count"),
    [
        ("semantic_embedding", layers.SemanticEmbeddingBranch, 3),
        ("channel_resolution_embedding", layers.ChannelResolutionEmbedding, 1),
        ("densely_adjacent_prediction", layers.DenselyAdjacentDeconvolution, 1),
    ],
)
def test_each_switch_takes_its_idea_away(switch, kind, count):
    def found(model):
        return sum(isinstance(layer, kind) for layer in model.layers)

    assert found(make()) == count
    without = make(**{switch: False})
    assert found(without) == 0
    assert without.predict(random_batch(1, 32, 32)[0], verbose=0).shape == (1, 32, 32, 5)


@pytest.mark.parametrize(
    "variant",
    [
        {"kernel_size": (7, 5, 3, 1)},
        {"refinement": "before"},
        {"refinement": "before_grouped", "deconvolution_kernel_size": 6},
        {"adjacent_channels": "all", "refinement": "before"},
        {"expansion": "global_convolution"},
        {"adjacent_channels": "all", "expansion": "global_convolution"},
        {"embedding_normalization": True, "embedding_init": "random"},
        {"window_size": 5, "deconvolution_kernel_size": 6},
        {"score_channels": 4, "adjacent_channels": "all"},
    ],
)
def test_ablation(variant):
    model = keras_exfuse.ExFuse(3, backbone=tiny_backbone(), **variant)
    images = random_batch(1, 33, 47)[0].astype("float32")
    outputs = model.training_outputs(images)
    assert tuple(outputs["logits"].shape) == (1, 33, 47, 3)
    assert tuple(outputs["channel_resolution"].shape) == (1, 4, 4, 3)
    for name, value in variant.items():
        assert model.get_config()[name] == value


def test_score_channels_and_a_classifier_that_is_the_identity_change_nothing():
    plain, other = draw_by_path(make()), draw_by_path(make(score_channels=5))
    other.get_layer("classifier").set_weights([np.eye(5)[None, None], np.zeros(5)])
    images = random_batch(2, 33, 47)[0].astype("float32")
    expected, found = (model.training_outputs(images) for model in (plain, other))
    for name in ("logits", "channel_resolution"):
        np.testing.assert_allclose(as_numpy(found[name]), as_numpy(expected[name]), atol=1e-5)


def test_the_most_literal_variant():
    model = keras_exfuse.ExFuse.paper(3, backbone=tiny_backbone())
    assert model.kernel_size == 15
    assert model.refinement == "before"
    assert model.get_layer("adjacent_prediction_1").padding == "valid"


def test_a_loss_and_metrics_of_ones_own():
    model = make()
    calls = []

    def loss(mask, logits):
        calls.append((tuple(mask.shape[1:]), tuple(logits.shape[1:])))
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)(mask, logits)

    model.compile(optimizer="sgd", loss=loss, metrics=[])
    images, masks = random_batch()
    history = model.fit(images, masks, verbose=0)
    assert list(history.history) == ["loss"]
    assert calls and all(len(mask) == 2 and logits[-1] == 5 for mask, logits in calls)


def test_weights_of_the_auxiliary_losses_are_arguments():
    model = make()
    model.compile(loss=keras_exfuse.losses.ExFuseLoss(channel_resolution_weight=0.0))
    images, masks = random_batch(1)
    outputs = model.training_outputs(images.astype("float32"))
    assert float(as_numpy(model.objective.auxiliary(masks, outputs))) == 0.0


def test_as_a_layer_of_a_larger_model():
    model = make()
    image = keras.Input((None, None, 3))
    probabilities = keras.layers.Softmax()(model(image))
    larger = keras.Model(image, probabilities)
    result = larger.predict(random_batch(1, 33, 47)[0], verbose=0)
    np.testing.assert_allclose(result.sum(-1), 1.0, atol=1e-5)


def test_training_moves_towards_the_mask():
    """Within ten steps on one image with two halves the loss falls by a third."""
    model = make(2)
    model.compile(optimizer=keras.optimizers.Adam(1e-2), metrics=[])
    image = np.full((1, 32, 64, 3), 30, "uint8")
    image[:, :, 32:] = 220
    mask = (image[..., 0] > 100).astype("uint8")
    losses = [float(model.train_on_batch(image, mask)) for _ in range(10)]
    assert min(losses) < losses[0] * 0.67, losses


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"num_classes": 1}, "`num_classes` must be an int of at least 2.*num_classes=1"),
        ({"num_classes": 21.0}, "num_classes=21.0"),
        ({"kernel_size": 4}, "`kernel_size` must be odd.*Use 3 or 5"),
        ({"kernel_size": (3, 3)}, "four of them"),
        ({"window_size": 2}, "`window_size` must be odd"),
        ({"window_size": 5}, "larger than `window_size`"),
        ({"refinement": "never"}, "`refinement` must be one of.*'never'"),
        ({"adjacent_channels": "some"}, "`adjacent_channels` must be one of"),
        ({"expansion": "none"}, "`expansion` must be one of"),
        ({"score_channels": 0}, "`score_channels` must be a positive int"),
        ({"embedding_init": "zero"}, "`embedding_init` must be one of"),
        ({"backbone": "resnet51"}, "resnet50"),
    ],
)
def test_bad_arguments(arguments, text):
    arguments = {"num_classes": 5, "backbone": tiny_backbone(), **arguments}
    with pytest.raises(ValueError, match=text):
        keras_exfuse.ExFuse(**arguments)
