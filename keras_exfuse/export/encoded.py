"""In a TensorFlow graph: files of images to PNG files of their labels, with checks that name what is wrong.

The checks come before any decoding: a PNG of a few kilobytes can unfold to gigabytes of pixels, and its header
says so. A server hands their texts to the client.
"""

from collections.abc import Callable
from typing import Any

from keras_exfuse._constants import STRIDE
from keras_exfuse._optional import require
from keras_exfuse.data.decoding import EncodedImage

PNG_START = b"\x89PNG\r\n\x1a\n"
JPEG_START = b"\xff\xd8\xff"
# A PNG's signature and header chunk take 33 bytes.
SHORTEST = 33


def label_files(files: Any, label: Callable[[Any], Any], max_pixels: int) -> Any:
    """Label each image of a batch at its own size.

    All are checked first. Then they go through one after another, so that the memory is that of one image.

    Args:
        files: String tensor (B,), contents of JPEG or PNG files of any sizes.
        label: From uint8 images (1, H, W, 3) to labels (1, H, W), uint8 or uint16.
        max_pixels: Batches with more pixels, each image padded, are refused before anything is decoded.

    Returns:
        String tensor (B,): a gray PNG of labels for each, 8 bits, or 16 above 255 classes.
    """
    tf = require("tensorflow", extra="export")
    numbers = tf.range(tf.size(files))
    pixels = tf.map_fn(
        lambda numbered: pixels_of_file(numbered[1], numbered[0], max_pixels),
        (numbers, files),
        fn_output_signature=tf.int64,
        parallel_iterations=1,
    )
    text = (
        f"too many pixels: this server takes up to {max_pixels} pixels a request, each image with its sides rounded up "
        f"to multiples of {STRIDE}. Pixels and images are"
    )
    total = tf.reduce_sum(pixels)
    with tf.control_dependencies([_check(total <= max_pixels, [text, total, tf.size(files)])]):
        files = tf.identity(files)

    def label_file(content: Any) -> Any:
        return tf.io.encode_png(label(EncodedImage(content).whole()[None])[0, :, :, None])

    return tf.map_fn(label_file, files, fn_output_signature=tf.string, parallel_iterations=1)


def pixels_of_file(content: Any, number: Any, max_pixels: int) -> Any:
    """The pixels that are computed for one file, from its header; or fail with a text that says what is wrong.

    Args:
        content: Scalar string tensor.
        number: Its place in the batch, for the text.
        max_pixels: As in `label_files`.

    Returns:
        int64 scalar.
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
        size = tf.cast(EncodedImage(tf.identity(content)).size(), tf.int64)
    return checked_pixels(tf.constant(1, tf.int64), size, max_pixels, place)


def checked_pixels(batch: Any, size: Any, max_pixels: int, place: list[Any]) -> Any:
    """In graph: the pixels that are computed for a batch of images of one size; fails unless they are 1 to the limit.

    Args:
        batch: int64 scalar.
        size: int64 (2,), height and width.
        max_pixels: The limit.
        place: What follows in the text.
    """
    tf = require("tensorflow", extra="export")
    # A PNG states its sides in 32 bits, the largest of which read as negative.
    height, width = size[0], size[1]
    # Each alone first: the product of three sides could pass 64 bits.
    fits = (batch > 0) & (height > 0) & (width > 0)
    fits &= (batch <= max_pixels) & (height <= max_pixels) & (width <= max_pixels)
    padded = (size + STRIDE - 1) // STRIDE * STRIDE
    pixels = padded[0] * padded[1]
    fits &= (pixels <= max_pixels) & (batch * tf.minimum(pixels, max_pixels) <= max_pixels)
    text = (
        f"too many pixels, or none: this server takes 1 to {max_pixels} pixels a request, sides rounded up to "
        f"multiples of {STRIDE}. Images, height and width are"
    )
    with tf.control_dependencies([_check(tf.reduce_all(fits), [text, batch, height, width, *place])]):
        return tf.identity(batch * pixels)


def _check(condition: Any, text: list[Any]) -> Any:
    """`tf.debugging.Assert` would wrap each check into a conditional, which makes a graph slow to load."""
    tf = require("tensorflow", extra="export")
    return tf.raw_ops.Assert(condition=condition, data=[tf.convert_to_tensor(part) for part in text])


def _contains(content: Any, part: Any) -> Any:
    tf = require("tensorflow", extra="export")
    pieces = tf.raw_ops.StringSplitV2(input=content[None], sep=part, maxsplit=1).values
    return tf.size(pieces) > 1
