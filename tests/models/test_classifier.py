"""Semantic supervision's classifier: its loss against numpy, and the backbone that ExFuse takes over."""

import warnings

import keras
import numpy as np
import pytest

from keras_exfuse import ExFuse, SemanticSupervisionClassifier
from tests.helpers import as_numpy, draw_weights, tiny_backbone

CLASSES = 4
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 64, 3), dtype="uint8")
LABELS = np.array([0, 3, 1])


def make_classifier(**arguments):
    arguments = {"num_classes": CLASSES, "backbone": tiny_backbone(), "head_units": 8, **arguments}
    return draw_weights(SemanticSupervisionClassifier(**arguments))


@pytest.fixture(scope="module")
def classifier():
    """One that no test changes."""
    model = make_classifier()
    model.compile("sgd", run_eagerly=True)
    return model


def cross_entropies(logits, labels):
    """Cross-entropy of each image, from the formula."""
    logits = np.asarray(logits, "float64")
    return np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(labels)), labels]


def convolve_and_rectify(maps, layer):
    """A 3x3 convolution of stride 1, zeros around, and ReLU: nine shifted products in numpy."""
    kernel, bias = (as_numpy(weight.value).astype("float64") for weight in (layer.kernel, layer.bias))
    _, height, width, _ = maps.shape
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    total = bias
    for row in range(3):
        for column in range(3):
            total = total + padded[:, row : row + height, column : column + width] @ kernel[row, column]
    return np.maximum(total, 0)


# === Training ===


@pytest.mark.parametrize("sample_weight", [None, np.array([1.0, 0.0, 2.5])])
def test_training_loss_is_the_weighted_sum_of_the_four_heads(sample_weight):
    weights = (0.1, 0.2, 0.4, 0.8)
    model = make_classifier(loss_weights=weights)
    model.compile("sgd")
    heads = np.stack([as_numpy(head) for head in model.training_outputs(IMAGES)], axis=1)
    assert heads.shape == (3, 4, CLASSES)
    losses = [cross_entropies(heads[:, head], LABELS) for head in range(4)]
    by_image = np.ones(3) if sample_weight is None else sample_weight
    expected = sum(weight * np.mean(loss * by_image) for weight, loss in zip(weights, losses, strict=True))
    # The loss that a step reports is that of the weights before it.
    history = model.fit(IMAGES, LABELS, sample_weight=sample_weight, batch_size=3, verbose=0).history
    np.testing.assert_allclose(history["loss"], [expected], rtol=1e-5)


def test_evaluation_and_prediction_are_the_last_heads():
    model = make_classifier(num_classes=7)
    model.compile("sgd")
    last = as_numpy(model(IMAGES, training=True))
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), last, rtol=1e-5, atol=1e-6)
    ranks = (last > last[np.arange(3), LABELS][:, None]).sum(-1)
    values = model.evaluate(IMAGES, LABELS[:, None], verbose=0, return_dict=True)
    np.testing.assert_allclose(values["loss"], cross_entropies(last, LABELS).mean(), rtol=1e-5)
    np.testing.assert_allclose(values["top1"], np.mean(ranks < 1), rtol=1e-6)
    np.testing.assert_allclose(values["top5"], np.mean(ranks < 5), rtol=1e-6)


def test_training_changes_backbone_and_heads_except_one_of_weight_zero():
    model = make_classifier(loss_weights=(0.5, 0.0, 0.5, 1.0))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss=loss, run_eagerly=True)
    before = {weight.path: as_numpy(weight.value).copy() for weight in model.weights}
    model.fit(IMAGES, LABELS, batch_size=3, verbose=0)
    after = {weight.path: as_numpy(weight.value) for weight in model.weights}
    unchanged = {path.split("/")[0] for path in before if np.array_equal(before[path], after[path])}
    assert unchanged == {"res3_head"}
    assert {path.split("/")[0] for path in before} > {
        "stage_1",
        "stage_4",
        "res2_head",
        "res4_head",
        "res5_head",
    }


