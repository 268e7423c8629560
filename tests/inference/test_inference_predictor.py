"""The Predictor against the model itself and against results that can be told by hand."""

import concurrent.futures
import io

import keras
import numpy as np
import pytest
import scipy.stats
import torch
from keras import layers, ops
from PIL import Image

from keras_exfuse import GCN, fuse_for_inference
from keras_exfuse.inference import Predictor
from tests.drawing import draw_by_path, run_model
from tests.helpers import as_numpy, tiny_backbone


@pytest.fixture(scope="module")
def pixelwise():
    """A model that looks at one pixel alone: whatever is done with sizes, labels must not change."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [layers.Input((None, None, 3)), layers.Rescaling(1 / 128, -1), layers.Conv2D(5, 1)]
    )


@pytest.fixture(scope="module")
def constant():
    model = keras.Sequential([layers.Input((None, None, 3)), layers.Conv2D(4, 3, padding="same")])
    model.layers[0].set_weights([np.zeros((3, 3, 3, 4)), np.array([0.1, 0.7, -0.3, 0.2])])
    return model


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype("uint8")


def test_several_threads_share_one(constant):
    """And its model: under JAX, Keras's own prediction cannot be called by two threads."""
    predictors, images = (
        [Predictor(constant), Predictor(constant)],
        [noise(32, 32, seed) for seed in range(64)],
    )
    for predictor in predictors:
        predictor(images[0])  # Compiled once.
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: predictors[number % 2](images[number]), range(64)))
    assert all((labels == 1).all() and labels.shape == (32, 32) for labels in found)


def test_labels_are_those_of_predict(pixelwise):
    image = noise(45, 70)
    expected = np.argmax(pixelwise.predict(image[None].astype("float32"), verbose=0)[0], axis=-1)
    labels = Predictor(pixelwise)(image)
    assert labels.dtype == "uint8"
    np.testing.assert_array_equal(labels, expected)


def test_whatever_an_image_comes_as(pixelwise, tmp_path):
    image = noise(40, 50)
    predictor = Predictor(pixelwise)
    labels = predictor(image)
    Image.fromarray(image).save(tmp_path / "image.png")
    for same in (tmp_path / "image.png", str(tmp_path / "image.png"), Image.fromarray(image)):
        np.testing.assert_array_equal(predictor(same), labels)
    several = predictor([image, tmp_path / "image.png", noise(33, 47)])
    assert [each.shape for each in several] == [(40, 50), (40, 50), (33, 47)]
    np.testing.assert_array_equal(several[1], labels)
    batch = predictor(np.stack([image, image, image]))
    assert batch.shape == (3, 40, 50)
    np.testing.assert_array_equal(batch[2], labels)


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "BytesIO", "open file", "tensor", "torch tensor"])
def test_what_a_web_server_has_in_hand(kind, pixelwise, tmp_path):
    image, path = noise(40, 50), tmp_path / "image.png"
    Image.fromarray(image).save(path)
    predictor = Predictor(pixelwise)
    make = {
        "bytes": path.read_bytes,
        "bytearray": lambda: bytearray(path.read_bytes()),
        "BytesIO": lambda: io.BytesIO(path.read_bytes()),
        "open file": lambda: path.open("rb"),
        "tensor": lambda: ops.convert_to_tensor(image),
        "torch tensor": lambda: torch.tensor(image),
    }[kind]
    labels = predictor(image)
    given = make()
    np.testing.assert_array_equal(predictor(given), labels)
    if kind == "open file":
        given.close()
    if "tensor" in kind:
        batch = predictor(ops.stack([ops.convert_to_tensor(image)] * 2))
        assert isinstance(batch, np.ndarray) and batch.shape == (2, 40, 50)
    else:
        several = predictor([make(), image])
        np.testing.assert_array_equal(several[0], labels)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, "got None.*cv2.imread.*check the path"),
        ([None], "got None"),
        (np.zeros((0, 32, 32, 3), "uint8"), r"no image.*an empty ndarray of shape \(0, 32, 32, 3\)"),
        ([], "no image.*an empty list"),
        ("https://example.org/cat.jpg", "cat.jpg is a URL.*pass its bytes"),
        (b"", "the image given as bytes: cannot be decoded"),
        (b"no image", "the image given as bytes: cannot be decoded"),
        (io.BytesIO(), "gives no bytes.*seek"),
        (io.StringIO("text"), 'opened as text.*"rb"'),
        ({"image": 1}, "got dict"),
        (5, "got shape|got int"),
        (np.zeros((3, 40, 50), "uint8"), r"channels first, shape \(3, 40, 50\).*np.moveaxis\(image, 0, -1\)"),
        (np.array([["a"]]), "got ndarray"),
    ],
)
def test_what_is_no_image_is_called_by_its_name(constant, given, text):
    with pytest.raises(ValueError, match=text):
        Predictor(constant)(given)


