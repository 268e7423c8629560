"""In a TensorFlow graph: files of images to PNG files of their labels, with checks that name what is wrong.

The checks come before any decoding: a PNG of a few kilobytes can unfold to gigabytes of pixels, and its header
says so. A server hands their texts to the client.
"""

from collections.abc import Callable
from typing import Any

from keras_exfuse._optional import require
from keras_exfuse.data.decoding import EncodedImage

PNG_START = b"\x89PNG\r\n\x1a\n"
JPEG_START = b"\xff\xd8\xff"
# A PNG's signature and header chunk take 33 bytes.
SHORTEST = 33


def label_files(files: Any, label: Callable[[Any], Any], max_pixels: int) -> Any:
    """Label each image of a batch at its own size.

    They go through one after another, so that the memory of one image of `max_pixels` bounds that of a batch.

    Args:
        files: String tensor (B,), contents of JPEG or PNG files of any sizes.
        label: From uint8 images (1, H, W, 3) to labels (1, H, W), uint8 or uint16.
        max_pixels: Images with more are refused before they are decoded.

    Returns:
        String tensor (B,): a gray PNG of labels for each, 8 bits, or 16 above 255 classes.
    """
    tf = require("tensorflow", extra="export")

    def label_file(numbered: tuple[Any, Any]) -> Any:
        number, content = numbered
        image = decode_checked(content, number, max_pixels)
        return tf.io.encode_png(label(image[None])[0, :, :, None])

    return tf.map_fn(
        label_file, (tf.range(tf.size(files)), files), fn_output_signature=tf.string, parallel_iterations=1
    )


def decode_checked(content: Any, number: Any, max_pixels: int) -> Any:
    """Decode one file as `keras_exfuse.data.read_image` does, or fail with a text that says what is wrong.

    Args:
        content: Scalar string tensor.
        number: Its place in the batch, for the text.
        max_pixels: As in `label_files`.

    Returns:
        uint8 (H, W, 3), turned as its EXIF orientation says.
    """
    tf = require("tensorflow", extra="export")
    place = ["in image", number, "of the batch (counted from 0)"]
    length = tf.strings.length(content)
    is_png = tf.strings.substr(content, 0, 8) == PNG_START
    is_jpeg = tf.strings.substr(content, 0, 3) == JPEG_START
    with tf.control_dependencies([_check(length > 0, ["empty: there are no bytes", *place])]):
        known = _check(
            is_png | is_jpeg,
            ["not an image: expected the bytes of a JPEG or PNG file", *place, length, "bytes"],
        )
    # Told by what ends every such file, because the decoders only say "invalid".
    end = tf.where(is_png, tf.constant(b"IEND"), tf.constant(b"\xff\xd9"))
    with tf.control_dependencies([known]):
        whole = _check(
            (length > SHORTEST) & _contains(content, end),
            ["truncated: the file breaks off before its end", *place, length, "bytes"],
        )
    with tf.control_dependencies([whole]):
        image = EncodedImage(tf.identity(content))
        size = tf.cast(image.size(), tf.int64)
    bounded = check_pixels(size, max_pixels, place)
    with tf.control_dependencies([bounded]):
        # A new object: what is made outside of this block would not wait for the check.
        return EncodedImage(tf.identity(content)).whole()


def check_pixels(size: Any, max_pixels: int, place: list[Any]) -> Any:
    """In graph: fail unless an image of this height and width (int64) may be labelled."""
    tf = require("tensorflow", extra="export")
    # A PNG states its sides in 32 bits, the largest of which read as negative.
    height, width = size[0], size[1]
    fits = (height > 0) & (width > 0) & (height <= max_pixels) & (width <= max_pixels)
    fits = fits & (height * width <= max_pixels)
    text = (
        f"too many pixels, or none: this server takes 1 to {max_pixels} pixels an image. Height and width are"
    )
    return _check(tf.reduce_all(fits), [text, height, width, *place])


def _check(condition: Any, text: list[Any]) -> Any:
    """`tf.debugging.Assert` would wrap each check into a conditional, which makes a graph slow to load."""
    tf = require("tensorflow", extra="export")
    return tf.raw_ops.Assert(condition=condition, data=[tf.convert_to_tensor(part) for part in text])


def _contains(content: Any, part: Any) -> Any:
    tf = require("tensorflow", extra="export")
    pieces = tf.raw_ops.StringSplitV2(input=content[None], sep=part, maxsplit=1).values
    return tf.size(pieces) > 1