def test_the_lower_heads_are_no_part_of_the_prediction_graph(classifier):
    assert [layer.name for layer in classifier.layers if "head" in layer.name] == ["res5_head"]


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_gives_float32_logits_and_trains(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = SemanticSupervisionClassifier(CLASSES, backbone=tiny_backbone(), head_units=8)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.compute_dtype == keras.DTypePolicy(policy).compute_dtype
    model.compile("sgd", run_eagerly=True)
    assert np.isfinite(model.fit(IMAGES, LABELS, verbose=0).history["loss"][0])
    logits = model.predict(IMAGES, verbose=0)
    assert logits.dtype == np.float32 and np.isfinite(logits).all()


# === The backbone that ExFuse takes over ===


@pytest.mark.parametrize("features", ["stage", "head"])
def test_exfuse_takes_over_the_features_bit_for_bit(features, tmp_path):
    classifier = make_classifier(head_filters=None if features == "stage" else (4, 6, 8, 10))
    expected = [as_numpy(stage) for stage in classifier.backbone(IMAGES)]
    if features == "head":
        by_formula = [
            convolve_and_rectify(convolve_and_rectify(stage, head.first), head.second)
            for stage, head in zip(expected, classifier.semantic_supervision_heads, strict=True)
        ]
        expected = [
            as_numpy(head.features(stage))
            for stage, head in zip(expected, classifier.semantic_supervision_heads, strict=True)
        ]
        for have, want in zip(expected, by_formula, strict=True):
            np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())
    backbone = classifier.pretrained_backbone(features=features)
    assert not any(part in weight.path for weight in backbone.weights for part in ("hidden", "classifier"))

    model = ExFuse(5, backbone=backbone)
    model.save(tmp_path / "exfuse.keras")
    loaded = keras.saving.load_model(tmp_path / "exfuse.keras")
    for exfuse in (model, loaded):
        for have, want in zip(exfuse.backbone(IMAGES), expected, strict=True):
            np.testing.assert_array_equal(as_numpy(have), want)
    np.testing.assert_array_equal(as_numpy(loaded(IMAGES)), as_numpy(model(IMAGES)))


def test_head_features_have_the_stages_widths_by_default(classifier):
    backbone = classifier.pretrained_backbone(features="head")
    assert [shape[-1] for shape in backbone.output_shape] == [8, 12, 16, 20]


def test_head_features_keep_their_names_beside_heads_of_exfuses_own(classifier):
    model = ExFuse(3, backbone=classifier.pretrained_backbone(features="head"), semantic_supervision=True)
    paths = [weight.path for weight in model.weights]
    assert len(set(paths)) == len(paths)


# === Serialization ===


def test_a_saved_classifier_is_the_same_and_trains_on(tmp_path):
    model = make_classifier(head_filters=6, loss_weights=[1, 2, 3, 4])
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), run_eagerly=True)
    model.fit(IMAGES, LABELS, verbose=0)
    model.save(tmp_path / "classifier.keras")
    loaded = keras.saving.load_model(tmp_path / "classifier.keras")
    assert isinstance(loaded, SemanticSupervisionClassifier)
    assert loaded.loss_weights == (1.0, 2.0, 3.0, 4.0)
    assert len(loaded.weights) == len(model.weights)
    for have, want in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(as_numpy(have.value), as_numpy(want.value), err_msg=want.path)
    again, on = (model_.fit(IMAGES, LABELS, verbose=0).history for model_ in (model, loaded))
    assert again.keys() == on.keys() == {"loss", "top1", "top5"}
    np.testing.assert_allclose(on["loss"], again["loss"], rtol=1e-5)


def test_a_configuration_holds_every_argument():
    model = SemanticSupervisionClassifier(
        5,
        backbone=tiny_backbone(),
        head_filters=(4, 5, 6, 7),
        head_units=9,
        loss_weights=(0, 0, 1, 1),
        name="mine",
    )
    again = SemanticSupervisionClassifier.from_config(model.get_config())
    assert again.name == "mine"
    ours, theirs = model.get_config(), again.get_config()
    for argument in ("num_classes", "head_filters", "head_units", "loss_weights", "backbone_weights"):
        assert ours[argument] == theirs[argument]
    assert [weight.shape for weight in again.weights] == [weight.shape for weight in model.weights]


