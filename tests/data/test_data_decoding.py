"""Files to pixels: the graph against pillow."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.backend_independent

tf = pytest.importorskip("tensorflow")
Image = pytest.importorskip("PIL.Image")

from keras_exfuse import data  # noqa: E402
from keras_exfuse.data import masks, reading  # noqa: E402
from keras_exfuse.data.decoding import (  # noqa: E402
    EncodedImage,
    decode_mask,
    voc_colors_to_labels,
)


def decode_image(content):
    return EncodedImage(content).whole()


def image_size(content):
    return EncodedImage(content).size()


def encoded(image, form, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def test_the_closed_form_is_exact_for_all_256_labels():
    palette = data.voc_palette()
    labels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(data.labels_from_voc_colors(palette), labels)
    np.testing.assert_array_equal(voc_colors_to_labels(palette), labels)
    # Pillow draws the 256 labels in their colors, TensorFlow decodes the colors, the closed form inverts them.
    image = Image.fromarray(labels.reshape(16, 16), "P")
    image.putpalette(palette.tobytes())
    colors = tf.io.decode_png(encoded(image, "PNG"), channels=3)
    np.testing.assert_array_equal(voc_colors_to_labels(colors), np.asarray(image))


def test_the_closed_form_refuses_every_color_next_to_the_map():
    """Of all colors one bit away from one of the map, those that are not in it are refused."""
    palette = data.voc_palette()
    known = {tuple(color) for color in palette.tolist()}
    near = {tuple((color ^ (np.eye(3, dtype=np.uint8)[c] << b)).tolist())
            for color in palette for c in range(3) for b in range(8)}  # fmt: skip
    assert len(near - known) > 1000
    wrong = np.array(sorted(near - known), np.uint8)
    for color in wrong[::97]:
        with pytest.raises(tf.errors.InvalidArgumentError, match="outside the VOC color map"):
            voc_colors_to_labels(color[None])
    right = np.array(sorted(near & known), np.uint8)
    np.testing.assert_array_equal(palette[voc_colors_to_labels(right)], right)


def test_the_palette_is_that_of_the_devkit(shared_data):
    mask = next((shared_data / "voc2012_devkit_sample/VOCdevkit/VOC2012/SegmentationClass").glob("*.png"))
    stored = np.array(Image.open(mask).getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(data.voc_palette(), stored)


@pytest.mark.parametrize("folder", ["voc2012_devkit_sample/VOCdevkit/VOC2012", "camvid"])
def test_masks_of_real_data_sets_equal_pillow(shared_data, folder):
    masks = sorted((shared_data / folder / "SegmentationClass").glob("*.png"))[:100]
    assert len(masks) >= 60
    decode = tf.function(decode_mask, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    for path in masks:
        expected = np.asarray(Image.open(path))
        np.testing.assert_array_equal(decode(path.read_bytes()), expected, err_msg=str(path))
        np.testing.assert_array_equal(data.read_mask(path), expected)
        if "devkit" in folder:  # The colors, through the closed form, say the same.
            colors = tf.io.decode_png(path.read_bytes(), channels=3)
            np.testing.assert_array_equal(voc_colors_to_labels(colors), expected)


@settings(max_examples=30, deadline=None)
@given(
    bits=st.sampled_from([1, 2, 4, 8]),
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    transparent=st.booleans(),
)
def test_any_palette_gives_its_indices(tmp_path_factory, bits, seed, size, transparent):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2**bits, size).astype(np.uint8)
    image = Image.fromarray(labels, "P")
    image.putpalette(random.integers(0, 4, 3 * 2**bits).astype(np.uint8).tobytes())  # Colors repeat.
    options = {"transparency": bytes([0] + [255] * (2**bits - 1))} if transparent else {}
    content = encoded(image, "PNG", bits=bits, **options)
    np.testing.assert_array_equal(decode_mask(content), labels)
    path = tmp_path_factory.mktemp("masks") / "mask.png"
    path.write_bytes(content)
    np.testing.assert_array_equal(data.read_mask(path), labels)


def test_a_png_without_filters_is_read_without_pillow_and_any_damage_leaves_it_to_pillow():
    labels = np.random.default_rng(3).integers(0, 21, (13, 17)).astype(np.uint8)
    image = Image.fromarray(labels, "P")
    image.putpalette(list(range(63)))
    content = encoded(image, "PNG")
    np.testing.assert_array_equal(masks.plain_png_values(content), labels)
    for length in range(len(content)):
        assert masks.plain_png_values(content[:length]) is None, length
    # Behind the signature and the header's length, every byte is under a checksum or is one.
    for place in range(12, len(content)):
        damaged = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        assert masks.plain_png_values(damaged) is None, place
    assert masks.plain_png_values(encoded(image, "PNG", compress_level=9, optimize=True)) is not None
    assert masks.plain_png_values(encoded(Image.fromarray(labels).convert("RGB"), "PNG")) is None


@pytest.mark.parametrize("size", [(13_400, 13_400), (2**31 - 1, 2**31 - 1), (2**32 - 1, 2**32 - 1)])
def test_a_png_that_says_it_is_huge_is_refused_by_name(tmp_path, size):
    path = tmp_path / "bomb.png"
    # The first one is as large as it says: 180 MB of zeros in 180 kB.
    path.write_bytes(png_of(size, 8, bytes(13_401) * 13_400 if size[0] == 13_400 else b"0"))
    assert masks.plain_png_values(path.read_bytes()) is None
    with pytest.raises(ValueError, match=r"bomb\.png: cannot be decoded"):
        data.read_mask(path)


def gray_png(labels: np.ndarray, bits: int) -> bytes:
    """A gray PNG with few bits, which pillow does not write."""
    packed = b""
    for row in labels:
        text = "".join(format(int(value), f"0{bits}b") for value in row)
        text += "0" * (-len(text) % 8)
        packed += b"\0" + bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
    return png_of(labels.shape, bits, packed)


def png_of(size: tuple[int, int], bits: int, packed: bytes) -> bytes:
    """A gray PNG out of its header's size and its rows."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", size[1], size[0], bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(packed)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_gray_masks_give_their_stored_values(tmp_path, bits):
    labels = np.random.default_rng(bits).integers(0, min(2**bits, 256), (9, 13))
    content = gray_png(labels, bits)
    np.testing.assert_array_equal(decode_mask(content), labels)
    path = tmp_path / "mask.png"
    path.write_bytes(content)
    np.testing.assert_array_equal(data.read_mask(path), labels)


