"""What `fit` and `evaluate` take and refuse: arrays, tensors and every kind of batches; and Keras's callbacks."""

import contextlib
import pickle
import re
import warnings

import keras
import numpy as np
import pytest
import torch
from keras import ops

import keras_exfuse
from keras_exfuse import SemanticSupervisionClassifier, losses
from keras_exfuse.data import DataNotice
from keras_exfuse.models import _inputs, _labels
from tests.helpers import random_batch, tiny_backbone

IMAGES, MASKS = random_batch(4, 32, 64)
LABELS = np.array([0, 3, 1, 2], "int32")
BAD_MASKS, BAD_LABELS = MASKS.copy(), LABELS.copy()
BAD_MASKS[-1, 7, 7] = 77  # In the last of four batches.
BAD_LABELS[-1] = 77
MASK_TEXT = r"(?i)masks may hold the labels 0\.\.4 and 255 \(ignored\)\..*77"
LABEL_TEXT = r"(?i)labels may be 0\.\.4, since num_classes=5\..*77"


@pytest.fixture(scope="module")
def plain():
    """A compiled model for what does not depend on its weights."""
    model = keras_exfuse.GCN(5, backbone=tiny_backbone(), kernel_size=3)
    model.compile(optimizer="sgd", metrics=[])
    return model


def make_pixels():
    """The smallest model of a class for each pixel, trained as the package's are."""
    model = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(5, 1)]
    )
    model.compile(optimizer="sgd", loss=losses.CrossEntropy())
    return model, MASKS, BAD_MASKS, MASK_TEXT, lambda x, y: _inputs.checked(x, y, 5, 255)


def make_classes():
    """The smallest model of a class for each image."""
    model = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5)]
    )
    model.compile(optimizer="sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model, LABELS, BAD_LABELS, LABEL_TEXT, lambda x, y: _labels.checked(x, y, 5)


# === Arrays ===


@pytest.mark.parametrize(
    ("images", "masks", "text"),
    [
        (IMAGES[..., :1], MASKS, r"RGB of shape.*Received shape \(4, 32, 64, 1\)"),
        (IMAGES[0], MASKS, r"Received shape \(32, 64, 3\)"),
        (IMAGES[:, :20], MASKS[:, :20], "at least 32 pixels"),
        (IMAGES[:0], MASKS[:0], "no images"),
        (IMAGES, MASKS[:, 1:], r"agree in batch, height and width.*\(4, 31, 64\)"),
        (IMAGES, MASKS.astype("float32"), "integer type.*Received: float32.*astype"),
        (IMAGES, np.where(MASKS == 0, 5, MASKS), r"labels 0..4 and 255.*\[5\].*Raise `num_classes`"),
        (IMAGES, MASKS.astype("int32") - 1, r"\[-1"),
        (IMAGES, np.eye(5, dtype="uint8")[MASKS % 5], r"agree in batch.*one-hot, take masks.argmax\(-1\)"),
        (IMAGES, np.eye(5, dtype="float32")[MASKS % 5], r"one-hot, take masks.argmax\(-1\)"),
        (
            np.moveaxis(IMAGES, -1, 1),
            MASKS,
            r"channels first, shape \(4, 3, 32, 64\).*np.moveaxis\(images, 1, -1\)",
        ),
        (IMAGES, {"mask": MASKS}, "Expected one integer mask.*Received: dict"),
    ],
)
def test_bad_arrays(plain, images, masks, text):
    for run in (plain.fit, plain.evaluate):
        with pytest.raises(ValueError, match=text):
            run(images, masks, verbose=0)


def test_bad_images_for_predict(plain):
    with pytest.raises(ValueError, match="RGB of shape"):
        plain.predict(np.zeros((2, 64, 64), "uint8"))


@pytest.mark.parametrize("kind", ["generator", "PyDataset", "tf.data", "loader"])
def test_images_alone_for_predict(plain, kind):
    expected = plain.predict(IMAGES, verbose=0)
    if kind == "tf.data":
        given = tf_dataset(IMAGES, MASKS).map(lambda image, mask: image)
    elif kind == "generator":
        given = ((IMAGES[index : index + 1],) for index in range(4))
    else:
        given = KINDS[kind](IMAGES, MASKS)
    np.testing.assert_allclose(plain.predict(given, verbose=0), expected, atol=1e-5)


def test_evaluate_before_compile():
    model = keras_exfuse.GCN(5, backbone=tiny_backbone(), kernel_size=3)
    with pytest.raises(ValueError, match=r"call `model.compile\(\)` before it"):
        model.evaluate(IMAGES, MASKS, verbose=0)


# === Every kind of data ===


class Batches(keras.utils.PyDataset):
    """A batch for each image; counts what Keras tells it."""

    def __init__(self, images, targets, **kwargs):
        super().__init__(**kwargs)
        self.images, self.targets = images, targets
        self.begun = self.ended = 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index : index + 1], self.targets[index : index + 1]

    def on_epoch_begin(self):
        self.begun += 1

    def on_epoch_end(self):
        self.ended += 1


