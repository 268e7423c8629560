"""Arguments written once, Keras's habits in `fit` and `compile`, and what a saved model keeps: policy and freezing."""

import inspect

import keras
import numpy as np
import pytest

import keras_exfuse
from keras_exfuse.models.config import ModelConfig, argument_names
from keras_exfuse.training import freeze_backbone, freeze_batch_norm
from tests.helpers import as_numpy, random_batch, rebuild, tiny_backbone


def make(num_classes=5, **arguments):
    return keras_exfuse.ExFuse(num_classes, backbone=tiny_backbone(), kernel_size=3, **arguments)


# === Arguments ===


@pytest.mark.backend_independent
def test_signature_configuration_and_docstring_have_the_same_arguments():
    parameters = inspect.signature(keras_exfuse.ExFuse).parameters
    assert tuple(parameters) == (*argument_names(), "name")
    config = make().get_config()
    assert set(config) == {*argument_names(), "name", "trainable", "frozen"}
    documented = inspect.getdoc(keras_exfuse.ExFuse)
    assert [name for name in parameters if f"\n    {name}: " not in documented] == []
    without = set(parameters) - set(inspect.signature(keras_exfuse.GCN).parameters)
    assert without == {
        "semantic_embedding",
        "channel_resolution_embedding",
        "densely_adjacent_prediction",
        "semantic_supervision",
    }


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    ("make_model", "error", "text"),
    [
        (
            lambda: make(window_siz=5),
            TypeError,
            "ExFuse has no argument 'window_siz'. Did you mean 'window_size'",
        ),
        (lambda: make(strange=5), TypeError, "Its arguments are num_classes, backbone"),
        (lambda: make(semantic_embedding=1), ValueError, "`semantic_embedding` must be True or False.*=1"),
        (lambda: make(dtype="half"), ValueError, "half"),
        (
            lambda: keras_exfuse.GCN(5, backbone=tiny_backbone(), semantic_embedding=True),
            ValueError,
            r"GCN is without `semantic_embedding`. Use `ExFuse\(semantic_embedding=True",
        ),
    ],
)
def test_wrong_arguments_are_explained(make_model, error, text):
    with pytest.raises(error, match=text):
        make_model()


@pytest.mark.backend_independent
def test_numbers_of_numpy_become_ints():
    config = ModelConfig(num_classes=np.int64(5), score_channels=np.uint8(4), kernel_size=np.int32(3))
    assert [type(each) for each in (config.num_classes, config.score_channels, config.kernel_size)] == [
        int
    ] * 3
    model = make(np.int64(5))
    assert type(model.num_classes) is int and type(model.get_config()["num_classes"]) is int


@pytest.mark.backend_independent
@pytest.mark.parametrize(
    "kind", [keras_exfuse.ExFuse, keras_exfuse.GCN, keras_exfuse.SemanticSupervisionClassifier]
)
def test_channels_first_is_one_clear_error(kind):
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="takes images with their channels last.*set_image_data_format"):
            kind(5, backbone="efficientnet_lite0")
    finally:
        keras.config.set_image_data_format("channels_last")


def test_gcn_is_a_class_that_comes_back(tmp_path):
    model = keras_exfuse.GCN(5, backbone=tiny_backbone(), kernel_size=5)
    assert type(model) is keras_exfuse.GCN and isinstance(model, keras_exfuse.ExFuse)
    again = rebuild(model)
    assert type(again) is keras_exfuse.GCN and again.kernel_size == 5
    model.save(tmp_path / "gcn.keras")
    assert type(keras.saving.load_model(tmp_path / "gcn.keras")) is keras_exfuse.GCN


# === Keras's habits ===


def test_arguments_of_fit_evaluate_and_predict_may_be_positional():
    model = make()
    model.compile("sgd", metrics=[])
    images, masks = random_batch(4, 32, 32)
    steps = []

    class Count(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append(batch)

    model.fit(images, masks, 2, 1, 0, [Count()])
    assert len(steps) == 2
    assert isinstance(float(model.evaluate(images, masks, 2, 0)), float)
    assert model.predict(images, 2, 0).shape == (4, 32, 32, 5)
    with pytest.raises(TypeError, match="strange"):
        model.fit(images, masks, strange=1)


def test_class_weight_names_what_does_it():
    model = make()
    model.compile("sgd")
    images, masks = random_batch(1, 32, 32)
    with pytest.raises(
        ValueError, match=r"many. Compile with loss=keras_exfuse.losses.CrossEntropy\(class_weights"
    ):
        model.fit(images, masks, class_weight={0: 2.0})


@pytest.mark.parametrize(
    "loss", ["sparse_categorical_crossentropy", keras.losses.sparse_categorical_crossentropy]
)
def test_keras_loss_by_name_is_that_of_logits(loss):
    images, masks = random_batch(2, 32, 32)
    values = []
    for given in (None, loss):
        keras.utils.set_random_seed(0)
        model = make()
        model.compile("sgd", loss=given, metrics=[])
        values.append(float(model.evaluate(images, masks, verbose=0)))
    assert values[0] == values[1]


@pytest.mark.backend_independent
def test_losses_of_probabilities_are_refused():
    for kind in (make(), keras_exfuse.SemanticSupervisionClassifier(4, tiny_backbone(), head_units=4)):
        with pytest.raises(ValueError, match="gives logits.*from_logits=True"):
            kind.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy())