def test_a_16_bit_label_over_255_is_refused(tmp_path):
    content = gray_png(np.full((4, 5), 300), 16)
    with pytest.raises(tf.errors.InvalidArgumentError, match="16-bit"):
        decode_mask(content)
    (tmp_path / "wide.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"wide\.png.*16-bit.*300"):
        data.read_mask(tmp_path / "wide.png")


def test_rgb_masks_by_the_voc_colors_and_by_a_table(tmp_path):
    labels = np.random.default_rng(0).integers(0, 256, (7, 11)).astype(np.uint8)
    table = np.random.default_rng(1).permutation(256)[:, None] * [1, 0, 0] + [0, 7, 9]
    for name, given_table, colors in (("voc", "voc", data.voc_palette()), ("own", table, table)):
        content = encoded(Image.fromarray(colors[labels].astype(np.uint8)), "PNG")
        np.testing.assert_array_equal(decode_mask(content, given_table), labels)
        path = tmp_path / f"{name}.png"
        path.write_bytes(content)
        np.testing.assert_array_equal(data.read_mask(path, given_table), labels)


def test_an_unknown_color_is_refused_and_named(tmp_path):
    colors = np.zeros((5, 6, 3), np.uint8)
    colors[3, 2] = 1, 2, 3
    path = tmp_path / "odd.png"
    Image.fromarray(colors).save(path)
    for table in ("voc", [[0, 0, 0], [9, 9, 9]]):
        table = table if isinstance(table, str) else np.array(table)
        with pytest.raises(ValueError, match=r"odd\.png.*\(1, 2, 3\) at \(3, 2\)"):
            data.read_mask(path, table)
        with pytest.raises(tf.errors.InvalidArgumentError, match="color"):
            decode_mask(path.read_bytes(), table)
    with pytest.raises(ValueError, match="color_table"):
        data.read_mask(path, None)


def photograph(size=(37, 51), seed=0) -> np.ndarray:
    """A smooth image with color, so that JPEG keeps it."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.stack([rows * 5, columns * 4, (rows + columns + seed) * 2], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        ("RGB", "JPEG"),
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
        ("RGB", "PNG"),
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("P", "PNG"),
        ("L", "PNG"),
        ("1", "PNG"),
    ],
)
def test_images_of_every_mode_equal_pillow(tmp_path, mode, form):
    image = Image.fromarray(photograph()).convert(mode)
    if "A" in mode:
        image.putalpha(Image.fromarray(photograph()[..., 0]))
    content = encoded(image, form)
    path = tmp_path / "image"
    path.write_bytes(content)
    expected = data.read_image(path)
    assert expected.shape == (37, 51, 3) and expected.dtype == np.uint8
    np.testing.assert_array_equal(decode_image(content), expected)
    np.testing.assert_array_equal(image_size(content), [37, 51])
    np.testing.assert_array_equal(reading.decode_image(content, path), expected)  # By OpenCV where it may.


def test_16_bit_images_keep_their_high_byte(tmp_path):
    wide = np.random.default_rng(0).integers(0, 65536, (8, 9)).astype(np.uint16)
    path = tmp_path / "wide.png"
    Image.fromarray(wide).save(path)
    expected = np.repeat((wide >> 8).astype(np.uint8)[..., None], 3, axis=-1)
    np.testing.assert_array_equal(data.read_image(path), expected)
    np.testing.assert_array_equal(decode_image(path.read_bytes()), expected)


@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colors_keep_their_high_byte(tmp_path, channels):
    cv2 = pytest.importorskip("cv2")  # Pillow does not write such files.
    wide = np.random.default_rng(0).integers(0, 65536, (8, 9, channels)).astype(np.uint16)
    path = tmp_path / "wide.png"
    cv2.imwrite(str(path), wide)
    expected = (wide[..., 2::-1] >> 8).astype(np.uint8)
    np.testing.assert_array_equal(data.read_image(path), expected)
    np.testing.assert_array_equal(decode_image(path.read_bytes()), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("big_endian", [False, True])
def test_exif_orientation_is_applied_as_pillow_does(tmp_path, orientation, big_endian):
    image = Image.fromarray(photograph())
    exif = Image.Exif()
    exif.endian = ">" if big_endian else "<"
    exif[0x010F] = "a maker"
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    path.write_bytes(encoded(image, "JPEG", quality=95, exif=exif))
    expected = data.read_image(path)
    assert expected.shape[:2] == ((37, 51) if orientation < 5 else (51, 37))
    np.testing.assert_array_equal(decode_image(path.read_bytes()), expected)
    np.testing.assert_array_equal(image_size(path.read_bytes()), expected.shape[:2])


def test_png_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.png"
    Image.fromarray(photograph()).save(path, exif=exif)
    expected = np.rot90(photograph(), -1)
    np.testing.assert_array_equal(data.read_image(path), expected)
    np.testing.assert_array_equal(decode_image(path.read_bytes()), expected)
    np.testing.assert_array_equal(image_size(path.read_bytes()), expected.shape[:2])
    np.testing.assert_array_equal(reading.decode_image(path.read_bytes(), path), expected)


def test_only_exif_turns_an_image_and_broken_exif_does_not(tmp_path):
    """Pillow also looks into XMP, which browsers, OpenCV and TensorFlow do not."""
    path = tmp_path / "described.jpg"
    for options in (
        {"xmp": b'<rdf:Description tiff:Orientation="6"/>'},
        {"exif": b"Exif\0\0nothing of the kind"},
        {"exif": b"Exif\0\0"},
        {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0"},  # 99
    ):
        path.write_bytes(encoded(Image.fromarray(photograph()), "JPEG", quality=95, **options))
        expected = np.asarray(Image.open(path))
        np.testing.assert_array_equal(data.read_image(path), expected)
        np.testing.assert_array_equal(reading.decode_image(path.read_bytes(), path), expected)
        np.testing.assert_array_equal(decode_image(path.read_bytes()), expected)


def test_a_jpeg_with_more_images_in_it_is_its_first(tmp_path):
    """MPO, as telephones and stereo cameras write it under the name .jpg."""
    path = tmp_path / "telephone.jpg"
    others = [Image.fromarray(photograph(seed=9))]
    Image.fromarray(photograph()).save(path, "MPO", save_all=True, append_images=others)
    expected = decode_image(path.read_bytes())
    assert np.abs(expected.numpy().astype(int) - photograph()).mean() < 8
    np.testing.assert_array_equal(data.read_image(path), expected)
    np.testing.assert_array_equal(reading.decode_image(path.read_bytes(), path), expected)


def test_images_of_real_data_sets_equal_pillow(shared_data):
    images = sorted((shared_data / "voc2012_devkit_sample/VOCdevkit/VOC2012/JPEGImages").glob("*.jpg"))
    decode = tf.function(decode_image, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    for path in images[:30]:
        np.testing.assert_array_equal(decode(path.read_bytes()), np.asarray(Image.open(path)))


def test_a_jpeg_mask_is_refused(tmp_path):
    path = tmp_path / "mask.png"
    path.write_bytes(encoded(Image.fromarray(photograph()[..., 0]), "JPEG"))
    with pytest.raises(ValueError, match="must be PNG"):
        data.read_mask(path)
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_mask(path.read_bytes())


def test_a_color_table_with_a_color_twice_is_refused():
    from keras_exfuse._palette import sorted_color_keys

    with pytest.raises(ValueError, match=r"\(1, 2, 3\) stands twice"):
        sorted_color_keys(np.array([[1, 2, 3], [4, 5, 6], [1, 2, 3]]))


def test_a_png_with_a_flipped_bit_is_refused(tmp_path):
    """Pillow does not look at the checksum of the pixels, and reads other labels."""
    labels = np.random.default_rng(0).integers(0, 21, (30, 40), "uint8")
    whole = encoded(Image.fromarray(labels, "L"), "PNG")
    path = tmp_path / "mask.png"
    start = whole.index(b"IDAT") + 4
    for position in range(start, len(whole) - 16, 23):  # Before the last chunk, IEND, and that checksum.
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        with pytest.raises(ValueError, match=r"mask\.png: (is damaged: the checksum|cannot be decoded)"):
            data.read_mask(path)
    path.write_bytes(whole)
    np.testing.assert_array_equal(data.read_mask(path), labels)
