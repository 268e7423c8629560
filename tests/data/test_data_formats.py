"""Images and masks in other formats than JPEG and PNG, and of more than eight bits."""

import io

import numpy as np
import pytest

pytestmark = pytest.mark.backend_independent

tf = pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")
cv2 = pytest.importorskip("cv2")

from keras_exfuse import data  # noqa: E402
from keras_exfuse.data import reading  # noqa: E402
from keras_exfuse.data.decoding import EncodedImage  # noqa: E402

LABELS = np.random.default_rng(0).integers(0, 3, (8, 11)).astype(np.uint8).repeat(5, 0).repeat(5, 1)


def photograph(size=(37, 51)):
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.stack([rows * 5, columns * 4, (rows + columns) * 2], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("webp", {"lossless": True}),
        ("bmp", {}),
        ("tiff", {}),
        ("tif", {"compression": "tiff_lzw"}),
        ("ppm", {}),
        ("jp2", {}),
        ("qoi", {}),
        ("gif", {}),
        ("jfif", {}),
        ("webp", {"quality": 60}),
        ("avif", {}),
    ],
)
def test_every_format_equals_pillow(tmp_path, suffix, options):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(photograph()).save(path, **options)
    expected = np.asarray(Image.open(path).convert("RGB"))
    assert f".{suffix}" in reading.IMAGE_SUFFIXES
    np.testing.assert_array_equal(data.read_image(path), expected)
    np.testing.assert_array_equal(reading.decode_image(path.read_bytes(), path), expected)
    assert reading.file_problem(path) is None
    assert np.abs(expected.astype(int) - photograph()).mean() < 12