def test_a_loss_of_ones_own_is_kept_in_the_compile_configuration():
    model = make_classifier()
    model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=[])
    loss = model.get_compile_config()["loss"]
    assert loss["class_name"] == "SparseCategoricalCrossentropy"


# === Errors ===


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"num_classes": 1}, "`num_classes` must be an int of at least 2"),
        ({"num_classes": 2.0}, "Received: num_classes=2.0"),
        ({"head_filters": (1, 2, 3)}, "four of them for res-2 to res-5"),
        ({"head_filters": 0}, "`head_filters` must be a positive int"),
        ({"head_units": 0}, "`head_units` must be a positive int"),
        ({"loss_weights": (1, 1, 1)}, "`loss_weights` must be four numbers"),
        ({"loss_weights": (1, 1, 1, -1)}, "of at least 0"),
        ({"loss_weights": (0, 0, 0, 0)}, "not all 0"),
        ({"loss_weights": 1.0}, "Received: loss_weights=1.0"),
        ({"backbone": "resnet"}, "The nearest names are"),
    ],
)
def test_wrong_arguments_are_explained(arguments, text):
    with pytest.raises(ValueError, match=text):
        SemanticSupervisionClassifier(**{"num_classes": 3, "backbone": tiny_backbone(), **arguments})


def test_unknown_features_are_explained(classifier):
    with pytest.raises(
        ValueError, match=r"`features` must be one of \('stage', 'head'\). Received: features='top'"
    ):
        classifier.pretrained_backbone("top")


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (np.array([0.0, 1.0, 2.0]), "integer type, one class index per image. Received: float64"),
        (np.eye(4, dtype="int32")[:3], r"labels of shape \(3,\). Received shape \(3, 4\).*argmax"),
        (np.array([0, 1]), r"labels of shape \(3,\). Received shape \(2,\)"),
        (np.array([0, 4, -1]), r"Labels may be 0..3, since num_classes=4. Received also: \[-1, 4\]"),
        ([0, 1, 9], r"Received also: \[9\]"),
    ],
)
def test_wrong_labels_are_explained(labels, text, classifier):
    for run in (
        lambda: classifier.fit(IMAGES, labels, verbose=0),
        lambda: classifier.evaluate(IMAGES, labels, verbose=0),
        lambda: classifier.fit(IMAGES, LABELS, validation_data=(IMAGES, labels), verbose=0),
    ):
        with pytest.raises(ValueError, match=text):
            run()


def test_wrong_labels_of_a_single_batch_are_explained(classifier):
    with pytest.raises(ValueError, match="Labels must be of an integer type"):
        classifier.train_on_batch(IMAGES, LABELS.astype("float32"))
    with pytest.raises(ValueError, match=r"Received shape \(3, 4\)"):
        classifier.train_on_batch(IMAGES, np.eye(4, dtype="int32")[:3])


def test_wrong_images_are_explained(classifier):
    with pytest.raises(ValueError, match="Expected images as RGB"):
        classifier.predict(IMAGES[0], verbose=0)


@pytest.mark.backend_independent
def test_a_dataset_with_a_label_out_of_range_stops():
    import tensorflow as tf

    model = make_classifier()
    model.compile("sgd", run_eagerly=True)
    good = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(3)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*shuffle")  # Keras's, about its own default.
        assert "val_top5" in model.fit(good, validation_data=good, verbose=0).history
    for labels, text in (
        (LABELS + 2, r"Labels may be 0..3, since num_classes=4"),
        (LABELS.astype("float32"), "Received: float32"),
        (np.eye(4, dtype="int32")[:3], r"Received shape \(None, 4\)"),
    ):
        with pytest.raises(ValueError, match=text):
            model.fit(tf.data.Dataset.from_tensor_slices((IMAGES, labels)).batch(3), verbose=0)
    with pytest.raises(ValueError, match=r"\(images, labels\) batches"):
        model.fit(tf.data.Dataset.from_tensor_slices(IMAGES).batch(3), verbose=0)
    with pytest.raises(ValueError, match="The data set is empty"):
        model.evaluate(good.take(0), verbose=0)