class Rows(torch.utils.data.Dataset):
    """The examples for a torch loader."""

    def __init__(self, images, targets):
        self.images, self.targets = images, targets

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.targets[index]


def generator(images, targets):
    for index in range(len(images)):
        yield images[index : index + 1], targets[index : index + 1]


def tf_dataset(images, targets):
    tf = pytest.importorskip("tensorflow", reason="tf.data needs TensorFlow")
    return tf.data.Dataset.from_tensor_slices((images, targets)).batch(1)


KINDS = {
    "arrays": lambda images, targets: (images, targets),
    "tensors": lambda images, targets: (ops.convert_to_tensor(images), ops.convert_to_tensor(targets)),
    "torch tensors": lambda images, targets: (torch.tensor(images), torch.tensor(targets)),
    "generator": generator,
    "PyDataset": Batches,
    "PyDataset with threads": lambda images, targets: Batches(images, targets, workers=2),
    "tf.data": tf_dataset,
    "loader": lambda images, targets: torch.utils.data.DataLoader(Rows(images, targets)),
}


def checked_data(checked, data):
    """What Keras's `fit` and `evaluate` get as `x` and `y`."""
    return checked(*data) if isinstance(data, tuple) else checked(data, None)


@pytest.mark.parametrize("make", [make_pixels, make_classes])
@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_label_stops_training_and_evaluation(kind, make):
    model, good, bad, text, checked = make()
    for method in ("fit", "evaluate"):
        with pytest.raises(ValueError, match=text) as caught, _inputs.readable_errors(model):
            x, y = checked_data(checked, KINDS[kind](IMAGES, bad))
            getattr(model, method)(x, y, verbose=0)
        # One line, without what surrounds it in a pipeline.
        assert "\n" not in str(caught.value) and "data error" not in str(caught.value), method
    assert np.isfinite(model.evaluate(IMAGES, good, verbose=0))  # JAX has given the weights back.


@pytest.mark.parametrize("make", [make_pixels, make_classes])
@pytest.mark.parametrize("kind", KINDS)
def test_good_labels_train_as_if_they_were_not_checked(kind, make):
    model, good, _, _, checked = make()
    model.optimizer.learning_rate = 0.0  # With threads Keras gives batches in any order.
    results = []
    for check in (checked, lambda x, y: (x, y)):
        x, y = checked_data(check, KINDS[kind](IMAGES, good))
        history = model.fit(x, y, shuffle=False, verbose=0).history
        results.append([*history["loss"], model.evaluate(IMAGES, good, verbose=0)])
    np.testing.assert_allclose(*results, rtol=1e-5)


@pytest.mark.parametrize("model", ["segmentation", "classifier"])
@pytest.mark.parametrize("kind", ["torch tensors", "generator", "PyDataset", "tf.data", "loader"])
def test_the_models_check_their_data(kind, model):
    """Of each kind in training, validation and evaluation, in their first batch: nothing has to be compiled."""
    good, bad, text = MASKS, BAD_MASKS[::-1], MASK_TEXT
    if model == "classifier":
        good, bad, text = LABELS, BAD_LABELS[::-1].copy(), LABEL_TEXT
        model = SemanticSupervisionClassifier(5, backbone=tiny_backbone(), head_units=8)
        model.compile(optimizer="sgd", metrics=[], run_eagerly=True)
    else:
        model = keras_exfuse.GCN(5, backbone=tiny_backbone(), kernel_size=3)
        model.compile(optimizer="sgd", metrics=[], run_eagerly=True)
    make = KINDS[kind]

    def arguments(data):
        return data if isinstance(data, tuple) else (data,)

    with pytest.raises(ValueError, match=text):
        model.evaluate(*arguments(make(IMAGES, bad.copy())), verbose=0)
    with pytest.raises(ValueError, match=text):
        model.fit(IMAGES, good, validation_data=make(IMAGES, bad.copy()), verbose=0)
    if kind == "tf.data" and keras.backend.backend() == "jax":
        model = type(model).from_config(model.get_config())
        model.compile(optimizer="sgd", metrics=[], run_eagerly=True)
    with pytest.raises(ValueError, match=text):
        model.fit(*arguments(make(IMAGES, bad.copy())), verbose=0)


