"""Masks as annotation tools and image editors save them."""

import json
import re

import numpy as np
import pytest

pytestmark = pytest.mark.backend_independent

tf = pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")

from keras_exfuse import data  # noqa: E402
from keras_exfuse.data.decoding import decode_mask  # noqa: E402

LABELS = np.random.default_rng(0).integers(0, 3, (8, 11)).astype(np.uint8).repeat(5, 0).repeat(5, 1)
TABLE = np.array([[10, 20, 30], [200, 0, 0], [0, 220, 40]], np.uint8)


def saved(path, pixels, mode=None, **options):
    image = Image.fromarray(np.asarray(pixels, np.uint8))
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
@pytest.mark.parametrize("color_table", ["voc", None])
def test_a_gray_mask_saved_with_more_channels_gives_its_values(tmp_path, mode, color_table):
    path = saved(tmp_path / "mask.png", LABELS, mode)
    np.testing.assert_array_equal(data.read_mask(path, color_table), LABELS)
    if mode != "RGBA":  # In graph, colors with alpha are refused.
        np.testing.assert_array_equal(decode_mask(path.read_bytes(), color_table), LABELS)


@pytest.mark.parametrize("other", [7, 64, 128, 129, 255])
def test_vocs_gray_car_is_a_car_and_other_grays_are_values(tmp_path, other):
    path = saved(tmp_path / "mask.png", np.where(LABELS == 1, other, 0), "RGB")
    expected = np.where(LABELS == 1, 7 if other == 128 else other, 0)
    np.testing.assert_array_equal(data.read_mask(path), expected)
    np.testing.assert_array_equal(decode_mask(path.read_bytes()), expected)


def test_a_table_of_grays_is_taken_at_its_word(tmp_path):
    path = saved(tmp_path / "mask.png", LABELS * 100, "RGB")
    np.testing.assert_array_equal(data.read_mask(path, [[0] * 3, [100] * 3, [200] * 3]), LABELS)
    with pytest.raises(ValueError, match="is not in the color table"):
        data.read_mask(path, [[0] * 3, [100] * 3])


def test_alpha_is_dropped_unless_it_hides_colors(tmp_path):
    pixels = np.dstack([TABLE[LABELS], np.full(LABELS.shape, 255)])
    np.testing.assert_array_equal(data.read_mask(saved(tmp_path / "a.png", pixels), TABLE), LABELS)
    pixels[LABELS == 1, 3] = 0
    with pytest.raises(ValueError, match=r"b\.png: has colors under transparent pixels.*Flatten the mask"):
        data.read_mask(saved(tmp_path / "b.png", pixels), TABLE)
    pixels[LABELS == 1, :3] = 0
    table = np.array([[10, 20, 30], [0, 0, 0], [0, 220, 40]])
    np.testing.assert_array_equal(data.read_mask(saved(tmp_path / "c.png", pixels), table), LABELS)


def test_unknown_colors_are_listed_with_the_line_that_reads_them(tmp_path):
    path = saved(tmp_path / "mask.png", TABLE[LABELS])
    with pytest.raises(ValueError, match=r"mask\.png: The color .* is not in the VOC color map") as caught:
        data.read_mask(path)
    assert "The mask holds 3 colors" in str(caught.value)
    line = re.search(r"color_table=(\[[^]]+\])", str(caught.value))[1]
    table = np.array(json.loads(line.replace("(", "[").replace(")", "]")))
    np.testing.assert_array_equal(table[data.read_mask(path, table)], TABLE[LABELS])