@pytest.mark.parametrize(
    ("low", "high", "dtype", "text"),
    [
        (0, 1, "float32", r"within 0\.\.1, which are black.*value_range=\(0, 1\)"),
        (0, 1, "float64", r"within 0\.\.1"),
        (-1, 1, "float32", r"normalized.*-1\.\.1 by.*value_range"),
        (0, 65535, "uint16", r"uint16 values \d+\.\.65535.*images / 257.*value_range"),
        (0, 65535, "int32", "int32 values"),
        (0, 4095, "float32", r"float32 values 0\.\.4095"),
        (-128, 127, "int8", "int8 values -128"),
    ],
)
def test_values_of_another_range_are_refused_unless_it_is_given(pixelwise, low, high, dtype, text):
    image = noise(40, 50)
    image[0, :2] = [[0] * 3, [255] * 3]
    other = image.astype("float64") / 255 * (high - low) + low
    other = other.astype(dtype) if "float" in dtype else np.rint(other).astype(dtype)
    with pytest.raises(ValueError, match=text):
        Predictor(pixelwise)(other)
    labels = Predictor(pixelwise, value_range=(low, high))(other)
    assert (labels == Predictor(pixelwise)(image)).mean() > 0.99


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_is_refused_with_and_without_a_range(constant, bad):
    image = noise(40, 50).astype("float32")
    image[3, 4, 1] = bad
    for value_range in (None, (0, 255)):
        with pytest.raises(ValueError, match="NaN or infinite.*np.nan_to_num"):
            Predictor(constant, value_range=value_range)(image)


def test_images_that_are_dark_indeed(pixelwise):
    """Whole numbers, and whatever is said to be 0..255."""
    dark = np.zeros((40, 50, 3), "float32")
    dark[5, 5] = 1
    expected = Predictor(pixelwise)(dark.astype("uint8"))
    np.testing.assert_array_equal(Predictor(pixelwise)(dark), expected)
    np.testing.assert_array_equal(Predictor(pixelwise, value_range=(0, 255))(dark * 0.3), expected)
    overshot = noise(40, 50).astype("float32") * 1.1 - 20  # As bicubic resizing leaves it.
    assert Predictor(pixelwise)(overshot).shape == (40, 50)


@pytest.mark.parametrize("mode", ["I", "I;16", "F"])
def test_pil_images_of_more_than_8_bits(pixelwise, mode):
    gray = np.arange(40 * 50, dtype="uint16").reshape(40, 50) * 32
    image = Image.fromarray(gray if mode == "I;16" else gray.astype("int32" if mode == "I" else "float32"))
    assert image.mode == mode
    with pytest.raises(ValueError, match=rf"mode {mode} has more than 8 bits.*value_range=\(0, 65535\)"):
        Predictor(pixelwise)(image)
    expected = Predictor(pixelwise)(np.repeat((gray / 257)[..., None], 3, axis=-1))
    np.testing.assert_array_equal(Predictor(pixelwise, value_range=(0, 65535))(image), expected)