BLACK_AND_WHITE = r"the masks hold only 0 and 255, and 255 is ignored: class 1 never occurs.*binary=True"


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_that_may_be_the_ignored_one_is_noticed(kind):
    model, good, *_ = make_pixels()
    white = np.where(good == 1, 255, 0).astype("uint8")
    for masks, expected in ((white, pytest.warns(DataNotice, match=BLACK_AND_WHITE)), (good, no_warnings())):
        seen = _inputs.seen_labels(5, 255)
        x, y = checked_data(
            lambda x, y, seen=seen: _inputs.checked(x, y, 5, 255, seen), KINDS[kind](IMAGES, masks)
        )
        with expected:
            model.fit(x, y, shuffle=False, verbose=0, callbacks=[_inputs.NoticeAfterEpoch(seen)])


def no_warnings():
    return contextlib.nullcontext()  # The suite makes an error of ours.


def test_fit_notices_black_and_white_masks(plain):
    white = np.where(MASKS == 1, 255, 0).astype("uint8")
    with pytest.warns(DataNotice, match=BLACK_AND_WHITE) as caught:
        plain.fit(IMAGES, white, epochs=2, verbose=0)
    assert len([each for each in caught if each.category is DataNotice]) == 1
    callbacks = keras.callbacks.CallbackList([keras.callbacks.TerminateOnNaN()], model=plain)
    plain.fit(IMAGES, white, verbose=0, callbacks=callbacks)  # Keras's own list is not added to.


def test_a_generator_is_not_read_ahead():
    read = []

    def batches():
        for index in range(3):
            read.append(index)
            yield IMAGES[:1], MASKS[:1]

    given, _ = _inputs.checked(batches(), None, 5, 255)
    assert read == []
    next(given)
    assert read == [0]


def test_a_py_dataset_keeps_what_it_is():
    dataset = Batches(IMAGES, MASKS, workers=3, use_multiprocessing=False, max_queue_size=7)
    given, _ = _inputs.checked(dataset, None, 5, 255)
    assert (given.workers, given.use_multiprocessing, given.max_queue_size) == (3, False, 7)
    assert given.num_batches == 4
    np.testing.assert_array_equal(given[2][0], IMAGES[2:3])
    given.on_epoch_begin()
    assert (dataset.begun, dataset.ended) == (1, 0)
    given.on_epoch_end()
    assert (dataset.begun, dataset.ended) == (1, 1)
    assert pickle.loads(pickle.dumps(given))[3][1].shape == (1, 32, 64)  # For processes.


def test_an_infinite_py_dataset():
    class Endless(keras.utils.PyDataset):
        num_batches = None

        def __getitem__(self, index):
            return (IMAGES[:1], MASKS[:1]) if index < 3 else (IMAGES[-1:], BAD_MASKS[-1:])

    model, *_, checked = make_pixels()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's, that the data ran out.
        model.fit(checked(Endless(), None)[0], steps_per_epoch=2, shuffle=False, verbose=0)
    with pytest.raises(ValueError, match=MASK_TEXT), _inputs.readable_errors():
        model.fit(checked(Endless(), None)[0], steps_per_epoch=5, shuffle=False, verbose=0)


def test_a_loader_keeps_what_it_is():
    loader = torch.utils.data.DataLoader(Rows(IMAGES, MASKS), batch_size=3)
    given, _ = _inputs.checked(loader, None, 5, 255)
    assert isinstance(given, torch.utils.data.DataLoader)
    assert (len(given), given.batch_size, given.dataset) == (2, 3, loader.dataset)
    assert [len(images) for images, _ in given] == [3, 1]


@pytest.mark.parametrize("length", [1, 3])
def test_batches_without_masks_and_with_weights(length):
    batch = (IMAGES, MASKS, np.ones(4))[:length]
    given, _ = _inputs.checked((batch for _ in range(1)), None, 5, 255)
    assert next(given) is batch


def test_an_ignored_class_may_be_any(plain):
    """Also one that is no class, such as 11 of 5; it is the objective's."""
    masks = np.where(MASKS == 255, 11, MASKS)
    model = keras_exfuse.GCN(5, backbone=tiny_backbone(), kernel_size=3)
    model.compile(optimizer="sgd", loss=losses.CrossEntropy(ignore_class=11))
    history = model.fit(IMAGES, masks, validation_data=tf_dataset(IMAGES, masks), verbose=0).history
    plain.set_weights(model.get_weights())
    expected = plain.evaluate(IMAGES, MASKS, verbose=0)
    assert history["val_loss"][0] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ValueError, match=r"labels 0..4 and 11 \(ignored\). Received also: \[255\]"):
        model.fit(IMAGES, MASKS, verbose=0)