@pytest.mark.backend_independent
def test_accuracy_by_name_says_that_it_counts_ignored_pixels():
    with pytest.warns(UserWarning, match="counts ignored pixels.*PixelAccuracy"):
        make().compile("sgd", metrics=["accuracy"])


def test_early_stopping_knows_which_way_mean_iou_gets_better():
    model = make()
    model.compile(keras.optimizers.SGD(0.0))
    images, masks = random_batch(2, 32, 32)
    callbacks = [
        keras.callbacks.EarlyStopping("val_mean_iou", patience=1),
        keras.callbacks.ReduceLROnPlateau("val_mean_iou", patience=1),
    ]
    history = model.fit(
        images, masks, epochs=4, validation_data=(images, masks), callbacks=callbacks, verbose=0
    )
    assert len(history.history["loss"]) == 2  # Nothing gets better at a rate of 0.


# === Policy ===


def test_the_dtype_policy_is_honored_saved_and_loaded(tmp_path):
    model = keras_exfuse.ExFuse(3, backbone="efficientnet_lite0", kernel_size=3, dtype="mixed_bfloat16")
    assert keras.config.dtype_policy().name == "float32"
    assert model.get_layer("refine_1").compute_dtype == "bfloat16"
    assert model.backbone.get_layer("stem_conv").compute_dtype == "bfloat16"
    model.save(tmp_path / "half.keras")
    again = keras.saving.load_model(tmp_path / "half.keras")
    assert again.dtype_policy.name == "mixed_bfloat16"
    assert again.get_layer("semantic_embedding_1").compute_dtype == "bfloat16"
    images, _ = random_batch(1, 32, 32)
    logits = again.predict(images, verbose=0)
    assert logits.dtype == "float32"
    np.testing.assert_array_equal(logits, model.predict(images, verbose=0))


def test_the_global_policy_holds_where_none_is_given():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = make()
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_config()["dtype"] == "mixed_bfloat16"
    assert make(dtype="float32").get_config()["dtype"] == "float32"


# === Freezing ===


def test_freezing_survives_saving_and_the_next_fit(tmp_path):
    images, masks = random_batch(2, 32, 32)
    model = freeze_backbone(make())
    model.get_layer("refine_1").trainable = False
    model.compile(keras.optimizers.AdamW(1e-3), metrics=[])
    model.fit(images, masks, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.backbone.trainable_variables == [] and not again.get_layer("refine_1").trainable
    assert int(as_numpy(again.optimizer.iterations)) == int(as_numpy(model.optimizer.iterations)) > 0
    for mine, theirs in zip(model.optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(as_numpy(theirs), as_numpy(mine))
    before = {weight.path: as_numpy(weight).copy() for weight in again.weights}
    again.fit(images, masks, verbose=0)
    moved = {path for path, old in before.items() if not np.array_equal(old, as_numpy(_weight(again, path)))}
    assert moved and not any(path.startswith(("stage_", "refine_1/")) for path in moved)


def _weight(model, path):
    return next(weight for weight in model.weights if weight.path == path)


def test_frozen_batch_normalization_deep_inside_comes_back(tmp_path):
    model = freeze_batch_norm(make(embedding_normalization=True))
    frozen = len(model.trainable_variables)
    assert frozen < len(make(embedding_normalization=True).trainable_variables)
    model.save(tmp_path / "model.keras")
    assert len(keras.saving.load_model(tmp_path / "model.keras").trainable_variables) == frozen


def test_a_model_frozen_as_a_whole_comes_back():
    model = make()
    model.trainable = False
    again = rebuild(model)
    assert again.trainable_variables == []
    again.trainable = True
    assert len(again.trainable_variables) == len(make().trainable_variables)


@pytest.mark.backend_independent
def test_a_frozen_layer_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="freezes the layer 'refine_9', and the model has no such layer"):
        make(frozen=["refine_9"])


def test_int8_quantization_does_not_crash():
    model = make()
    images, _ = random_batch(1, 32, 32)
    expected = model.predict(images, verbose=0)
    model.quantize("int8")
    found = model.predict(images, verbose=0)
    assert found.shape == expected.shape and np.isfinite(found).all()
