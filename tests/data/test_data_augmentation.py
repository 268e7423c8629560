"""Properties that every random change keeps, whatever its numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.backend_independent

pytest.importorskip("cv2")

from keras_exfuse.data import MEAN_COLOR_UINT8, Augmentation  # noqa: E402
from keras_exfuse.data import augmentation as module  # noqa: E402

sides = st.integers(1, 70)
ranges = st.sampled_from([(1.0, 1.0), (0.5, 2.0), (0.75, 1.5), (0.2, 0.4), (3.0, 4.0)])


def image_of(mask: np.ndarray) -> np.ndarray:
    """An image that encodes its own mask: every label has its own gray, twenty apart."""
    return np.repeat((mask[..., None] * 20 + 10).astype(np.uint8), 3, axis=-1)


@settings(max_examples=60, deadline=None)
@given(
    height=sides,
    width=sides,
    crop=st.tuples(st.integers(1, 48), st.integers(1, 48)),
    scale=ranges,
    aspect=st.sampled_from([(1.0, 1.0), (0.7, 1.4)]),
    rotation=st.sampled_from([0.0, 0.0, 15.0, 180.0]),
    share=st.sampled_from([None, 0.5]),
    seed=st.integers(0, 2**40),
)
def test_labels_stay_labels_and_image_and_mask_stay_aligned(
    height, width, crop, scale, aspect, rotation, share, seed
):
    # Blocks of two pixels: between two labels a bilinear image has mixed colors, inside a block it has
    # not.
    random = np.random.default_rng(seed)
    mask = random.integers(0, 8, (height // 8 + 1, width // 8 + 1)).repeat(8, 0).repeat(8, 1)
    mask = mask[:height, :width].astype(np.uint8)
    augmentation = Augmentation(
        crop_size=crop, scale=scale, aspect=aspect, rotation=rotation, max_class_share=share
    )
    image, changed = augmentation.apply(image_of(mask), mask, (seed, 5))
    assert image.shape == (*crop, 3) and changed.shape == crop
    assert image.dtype == changed.dtype == np.uint8
    assert set(np.unique(changed)) <= set(np.unique(mask)) | {255}
    if not rotation:
        assert (image[changed == 255] == MEAN_COLOR_UINT8).all()
    # Where the mask says one label all around, the image must say the same label.
    inner = np.zeros(crop, bool)
    reach = int(np.ceil(2 * max(scale)))
    if min(crop) > 2 * reach:
        windows = np.lib.stride_tricks.sliding_window_view(changed, (2 * reach + 1, 2 * reach + 1))
        same = (windows == windows[..., :1, :1]).all(axis=(-1, -2))
        inner[reach : crop[0] - reach, reach : crop[1] - reach] = same
    inner &= changed != 255
    expected = image_of(changed)
    assert np.abs(image[inner].astype(int) - expected[inner]).max(initial=0) <= 1


def test_without_anything_random_a_crop_of_the_images_size_is_the_image():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    mask = np.random.default_rng(1).integers(0, 9, (20, 30)).astype(np.uint8)
    augmentation = Augmentation(crop_size=(20, 30), scale=(1, 1), flip=False)
    out_image, out_mask = augmentation.apply(image, mask, (1, 2))
    np.testing.assert_array_equal(out_image, image)
    np.testing.assert_array_equal(out_mask, mask)


@pytest.mark.parametrize("rotation", [0.0, 20.0])
@pytest.mark.parametrize("jitter", [0.0, 0.3])
def test_a_crop_is_written_into_its_place_in_a_batch(rotation, jitter):
    change = Augmentation(crop_size=(40, 56), scale=(0.5, 2.0), rotation=rotation, brightness=jitter)
    mask = np.random.default_rng(0).integers(0, 5, (37, 61)).astype(np.uint8)
    images, masks = np.full((24, 40, 56, 3), 99, np.uint8), np.full((24, 40, 56), 99, np.uint8)
    for place in range(24):
        expected = change.apply(image_of(mask), mask, (1, place))
        given = change.apply(image_of(mask), mask, (1, place), out=(images[place], masks[place]))
        for found, batch, wanted in zip(given, (images, masks), expected, strict=True):
            assert np.shares_memory(found, batch)
            np.testing.assert_array_equal(batch[place], wanted)
        assert (images[place + 1 :] == 99).all() and (masks[place + 1 :] == 99).all()


@pytest.mark.parametrize(
    "wrong",
    [
        (np.zeros((8, 8, 3), np.uint8), np.zeros((16, 16), np.uint8)),
        (np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), np.int64)),
        (np.zeros((3, 16, 16), np.uint8).transpose(1, 2, 0), np.zeros((16, 16), np.uint8)),
        (np.zeros((16, 32, 3), np.uint8)[:, ::2], np.zeros((16, 16), np.uint8)),
    ],
    ids=["shape", "type", "order", "steps"],
)
@pytest.mark.parametrize("rotation", [0.0, 5.0])
def test_a_place_that_a_crop_cannot_be_written_into_is_refused(wrong, rotation):
    """Not left empty: OpenCV makes a new array where the given one does not suit."""
    mask = np.zeros((30, 40), np.uint8)
    expected = r"out: expected uint8 arrays of shapes \(16, 16, 3\) and \(16, 16\), contiguous .*, got "
    with pytest.raises(ValueError, match=expected):
        Augmentation(crop_size=16, rotation=rotation).apply(image_of(mask), mask, (0, 0), out=wrong)


@pytest.mark.parametrize("rotation", [0.0, 1e-6])
def test_flipping_mirrors_both(rotation):
    image = np.random.default_rng(0).integers(0, 256, (20, 31, 3)).astype(np.uint8)
    mask = np.random.default_rng(1).integers(0, 9, (20, 31)).astype(np.uint8)
    augmentation = Augmentation(crop_size=(20, 31), scale=(1, 1), rotation=rotation)
    seen = set()
    for seed in range(12):
        out_image, out_mask = augmentation.apply(image, mask, (seed, 0))
        flipped = not np.array_equal(out_mask, mask)
        seen.add(flipped)
        np.testing.assert_array_equal(out_mask, mask[:, ::-1] if flipped else mask)
        difference = np.abs(out_image.astype(int) - (image[:, ::-1] if flipped else image))
        assert difference.max() <= (1 if rotation else 0)
    assert seen == {False, True}


def test_a_rotation_by_a_known_angle_is_a_rotation():
    """Half a turn is the one angle at which nothing is interpolated; both signs of it are the same."""
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype(np.uint8)
    mask = np.random.default_rng(1).integers(0, 9, (16, 24)).astype(np.uint8)
    numbers = np.zeros(14, np.float32)
    numbers[module._FLIP] = numbers[module._TOP] = numbers[module._LEFT] = 0.5
    numbers[module._ROTATION] = 1.0
    augmentation = Augmentation(crop_size=(16, 24), scale=(1, 1), rotation=180)
    out_image, out_mask = augmentation._rotated_crop(image, mask, numbers.tolist())
    np.testing.assert_array_equal(out_mask, mask[::-1, ::-1])
    assert np.abs(out_image.astype(int) - image[::-1, ::-1]).max() <= 1


def test_colors_change_and_labels_do_not():
    image = np.full((40, 40, 3), (200, 90, 30), np.uint8)
    image[::2] //= 2
    mask = np.random.default_rng(1).integers(0, 9, (40, 40)).astype(np.uint8)
    plain = Augmentation(crop_size=40, scale=(1, 1), flip=False)
    seed = (5, 0)  # A wide blur is drawn.
    for name, value in (
        ("brightness", 0.5),
        ("contrast", 0.9),
        ("saturation", 0.9),
        ("hue", 0.5),
        ("blur", 1.0),
    ):
        changed = Augmentation(**{**plain.__dict__, name: value})
        out_image, out_mask = changed.apply(image, mask, seed)
        np.testing.assert_array_equal(out_mask, mask)
        assert out_image.dtype == np.uint8
        assert not np.array_equal(out_image, image), name


def test_blurring_keeps_a_flat_image_to_its_edge():
    image = np.full((30, 30, 3), (200, 90, 30), np.uint8)
    mask = np.zeros((30, 30), np.uint8)
    blurred = Augmentation(crop_size=30, scale=(1, 1), flip=False, blur=1.0)
    out_image, _ = blurred.apply(image, mask, (0, 0))
    np.testing.assert_array_equal(out_image, image)


@pytest.mark.parametrize("rotation", [0.0, 5.0])
def test_balanced_crops_avoid_crops_of_nothing_but_ground(rotation):
    mask = np.zeros((100, 100), np.uint8)
    mask[20:50, 20:50] = 3
    image = image_of(mask)

    def dominated(share):
        augmentation = Augmentation(crop_size=32, scale=(1, 1), max_class_share=share, rotation=rotation)
        count = 0
        for seed in range(60):
            _, crop = augmentation.apply(image, mask, (seed, 1))
            count += np.bincount(crop.ravel()).max() > 0.8 * crop.size
        return count

    assert dominated(0.75) < dominated(None) / 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"crop_size": 0}, "crop_size"),
        ({"scale": (1.5, 0.5)}, "scale"),
        ({"scale": (0, 1)}, "scale"),
        ({"aspect": (2, 1)}, "aspect"),
        ({"rotation": 270}, "rotation"),
        ({"hue": 0.6}, "hue"),
        ({"blur": -1}, "blur"),
        ({"max_class_share": 0}, "max_class_share"),
    ],
)
def test_numbers_out_of_range_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        Augmentation(**options)