def test_a_loss_of_zero_where_all_is_ignored():
    """ECRE's term, semantic supervision and the metrics ignore what the loss ignores."""
    model = keras_exfuse.ExFuse(5, backbone=tiny_backbone(), kernel_size=3, semantic_supervision=True)
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss=losses.CrossEntropy(ignore_class=0))
    history = model.fit(IMAGES, np.zeros_like(MASKS), verbose=0).history
    assert history["loss"] == history["mean_iou"] == history["pixel_accuracy"] == [0.0]


# === Weights ===


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 1, 1), (4, 32, 64), (4, 32, 64, 1)])
def test_weights_in_evaluation(plain, shape):
    weight = np.random.default_rng(0).uniform(0, 2, shape).astype("float32")
    result = plain.evaluate(IMAGES, MASKS, sample_weight=weight, verbose=0)
    logits = plain.predict(IMAGES, verbose=0)
    expected = float(losses.CrossEntropy()(MASKS, logits, sample_weight=weight))
    assert result == pytest.approx(expected, rel=1e-4)


# === tf.data ===


@pytest.mark.parametrize("bad", ["float", "empty", "dictionary", "shape", "size of a batch"])
def test_bad_data_sets(plain, bad):
    """A tf.data pipeline is checked on every backend, also where a bad batch would pass silently."""
    tf = pytest.importorskip("tensorflow", reason="tf.data needs TensorFlow")
    dataset = tf_dataset(IMAGES, MASKS)
    text = {"empty": "empty", "float": "integer type"}.get(bad)
    if bad == "float":
        dataset = dataset.map(lambda image, mask: (image, tf.cast(mask, tf.float32)))
    if bad == "empty":
        dataset = dataset.take(0)
    if bad == "dictionary":
        dataset = dataset.map(lambda image, mask: {"images": image, "segmentation_masks": mask})
        text = r"data set of \(images, masks\) batches.*from_segmentation_dictionaries"
    if bad == "shape":
        dataset = tf_dataset(IMAGES, MASKS[:, 1:])
        text = r"Masks and images must agree in batch, height and width.*Received shape \(None, 31, 64\)"
    if bad == "size of a batch":
        dataset = tf.data.Dataset.from_generator(
            lambda: [(IMAGES, MASKS[:, :-1])],
            output_signature=(tf.TensorSpec([None] * 3 + [3], tf.uint8), tf.TensorSpec([None] * 3, tf.uint8)),
        )
        text = re.escape("(images, masks) must agree in batch, height and width. Received:") + ".*31"
    with pytest.raises(ValueError, match=text):
        plain.fit(dataset, verbose=0)


# === Callbacks ===


@pytest.mark.parametrize("metrics", [None, [keras_exfuse.metrics.TrimapAccuracy(5, name="mean_iou")]])
def test_keras_callbacks_find_the_direction_of_a_metric(metrics, tmp_path):
    model = keras_exfuse.GCN(5, backbone=tiny_backbone(), kernel_size=3)
    model.compile(optimizer="sgd", metrics=metrics)
    callbacks = [
        keras.callbacks.EarlyStopping("val_mean_iou", patience=5),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.weights.h5", "val_mean_iou", save_best_only=True, save_weights_only=True
        ),
        keras.callbacks.ReduceLROnPlateau("val_mean_iou"),
    ]
    model.fit(IMAGES, MASKS, validation_data=(IMAGES, MASKS), callbacks=callbacks, verbose=0)
    assert (tmp_path / "best.weights.h5").is_file()
    assert all(callback.monitor_op(2.0, 1.0) for callback in callbacks)


# === Errors in their own words ===


def test_errors_of_others_stay_as_they_are():
    error = RuntimeError("out of memory")
    with pytest.raises(RuntimeError) as caught, _inputs.readable_errors():
        raise error
    assert caught.value is error


@pytest.mark.parametrize("value", [1, 2.0, True, "5"])
def test_numbers_of_classes(value):
    with pytest.raises(
        ValueError, match=r"`num_classes` must be an int of at least 2: why\. Received: num_classes="
    ):
        _inputs.check_num_classes(value, "why")
    assert type(_inputs.check_num_classes(np.int64(5), "why")) is int


def test_labels_of_a_classifier_may_be_a_list():
    _, labels = _labels.checked(IMAGES, [0, 1, 2, 3], 5)
    np.testing.assert_array_equal(labels, [0, 1, 2, 3])