def test_stream_is_lazy_and_in_order(pixelwise):
    taken = []

    def images():
        for number in range(6):
            taken.append(number)
            yield noise(32, 32 + number // 2, seed=number)

    stream = Predictor(pixelwise, batch_size=2).stream(images())
    np.testing.assert_array_equal(next(stream), Predictor(pixelwise)(noise(32, 32, seed=0)))
    assert len(taken) <= 3
    assert [each.shape[1] for each in stream] == [32, 33, 33, 34, 34]


def test_probabilities_sum_to_one(pixelwise):
    scores = Predictor(pixelwise, scales=(0.5, 1.0), flip=True)(noise(40, 50), probabilities=True)
    assert scores.shape == (40, 50, 5)
    np.testing.assert_allclose(scores.sum(axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("settings", [dict(), dict(window=32), dict(flip=True, scales=(1.0, 0.5))])
def test_uncertainty_is_that_of_the_probabilities(pixelwise, settings):
    image = noise(45, 70)
    scores = Predictor(pixelwise, **settings)(image, probabilities=True).astype("float64")
    found = Predictor(pixelwise, return_uncertainty=True, **settings)(image)
    labels, entropy, margin = found
    np.testing.assert_array_equal(labels, Predictor(pixelwise, **settings)(image))
    assert (labels.dtype, entropy.dtype, margin.dtype) == ("uint8", "float32", "float32")
    np.testing.assert_allclose(entropy, scipy.stats.entropy(scores, axis=-1) / np.log(5), atol=1e-5)
    best = np.sort(scores, axis=-1)
    np.testing.assert_allclose(margin, best[..., -1] - best[..., -2], atol=1e-5)
    several = Predictor(pixelwise, return_uncertainty=True, **settings)([image, noise(33, 40)])
    np.testing.assert_allclose(several[0].entropy, entropy, atol=1e-6)
    batch = Predictor(pixelwise, return_uncertainty=True, **settings)(np.stack([image, image]))
    assert batch.labels.shape == batch.margin.shape == (2, 45, 70)


@pytest.mark.parametrize(
    "settings",
    [
        dict(scales=(0.5, 1.0, 1.75)),
        dict(flip=True),
        dict(window=32),
        dict(window=40, stride=7),
        dict(window=32, stride=32, scales=(1.0, 1.5), flip=True, batch_size=3),
        dict(size_multiple=128),
    ],
)
def test_a_constant_model_stays_constant(constant, settings):
    expected = np.exp([0.1, 0.7, -0.3, 0.2]) / np.exp([0.1, 0.7, -0.3, 0.2]).sum()
    scores = Predictor(constant, **settings)(noise(75, 101), probabilities=True)
    np.testing.assert_allclose(scores, np.broadcast_to(expected, (75, 101, 4)), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "stride"),
    [((75, 101), None), ((75, 101), 64), ((30, 101), 13), ((101, 33), 64), ((65, 64), None)],
)
def test_windows_do_not_change_a_pixelwise_model(pixelwise, size, stride):
    image = noise(*size)
    whole = Predictor(pixelwise)(image, probabilities=True)
    predictor = Predictor(pixelwise, window=64, stride=stride, batch_size=1)
    np.testing.assert_allclose(predictor(image, probabilities=True), whole, atol=1e-5)
    np.testing.assert_array_equal(predictor(image), whole.argmax(axis=-1))


def test_a_window_as_large_as_the_image_is_the_whole_image():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([layers.Input((None, None, 3)), layers.Conv2D(5, 15, padding="same")])
    image = noise(50, 64)
    whole = Predictor(model)(image, probabilities=True)
    np.testing.assert_array_equal(Predictor(model, window=64)(image, probabilities=True), whole)
    assert np.abs(Predictor(model, window=32)(image, probabilities=True) - whole).max() > 1e-3


def test_flip_averages_with_the_mirrored_image():
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [layers.Input((None, None, 3)), layers.Rescaling(1 / 255), layers.Conv2D(3, 3, padding="same")]
    )
    image = noise(32, 64)
    straight = Predictor(model)(image, probabilities=True)
    flipped = Predictor(model)(image[:, ::-1], probabilities=True)[:, ::-1]
    both = Predictor(model, flip=True)(image, probabilities=True)
    np.testing.assert_allclose(both, (straight + flipped) / 2, atol=1e-6)
    assert np.abs(both - straight).max() > 1e-4


def test_more_than_255_classes_give_uint16():
    model = keras.Sequential([layers.Input((None, None, 3)), layers.Conv2D(300, 1)])
    model.layers[0].set_weights([np.zeros((1, 1, 3, 300)), np.arange(300.0)])
    labels = Predictor(model)(noise(32, 32))
    assert labels.dtype == "uint16"
    assert (labels == 299).all()
    assert Predictor(model, window=32)(noise(40, 40)).dtype == "uint16"


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch compiles nothing, so it traces nothing"
)
def test_new_sizes_are_not_traced_again():
    traces = []

    class Counting(layers.Layer):
        def call(self, inputs):
            traces.append(1)
            return ops.tile(inputs[..., :1], (1, 1, 1, 2))

    model = keras.Sequential([layers.Input((None, None, 3)), Counting()])
    predictor = Predictor(model)
    for size in ((33, 40), (34, 41), (64, 64), (50, 35), (63, 33)):
        predictor(noise(*size))
        if size == (33, 40):
            first = len(traces)
    assert len(traces) == first


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (dict(scales=()), "at least one"),
        (dict(scales=(1.0, 0.0)), "positive"),
        (dict(batch_size=0), "batch_size"),
        (dict(window=32, stride=33), "stride <= window"),
        (dict(size_multiple=48), "multiple of 32"),
        (dict(value_range=(1, 0)), r"`value_range` must be \(black, white\).*got \(1, 0\)"),
        (dict(value_range=255), "`value_range`.*got 255"),
        (dict(value_range=(0, float("nan"))), "`value_range`"),
    ],
)
def test_wrong_settings_are_explained(constant, settings, text):
    with pytest.raises(ValueError, match=text):
        Predictor(constant, **settings)