def smoothed():
    """Colors with edges as an editor smooths them."""
    return Image.fromarray(TABLE[LABELS]).resize((110, 80), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("table", ["voc", TABLE])
def test_a_smoothed_mask_is_refused_with_its_number_of_colors(tmp_path, table):
    smoothed().save(tmp_path / "mask.png")
    count = len(np.unique(np.asarray(smoothed()).reshape(-1, 3), axis=0))
    text = (
        rf"mask\.png.*holds {count:,} colors: antialiasing or JPEG compression has mixed.*nearest_color=True"
    )
    with pytest.raises(ValueError, match=text):
        data.read_mask(tmp_path / "mask.png", table)


def test_the_nearest_color_is_the_nearest(tmp_path):
    smoothed().save(tmp_path / "mask.png")
    pixels = np.asarray(smoothed()).astype(np.int64)
    expected = ((pixels[..., None, :] - TABLE.astype(np.int64)) ** 2).sum(axis=-1).argmin(axis=-1)
    found = data.read_mask(tmp_path / "mask.png", TABLE, nearest_color=True)
    np.testing.assert_array_equal(found, expected)
    # Of VOC's colors, only those of its classes and of what is ignored.
    path = saved(tmp_path / "voc.png", data.voc_palette()[[[0, 15, 20, 255]]] ^ np.uint8(1))
    assert data.read_mask(path, nearest_color=True).tolist() == [[0, 15, 20, 255]]


def test_a_jpeg_mask_is_read_where_the_user_says_how(tmp_path):
    path = saved(tmp_path / "mask.jpg", TABLE[LABELS], quality=90, subsampling=0)
    count = len(np.unique(np.asarray(Image.open(path)).reshape(-1, 3), axis=0))
    with pytest.raises(ValueError, match=rf"mask\.jpg.*must be PNG.*this is JPEG.*{count:,} colors"):
        data.read_mask(path, TABLE)
    found = data.read_mask(path, TABLE, nearest_color=True)
    assert (found == LABELS).mean() > 0.95 and (found[2::5, 2::5] == LABELS[2::5, 2::5]).all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"color_table": "camvid"}, "'voc' or None, got 'camvid'"),
        ({"color_table": [[0, 0, 0], [0, 0, 0]]}, "stands twice"),
        ({"color_table": [[0, 0]]}, r"shape \(N, 3\)"),
        ({"color_table": None, "nearest_color": True}, "needs a color_table"),
        ({"remap": {1: 300}}, "got 1: 300"),
    ],
)
def test_arguments_are_checked(options, text):
    with pytest.raises(ValueError, match=text):
        data.MaskFormat(**options)


def test_examples_know_how_their_masks_are_read(tmp_path):
    saved(tmp_path / "a.png", np.zeros((40, 55, 3)))
    saved(tmp_path / "a_mask.png", TABLE[LABELS])
    examples = data.folder_pair(tmp_path, tmp_path, mask_suffix="_mask")
    examples = examples.with_masks(color_table=TABLE, remap={2: 255})
    expected = np.where(LABELS == 2, 255, LABELS)
    np.testing.assert_array_equal(examples.read(0)[1], expected)
    _, masks = next(iter(data.examples_dataset(examples, num_classes=2)))
    np.testing.assert_array_equal(masks[0], expected)
    # A new one is applied to the labels that there are.
    _, masks = next(iter(data.examples_dataset(examples, num_classes=2, remap={2: 1, 255: 0})))
    np.testing.assert_array_equal(masks[0], np.where(LABELS == 2, 0, LABELS))
    assert not data.check_examples(examples, 2).errors
    # A list in a file keeps it.
    data.write_list(tmp_path / "list.json", examples)
    found = data.list_file(tmp_path / "list.json")
    assert found.mask_format == examples.mask_format
    with pytest.raises(ValueError, match="read in different ways"):
        data.mix(found, found.with_masks(remap={1: 0}))


# === Black and white ===