def test_of_a_film_the_first_image_counts(tmp_path):
    frames = [Image.fromarray(photograph() // n) for n in (1, 2)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    first = np.asarray(Image.open(tmp_path / "film.gif").convert("RGB"))
    np.testing.assert_array_equal(data.read_image(tmp_path / "film.gif"), first)


def test_formats_that_start_programs_are_refused(tmp_path):
    path = tmp_path / "image.eps"
    Image.fromarray(photograph()).save(path)
    text = r"image\.eps: cannot be decoded, .*\(expected JPEG, PNG, TIFF"
    with pytest.raises(ValueError, match=text):
        data.read_image(path)
    assert "expected JPEG" in reading.file_problem(path)


# === More than eight bits ===


@pytest.mark.parametrize("bits", [8, 9, 10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_the_upper_eight_of_the_bits_in_use_are_kept(tmp_path, bits, channels, suffix):
    wide = np.random.default_rng(bits).integers(0, 2**bits, (8, 9, channels)).astype(np.uint16)
    wide[0, 0] = 2**bits - 1
    path = tmp_path / f"wide.{suffix}"
    cv2.imwrite(str(path), wide)  # Pillow does not write such files; OpenCV turns BGR around.
    expected = (wide if channels == 1 else wide[..., 2::-1]) >> (bits - 8)
    expected = np.broadcast_to(expected, (8, 9, 3))
    np.testing.assert_array_equal(data.read_image(path), expected)
    np.testing.assert_array_equal(reading.decode_image(path.read_bytes(), path), expected)
    if suffix == "png":
        np.testing.assert_array_equal(EncodedImage(path.read_bytes()).whole(), expected)


def test_a_range_that_is_given_holds_for_every_image(tmp_path):
    wide = np.array([[0, 100, 600, 1100, 4000]], np.uint16)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    found = data.read_image(tmp_path / "wide.png", value_range=(100, 1100))
    assert found[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    with pytest.raises(ValueError, match=r"value_range must be \(black, white\)"):
        data.read_image(tmp_path / "wide.png", value_range=(5, 5))


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("photometric", ["minisblack", "rgb"])
def test_tiff_of_one_to_four_bands(tmp_path, bands, kind, photometric):
    """As scanners, microscopes and satellites write them."""
    tifffile = pytest.importorskip("tifffile")
    if photometric == "rgb" and bands < 3:
        return
    values = (
        np.random.default_rng(0).integers(0, np.iinfo(kind).max, (8, 9, bands), endpoint=True).astype(kind)
    )
    values[0, 0] = np.iinfo(kind).max
    path = tmp_path / "bands.tif"
    options = {"photometric": photometric} | ({"planarconfig": "contig"} if bands > 1 else {})
    tifffile.imwrite(path, values if bands > 1 else values[..., 0], **options)
    expected = values[..., :3] if bands > 2 else values[..., :1].repeat(3, axis=-1)
    expected = (expected >> (8 * np.dtype(kind).itemsize - 8)).astype(np.uint8)
    np.testing.assert_array_equal(data.read_image(path), expected)
    np.testing.assert_array_equal(reading.decode_image(path.read_bytes(), path), expected)


def test_floats_and_values_below_0_need_a_range(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    values = np.array([[-1, 0, 0.5, 1]], np.float32)
    tifffile.imwrite(tmp_path / "float.tif", values)
    with pytest.raises(
        ValueError, match=r"float\.tif: holds floating-point numbers, -1 to 1;.*value_range=\(0, 1\)"
    ):
        data.read_image(tmp_path / "float.tif")
    found = data.read_image(tmp_path / "float.tif", value_range=(0, 1))
    assert found[0, :, 0].tolist() == [0, 0, 128, 255]
    values[0, 0] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", values)
    with pytest.raises(ValueError, match=r"nan\.tif: holds NaN"):
        data.read_image(tmp_path / "nan.tif", value_range=(0, 1))
    tifffile.imwrite(tmp_path / "signed.tif", np.array([[-5, 300]], np.int16))
    with pytest.raises(ValueError, match=r"signed\.tif: holds values below 0, -5 to 300"):
        data.read_image(tmp_path / "signed.tif")


def test_a_tiff_is_turned_as_its_orientation_says(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    for kind in (np.uint8, np.uint16):
        values = photograph().astype(kind) * (1 if kind == np.uint8 else 257)
        tifffile.imwrite(
            tmp_path / "turned.tif", values, photometric="rgb", extratags=[(274, "H", 1, 6, True)]
        )
        np.testing.assert_array_equal(data.read_image(tmp_path / "turned.tif"), np.rot90(photograph(), -1))


# === Masks, and folders ===


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mask.tif", {}),
        ("mask.tif", {"compression": "tiff_lzw"}),
        ("mask.bmp", {}),
        ("mask.gif", {}),
        ("mask.webp", {"lossless": True}),
        ("mask.pgm", {}),
    ],
)
def test_masks_in_other_lossless_formats(tmp_path, name, options):
    Image.fromarray(LABELS).save(tmp_path / name, **options)
    np.testing.assert_array_equal(data.read_mask(tmp_path / name), LABELS)


@pytest.mark.parametrize("mode", ["P", "1", "RGB", "I;16"])
def test_tiff_masks_of_every_mode(tmp_path, mode):
    labels = np.minimum(LABELS, 1) if mode == "1" else LABELS
    image = Image.fromarray(labels)
    if mode == "P":
        image.putpalette(data.voc_palette().tobytes())
    elif mode == "1":
        image = image.point(lambda value: 255 * value).convert("1")
    elif mode == "RGB":
        image = Image.fromarray(data.voc_palette()[labels])
    else:
        image = Image.fromarray(labels.astype(np.uint16))
    image.save(tmp_path / "mask.tif")
    np.testing.assert_array_equal(data.read_mask(tmp_path / "mask.tif"), labels)


@pytest.mark.parametrize(
    ("name", "options"), [("a.tif", {"compression": "jpeg"}), ("a.webp", {"quality": 80})]
)
def test_lossy_kinds_of_those_formats_are_refused(tmp_path, name, options):
    Image.fromarray(LABELS).save(tmp_path / name, **options)
    with pytest.raises(ValueError, match="must be PNG or another lossless format"):
        data.read_mask(tmp_path / name)


def test_a_folder_of_tiff_and_webp_is_a_folder_of_images(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
    for name, mask in (("a.tiff", "a.tif"), ("b.WEBP", "b.bmp"), ("c.jfif", "c.png")):
        Image.fromarray(photograph(LABELS.shape)).save(tmp_path / "x" / name)
        Image.fromarray(LABELS).save(tmp_path / "y" / mask)
    (tmp_path / "x/notes.txt").write_text("")
    examples = data.folder_pair(tmp_path / "x", tmp_path / "y")
    said = "Passed over, by the ends of their names: notes.txt."
    assert said in str(examples) and said in data.check_examples(examples, 3).warnings
    assert examples.names == ("a", "b", "c") and examples.masks[2].endswith("c.png")
    examples = data.folder_pair(tmp_path / "x", tmp_path / "y")
    _, masks = next(iter(data.examples_dataset(examples, num_classes=3)))
    np.testing.assert_array_equal(masks, [LABELS] * 3)


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    (tmp_path / "x").mkdir()
    for name in ("a.npy", "b.npy", "c.xml", "d.xml"):
        (tmp_path / "x" / name).write_bytes(b"")
    text = r"x: the folder holds no image\. Passed over, by the ends of their names: a\.npy, b\.npy, c\.xml and 1 more"
    with pytest.raises(ValueError, match=text):
        data.folder_pair(tmp_path / "x", tmp_path / "x")


def test_bytes_of_a_tiff_that_breaks_off(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(photograph()).save(stream, "TIFF")
    (tmp_path / "half.tif").write_bytes(stream.getvalue()[:1000])
    with pytest.raises(ValueError, match=r"half\.tif: cannot be decoded"):
        data.read_image(tmp_path / "half.tif")


def test_a_range_belongs_to_the_examples(tmp_path):
    for folder, pixels in (("x", LABELS.astype(np.uint16) * 500), ("y", LABELS)):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / folder / "a.png")
    examples = data.folder_pair(tmp_path / "x", tmp_path / "y").with_range((0, 2000))
    expected = np.floor(LABELS * 63.75 + 0.5)
    assert "images read from 0 (black) to 2000 (white)" in str(examples)
    data.write_list(tmp_path / "list.json", examples)
    for each in (examples, data.list_file(tmp_path / "list.json"), examples[:1]):
        np.testing.assert_array_equal(each.read(0)[0][..., 0], expected)
        images, _ = next(iter(data.examples_dataset(each, num_classes=3)))
        np.testing.assert_array_equal(images[0, ..., 0], expected)
    images, _ = next(iter(data.examples_dataset(examples, num_classes=3, value_range=(0, 1000))))
    np.testing.assert_array_equal(images[0, ..., 0], np.floor(LABELS * 127.5 + 0.5))
    with pytest.raises(ValueError, match="a range of values, color tables"):
        data.write_records(examples, tmp_path / "records", num_classes=3, pixels="encoded")