@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 4), (32, 0, 3)])
def test_wrong_images_are_explained(constant, shape):
    with pytest.raises(ValueError, match=r"RGB of shape \(H, W, 3\)"):
        Predictor(constant)(np.zeros(shape, "uint8"))


def test_an_unreadable_file_is_named(constant, tmp_path):
    (tmp_path / "broken.jpg").write_text("no image")
    with pytest.raises(ValueError, match="broken.jpg"):
        Predictor(constant)(tmp_path / "broken.jpg")


def test_a_folder_is_a_list_of_its_images(pixelwise, tmp_path):
    for name, size in (("b.png", (33, 40)), ("a.PNG", (40, 50))):
        Image.fromarray(noise(*size)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "deeper").mkdir()
    predictor = Predictor(pixelwise)
    results = predictor(tmp_path)
    assert [each.shape for each in results] == [(40, 50), (33, 40)]
    np.testing.assert_array_equal(results[1], predictor(noise(33, 40)))
    assert len(predictor(tmp_path.glob("*.png"))) >= 1
    with pytest.raises(ValueError, match=r"no image in the folder .*deeper"):
        predictor(str(tmp_path / "deeper"))


def test_a_pil_image_is_turned_like_its_file(pixelwise, tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(noise(40, 50)).save(tmp_path / "turned.png", exif=turned)
    predictor = Predictor(pixelwise)
    labels = predictor(tmp_path / "turned.png")
    assert labels.shape == (50, 40)
    np.testing.assert_array_equal(predictor(Image.open(tmp_path / "turned.png")), labels)


def test_the_labels_of_a_segmentation_model_fused_or_not():
    model = draw_by_path(GCN(3, backbone=tiny_backbone(), kernel_size=3))
    image = noise(50, 70)
    expected = as_numpy(run_model(model, image[None].astype("float32")))[0].argmax(axis=-1)
    for each in (model, fuse_for_inference(model)):
        assert (Predictor(each)(image) == expected).mean() > 0.999