def cats(folder, value=255, count=5):
    """A folder pair whose masks are 0 and another value; the truth as 0 and 1."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    truth = (LABELS == 1).astype(np.uint8)
    for number in range(count):
        saved(folder / f"images/{number}.png", np.full((*LABELS.shape, 3), 40 + number))
        saved(folder / f"masks/{number}.png", truth * value)
    return truth


@pytest.mark.parametrize(
    "mode", ["1", "L", "RGB", "RGBA", "LA", "P", "P of 2", "P without white", "red", "16 bits"]
)
def test_black_and_white_is_0_and_1(tmp_path, mode):
    truth = LABELS == 1
    path = tmp_path / "mask.png"
    if mode == "red":
        saved(path, np.where(truth[..., None], [200, 0, 0], [0, 0, 0]))
    elif mode == "16 bits":
        Image.fromarray(truth.astype(np.uint16) * 65535).save(path)
    elif mode.startswith("P"):  # White may come first, and a palette may be there in name only.
        black, palette = {
            "P": (9, [255] * 3 + [0] * 27),
            "P of 2": (1, [255] * 3 + [0] * 3),
            "P without white": (0, [0] * 6),
        }[mode]
        image = Image.fromarray(np.where(truth, 1 - min(black, 1), black).astype(np.uint8), "P")
        image.putpalette(palette)
        image.save(path)
    else:
        saved(path, truth * np.uint8(255), mode)
    np.testing.assert_array_equal(data.read_mask(path, binary=True), truth)


@pytest.mark.parametrize("value", [1, 128, 255])
def test_any_white_is_1(tmp_path, value):
    path = saved(tmp_path / "mask.png", (LABELS == 1) * value)
    np.testing.assert_array_equal(data.read_mask(path, binary=True), LABELS == 1)


def test_smoothed_and_compressed_black_and_white(tmp_path):
    white = Image.fromarray((LABELS == 1).astype(np.uint8) * 255)
    white.save(tmp_path / "mask.jpg", quality=60)
    np.testing.assert_array_equal(
        data.read_mask(tmp_path / "mask.jpg", binary=True),
        np.asarray(Image.open(tmp_path / "mask.jpg")) >= 128,
    )
    smooth = white.resize((110, 80), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(
        data.read_mask(tmp_path / "mask.png", binary=True), np.asarray(smooth) >= 128
    )


def test_binary_does_not_guess(tmp_path):
    path = saved(tmp_path / "mask.png", (LABELS == 1) * 38)
    with pytest.raises(ValueError, match=r"largest value here is 38. Pass remap=\{38: 1\}"):
        data.read_mask(path, binary=True)
    np.testing.assert_array_equal(data.read_mask(path, remap={38: 1}), LABELS == 1)


def test_readers_notice_masks_of_0_and_255(tmp_path):
    truth = cats(tmp_path / "cats")
    examples = data.folder_pair(tmp_path / "cats/images", tmp_path / "cats/masks")
    text = r"the masks hold only 0 and 255, and 255 is ignored: class 1 never occurs.*binary=True"
    with pytest.warns(data.DataNotice, match=text):
        data.examples_dataset(examples, num_classes=2)
    with pytest.warns(data.DataNotice, match=text):
        data.write_records(examples, tmp_path / "records", num_classes=2)
    report = data.check_examples(examples, 2)
    assert any(re.search(text, warning) for warning in report.warnings)
    _, masks = next(iter(data.examples_dataset(examples, num_classes=2, binary=True)))  # Not a word.
    np.testing.assert_array_equal(masks[0], truth)
    assert not data.check_examples(examples.with_masks(binary=True), 2).warnings


def test_readers_notice_a_class_that_may_be_the_ignored_one(tmp_path):
    cats(tmp_path / "cats")
    for number in range(5):
        saved(tmp_path / f"cats/masks/{number}.png", np.where(LABELS == 2, 255, LABELS))
    examples = data.folder_pair(tmp_path / "cats/images", tmp_path / "cats/masks", class_names="abc")
    share = (LABELS == 2).mean()
    text = (
        rf"{share:.0%} of the pixels are ignored \(255\), and class 2 \(c\) never occurs.*remap=\{{255: 2\}}"
    )
    with pytest.warns(data.DataNotice, match=text):
        data.examples_dataset(examples, num_classes=3)
    data.examples_dataset(examples, num_classes=3, remap={255: 2})
    data.examples_dataset(examples, num_classes=2)  # No class is missing.
    masks = np.full(LABELS.shape, 0)  # Few ignored pixels: a class may well be rare.
    masks[0] = 255
    masks[4] = 1
    for number in range(5):
        saved(tmp_path / f"cats/masks/{number}.png", masks)
    data.examples_dataset(examples, num_classes=3)
