"""Which epoch an iteration is: one that is only looked into does not count, on any backend."""

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
pytest.importorskip("PIL.Image")

from keras_exfuse import data  # noqa: E402
from keras_exfuse.data import open_source, write_records  # noqa: E402
from tests.helpers import as_numpy  # noqa: E402

OPTIONS = {"num_classes": 5, "shuffle": True, "seed": 3, "augmentation": data.Augmentation(crop_size=16)}


def make(root, **options):
    return data.voc_folder(root, "train", **{**OPTIONS, "batch_size": 2, **options})


def epoch(dataset):
    """The images of one iteration."""
    return np.concatenate([images.numpy() for images, _ in dataset])


def assert_epochs(dataset, expected):
    for images in expected:
        np.testing.assert_array_equal(epoch(dataset), images)


@pytest.fixture
def root(make_voc):
    return make_voc(count=7, sizes=((40, 60),))


@pytest.mark.backend_independent
@pytest.mark.parametrize("kind", ["files", "records", "skipping", "sharded"])
def test_a_look_does_not_shift_later_epochs(root, tmp_path, kind):
    def dataset():
        if kind == "records":
            options = {name: value for name, value in OPTIONS.items() if name != "num_classes"}
            return data.records_dataset(tmp_path / "records", batch_size=2, **options)
        options = {"skipping": {"on_error": "skip"}, "sharded": {"num_shards": 2, "index": 1}}
        return make(root, **options.get(kind, {}))

    if kind == "records":
        write_records(open_source(root)["train"], tmp_path / "records", num_classes=5)
    expected, looked = [epoch(whole := dataset())], dataset()
    expected += [epoch(whole) for _ in range(2)]
    assert not np.array_equal(expected[0], expected[1]) and not np.array_equal(expected[1], expected[2])
    for images in expected:
        first = next(iter(looked))[0]
        for _ in range(3):
            np.testing.assert_array_equal(next(iter(looked))[0], first)
        np.testing.assert_array_equal(first, images[: len(first)])
        np.testing.assert_array_equal(epoch(looked), images)


@pytest.mark.backend_independent
def test_an_epoch_left_in_the_middle_counts(root):
    """Who trains on a part of each epoch gets other images and crops in the next."""
    whole, left = make(root), make(root)
    expected = [epoch(whole) for _ in range(3)]
    for number, images in enumerate(expected):
        iterator = iter(left)
        for batch in range(2 if number == 2 else 3):
            np.testing.assert_array_equal(next(iterator)[0], images[2 * batch : 2 * batch + 2])
    assert_epochs(left, expected[2:])  # Of which only two batches had been taken.


@pytest.mark.backend_independent
@pytest.mark.parametrize("batch_size", [7, 4])
def test_short_epochs_count_with_their_last_batch(root, batch_size):
    """Of one and two batches; also where a bad file makes them shorter than the list says."""
    whole = make(root, batch_size=batch_size)
    expected = [epoch(whole) for _ in range(3)]
    again = make(root, batch_size=batch_size)
    for images in expected:
        iterator = iter(again)
        taken = [next(iterator)[0].numpy() for _ in range(-(-7 // batch_size))]  # The end is not asked for.
        np.testing.assert_array_equal(np.concatenate(taken), images)

    for name in ("train_000", "train_003", "train_006"):
        (root / "JPEGImages" / f"{name}.jpg").write_bytes(b"")
    skipping = make(root, batch_size=batch_size, on_error="skip")
    good = [epoch(skipping) for _ in range(3)]
    assert [len(images) for images in good] == [4, 4, 4]
    for number in (0, 1):
        assert not np.array_equal(good[number], good[number + 1])
    for images, all_images in zip(good, expected, strict=True):
        known = {image.tobytes() for image in all_images}
        assert all(image.tobytes() in known for image in images)


@pytest.mark.backend_independent
def test_a_look_is_not_added_to_the_report_of_bad_files(root, caplog):
    (root / "JPEGImages" / "train_003.jpg").write_bytes(b"")
    dataset = make(root, on_error="skip")
    next(iter(dataset))
    caplog.clear()
    epoch(dataset)
    assert caplog.records[-1].getMessage() == "1 of 7 examples were left out: train_003"


@pytest.mark.backend_independent
def test_without_random_changes_nothing_is_counted(root):
    dataset = data.voc_folder(root, "train", num_classes=5)
    np.testing.assert_array_equal(epoch(dataset), epoch(dataset))
    assert dataset.cardinality() == 1
    assert make(root).cardinality() == 4 and make(root, on_error="skip").cardinality() == -2


def test_fit_sees_the_epochs_on_every_backend(root):
    """Keras looks at a batch before it trains under JAX and PyTorch: the crops are TensorFlow's all the same."""

    def model():
        layers = [keras.Input((16, 16, 3)), keras.layers.Rescaling(1 / 128, -1), keras.layers.Conv2D(5, 1)]
        small = keras.Sequential(layers)
        small.layers[-1].set_weights([np.linspace(-1, 1, 15).reshape(1, 1, 3, 5), np.zeros(5)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
        small.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss)
        return small

    fitted, stepwise, dataset = model(), model(), make(root)
    fitted.fit(make(root), epochs=3, shuffle=False, verbose=0)
    for _ in range(3):
        for images, masks in dataset.as_numpy_iterator():
            stepwise.train_on_batch(images, masks)
    for one, other in zip(fitted.weights, stepwise.weights, strict=True):
        np.testing.assert_allclose(as_numpy(one), as_numpy(other), rtol=1e-4, atol=1e-5)
